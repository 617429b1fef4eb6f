"""Stage 5, continued: the candidate that passed, fitted once more on all labels, where declared.

The evaluation held out the newest block, from which the served model should learn as well. So the
same family with the same parameters, stopped where the candidate's fit stopped, is fitted on all
labels. It is a version of its own. Nothing is left to judge it on: the gates on scores are those of
the candidate, which its rows in `gate_results` name, those on columns and features are its own, and
so is the trial of its Bento. It scores the days after its last label only.
"""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product import evaluation
from mlops_assets.components.ml_product.evidence import recompute
from mlops_assets.components.ml_product.incumbent import known_version, last_outcomes
from mlops_assets.components.ml_product.origin import (
    FITTED_ON,
    REFIT,
    REFIT_OF,
    REFIT_SET,
    described,
)
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.ml_product.training import (
    DESCRIPTION,
    INPUTS,
    MODEL_FOLDER,
    fit_version,
    keep_model,
)
from mlops_assets.components.ml_product.training_set import (
    LABEL,
    keep_rows,
    labelled,
    labelled_rows,
    made_of,
    newest_labelled_day,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.families import FitOptions, Model, family, load_model
from mlops_assets.ml.gates import JUDGED, GateOutcome, sound_scores
from mlops_assets.ml.row_gates import known_in_time, same_schema
from mlops_assets.stores.bento_source import model_requirements
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion


def refit_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, of a product that declares `training.refit_on_all`."""

    @product.asset(
        REFIT,
        product.code_version(refit, product.training.refit_on_all),
        kinds=["mlflow"],
        description="The candidate that passed, fitted once more on all labels with the same"
        " parameters; what is promoted.",
        deps=[product.key(CANDIDATE), product.key(evaluation.NAME)],
        automation_condition=content_changed(product.table(evaluation.NAME), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models, run_id = lakehouse.store, registry.store, context.run.run_id
        record = store.scan(product.table(CANDIDATE)).collect().row(0, named=True)
        first = known_version(store, models, product.name, record["model_version"])
        version = _made_before(store, models, product, first)
        if version is None:
            version = refit(store, models, product, first, json.loads(record["params"]), run_id)
            _write(store, product, first, version, run_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(
                combine(model=version.digest, threshold=version.tags["threshold"])
            ),
            metadata={
                "model_version": version.version,
                "evaluated_version": first.version,
                "family": version.tags["family"],
                "cutoff": version.tags["cutoff"],
                "fitted_on": described(version),
                "mlflow_run": dg.MetadataValue.url(models.link(product.name, version.run_id)),
            },
        )

    return asset


def refit(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    first: ModelVersion,
    params: dict[str, Any],
    run_id: str,
) -> ModelVersion:
    """Fit the evaluated version's family on all labels, register it, and write its gates.

    Args:
        store: the lake.
        models: the registry.
        product: the declaration.
        first: the version that was evaluated.
        params: what it was fitted with.
        run_id: the Dagster run.
    """
    last = newest_labelled_day(store, product)
    rows = labelled_rows(store, product, None, last)
    pinned = keep_rows(store, product, REFIT_SET, rows, last, run_id)
    inputs, name = made_of(store, product, pinned, REFIT_SET), first.tags["family"]
    model = _fitted(models, product, first, params, rows)
    tags = {"product": product.name, "family": name, "role": REFIT, REFIT_OF: str(first.version),
            "code_version": fit_version(product, name), "materialized_by": run_id}  # fmt: skip
    parent = models.run_tagged(product.name, "dagster_run_id", run_id)
    with models.training_run(
        product.name, name=f"{name} on all labels", tags=tags, parent_run_id=parent
    ) as run:
        run.log_json(INPUTS, inputs)
        settings = {"threshold": first.tags["threshold"], "seed": product.training.seed}
        keep_model(run, model, params | settings)
    folder = models.run_files(run.run_id, MODEL_FOLDER)
    version = _registered(models, product, first, run, folder, rows, last, pinned)
    judge(store, models, product, first, version, run_id)
    return version


def _fitted(
    models: ModelRegistry,
    product: Product,
    first: ModelVersion,
    params: dict[str, Any],
    rows: pl.DataFrame,
) -> Model:
    """The same family with the same parameters, on all rows."""
    settings, chosen = product.training, family(first.tags["family"])
    # Without days to stop on, the fit goes as far as the evaluated one did.
    facts = models.run_json(first.run_id, DESCRIPTION)
    stopped = {name: value for name, value in facts.items() if name in params}
    options = FitOptions(settings.seed, settings.threads, settings.device)
    # With the classes that the evaluated one knows: a version of others would be another model.
    own = labelled(models.load(first).target, rows)
    return chosen.fit(own, None, product.columns, params | stopped, options)


def _registered(
    models: ModelRegistry,
    product: Product,
    first: ModelVersion,
    run: Any,
    folder: Path,
    rows: pl.DataFrame,
    last: date,
    pinned: int,
) -> ModelVersion:
    sample = rows.head(50).select(product.columns.names)
    kept = {k: first.tags[k] for k in ("family", "threshold", "baseline_run")}
    return models.register(
        run,
        product.name,
        folder,
        inputs=sample,
        outputs=load_model(folder).predict(sample),
        tags={
            **kept,
            "cutoff": last.isoformat(),
            "training_set_version": str(pinned),
            FITTED_ON: REFIT_SET,
            REFIT_OF: str(first.version),
        },
        pip_requirements=model_requirements(folder),
    )


def judge(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    first: ModelVersion,
    version: ModelVersion,
    run_id: str,
) -> None:
    """Write the gates of a refit: its own on columns and features, the evaluated version's else.

    Its scores are only asked to be probabilities: on rows that it knows, they say nothing more.
    """
    rows = evaluation.judged_rows(store, product, first, None)
    own = [
        same_schema(models.columns(version), product.columns),
        known_in_time(recompute(store, models, product, version, rows), rows.height),
        sound_scores(
            models.load(version).predict(rows), rows[LABEL], target=models.load(version).target
        ),
    ]
    found = _evaluated_gates(store, product, first) | {o.name: o for o in own}
    evaluation.write_outcomes(store, product, version, list(found.values()), run_id, REFIT)


def _evaluated_gates(
    store: Lakehouse, product: Product, first: ModelVersion
) -> dict[str, GateOutcome]:
    numbers = ("passed", "value", "limit", "margin", "low", "high", "rows")
    return {
        gate: GateOutcome(
            name=gate,
            **{name: row[name] for name in numbers},
            detail=f"version {first.version}, of which this is the refit: {row['detail']}",
        )
        for gate, row in last_outcomes(store, product.name, first).items()
        if gate in JUDGED
    }


def to_package(store: Lakehouse, models: ModelRegistry, product: Product) -> ModelVersion:
    """The version that is to be served: the candidate, or its refit where that is declared."""
    record = store.scan(product.table(CANDIDATE)).collect().row(0, named=True)
    first = known_version(store, models, product.name, record["model_version"])
    if not product.training.refit_on_all:
        return first
    version = _made_before(store, models, product, first)
    if version is None:
        raise dg.Failure(
            f"{product.name}: version {first.version} has not been fitted on all labels;"
            f" materialize {product.table(REFIT)} first",
            allow_retries=False,
        )
    return version


def _made_before(
    store: Lakehouse, models: ModelRegistry, product: Product, first: ModelVersion
) -> ModelVersion | None:
    """The newest refit of a version by the present code, so that a second run makes no other."""
    if not store.exists(product.table(REFIT)):
        return None
    of_it = store.scan(product.table(REFIT)).filter(
        pl.col("evaluated_digest") == first.digest,
        pl.col("code_version") == fit_version(product, first.tags["family"]),
    )
    numbers = of_it.sort("made_at").select("model_version").collect().to_series()
    return known_version(store, models, product.name, numbers[-1]) if len(numbers) else None


def _write(
    store: Lakehouse, product: Product, first: ModelVersion, version: ModelVersion, run_id: str
) -> None:
    row = {
        "evaluated_version": first.version,
        "evaluated_digest": first.digest,
        "model_version": version.version,
        "digest": version.digest,
        "cutoff": date.fromisoformat(version.tags["cutoff"]),
        "code_version": fit_version(product, version.tags["family"]),
        "made_at": datetime.now(UTC),
        "run_id": run_id,
    }
    store.append(product.table(REFIT), pl.DataFrame([row]), Commit(run_id=run_id, note=REFIT))
