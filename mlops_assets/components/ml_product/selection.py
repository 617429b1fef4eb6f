"""Stage 4: the leaderboard that compares the fits, and the candidate, its best family.

The choice rests on training and validation days alone; a day after the cut-off plays no part.
"""

from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product.incumbent import require_known_registry
from mlops_assets.components.ml_product.origin import FALLBACK, described
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training import MODEL_FOLDER, fit_name
from mlops_assets.components.ml_product.training_set import NAME
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.families import load_model
from mlops_assets.stores.bento_source import model_requirements
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

_NUMBERS = dict.fromkeys(("choice", "threshold"), pl.Float64)
"""What a candidate may lack: a baseline has no choice, and only a binary one a threshold."""

LEADERBOARD = "leaderboard"
CANDIDATE = "candidate"


def leaderboard_asset(product: Product) -> dg.AssetsDefinition:
    """All families and baselines on the same validation days, best first."""
    fits = [fit_name(f) for f in product.fits]

    @product.asset(
        LEADERBOARD,
        product.code_version(leaderboard, fits),
        description="All families and baselines on the validation days, best first.",
        deps=[product.key(f) for f in fits],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource
    ) -> dg.MaterializeResult[Any]:
        store = lakehouse.store
        board = leaderboard(store, product, fits)
        data_version = content_hash(board)
        commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
        version = store.overwrite(product.table(LEADERBOARD), board, commit)
        figures = product.target.main_figures
        shown = ["family", "role", "choice", *figures, "trials", "seconds", "left_out"]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                "leaderboard": table(
                    board.select(shown).with_columns(pl.selectors.float().round(4))
                ),
                "rows": board.height,
                "delta_version": version,
            },
        )

    return asset


def leaderboard(store: Lakehouse, product: Product, fits: list[str]) -> pl.DataFrame:
    """One row a fit, best first by `choice` (see `Fitted`), then baselines by their loss.

    A family that was left out has no figures, and says why in `left_out`.
    """
    rows = [store.scan(product.table(name)).collect() for name in fits]
    return pl.concat(rows, how="diagonal").sort("choice", "loss", "family", nulls_last=True)


def candidate_asset(product: Product) -> dg.AssetsDefinition:
    """The best family of the leaderboard, registered as a model version."""

    @product.asset(
        CANDIDATE,
        product.code_version(register, product.baselines),
        kinds=["mlflow"],
        description="The best family of the leaderboard, as a version in the model registry.",
        deps=[product.key(LEADERBOARD)],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store = lakehouse.store
        record, version = register(store, registry.store, product)
        data_version = combine(model=record["digest"], threshold=repr(record["threshold"]))
        commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
        row = pl.DataFrame([record], schema_overrides=_NUMBERS)
        store.overwrite(
            product.table(CANDIDATE), row.select(~pl.selectors.by_dtype(pl.Null)), commit
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                "model_version": record["model_version"],
                "family": record["family"],
                "fitted_on": described(version),
                "metric": record["loss"],
                "cutoff": record["cutoff"],
                "mlflow_run": dg.MetadataValue.url(
                    registry.store.link(product.name, record["run_id"])
                ),
            },
        )

    return asset


def register(
    store: Lakehouse, registry: ModelRegistry, product: Product
) -> tuple[dict[str, Any], ModelVersion]:
    """Register the best family; the same model again is the version that it already is.

    Of several baselines the best on the validation days counts. Where no family was fitted, for
    want of labels, it stands in, and its tag says why.

    Raises:
        dagster.Failure: the registry is not the one that the lake knows.
    """
    require_known_registry(store, registry, product.name)
    board = store.scan(product.table(LEADERBOARD)).collect()
    baseline = board.filter(pl.col("role") == "baseline").row(0, named=True)
    fitted = board.filter(pl.col("role") == "family", pl.col("left_out") == "")
    best = fitted.row(0, named=True) if fitted.height else baseline
    why = {} if fitted.height else {FALLBACK: str(board["left_out"].max())}
    sample = (
        store.scan(product.table(NAME), version=best["training_set_version"]).head(50).collect()
    )
    features = sample.select(product.columns.names)
    folder = registry.run_files(best["run_id"], MODEL_FOLDER)
    version = registry.register(
        registry.open(product.name, best["run_id"]),
        product.name,
        folder,
        inputs=features,
        outputs=load_model(folder).predict(features),
        tags={
            "family": best["family"],
            "threshold": repr(best["threshold"]),
            "cutoff": best["cutoff"],
            "training_set_version": str(best["training_set_version"]),
            "baseline_run": baseline["run_id"],
            **why,
        },
        pip_requirements=model_requirements(folder),
    )
    record = best | {"model_version": version.version, "baseline_run": baseline["run_id"]}
    return record, version
