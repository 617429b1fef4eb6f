"""Stage 6: the candidate as a Bento, built once for equal content, started and tried.

The trial is a gate: the running Bento answers real rows as the batch path does, or the check fails
and nothing downstream runs.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.evaluation import NAME as EVALUATION
from mlops_assets.components.ml_product.evaluation import judged_rows, write_outcomes
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.resources import (
    BentoStoreResource,
    LakehouseResource,
    ModelRegistryResource,
)
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.stores.bento_store import BentoBuild, BentoStore, RunningBento
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "bento"
GATE = "answers_as_batch"
TOLERANCE = 1e-6
"""Greatest difference of a probability; a row alone and in a batch may round differently."""
ROWS = 32


def build(
    bentos: BentoStore, models: ModelRegistry, product: Product, version: ModelVersion
) -> BentoBuild:
    """The Bento of a version; the same candidate and code give the same tag."""
    columns = product.columns
    contract = {
        "product": product.name,
        "model_version": str(version.version),
        "threshold": float(version.tags["threshold"]),
        "numeric": list(columns.numeric),
        "categorical": list(columns.categorical),
        "task": "binary",
    }
    labels = {"product": product.name, "model_version": str(version.version)} | {
        k: version.tags[k] for k in ("family", "cutoff", "training_set_version")
    }
    return bentos.build(
        name=product.name,
        model_folder=models.download(version),
        contract=contract,
        labels=labels | {"mlflow_run": version.run_id},
    )


def compare(bento: RunningBento, rows: pl.DataFrame, expected: np.ndarray) -> GateOutcome:
    """Ask the running Bento for the rows, and hold its answers against the batch path's."""
    answers = np.array(bento.predict(rows.fill_nan(None).to_dicts())["probabilities"])
    same_shape = answers.shape == expected.shape
    worst = float(np.max(np.abs(answers - expected))) if same_shape else float("inf")
    passed = same_shape and worst <= TOLERANCE
    return GateOutcome(
        name=GATE,
        passed=passed,
        value=worst,
        limit=TOLERANCE,
        margin=TOLERANCE - worst,
        low=None,
        high=None,
        rows=rows.height,
        detail=f"{rows.height} answers differ from the batch path by at most {worst:.2g}"
        f" (limit {TOLERANCE:g}); ready after {bento.startup_seconds:.1f} s",
    )


def bento_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with its trial as a blocking check."""
    key = product.key(NAME)

    @product.asset(
        NAME,
        product.code_version(build, product.columns),
        kinds=["bentoml"],
        description="The candidate as a Bento: built, started, and tried on real rows.",
        deps=[product.key(CANDIDATE), product.key(EVALUATION)],
        check_specs=[dg.AssetCheckSpec(GATE, asset=key, blocking=True)],
        automation_condition=content_changed(product.table(EVALUATION), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
        bentos: BentoStoreResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        record = store.scan(product.table(CANDIDATE)).collect().row(0, named=True)
        version = models.get(product.name, record["model_version"])
        built = build(bentos.store, models, product, version)
        rows = judged_rows(store, product, models, version).head(ROWS)
        features = rows.select(product.columns.names)
        with bentos.store.serve(built.tag) as running:
            outcome = compare(running, features, models.load(version).predict(features))
        write_outcomes(store, product, version, [outcome], context.run.run_id, NAME)
        row = {"tag": built.tag, "model_version": version.version, "path": str(built.path)}
        store.overwrite(product.table(NAME), pl.DataFrame([row]), Commit(run_id=context.run.run_id))
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(combine(tag=built.tag, passed=str(outcome.passed))),
            metadata={
                "tag": built.tag,
                "path": dg.MetadataValue.path(str(built.path)),
                "model_version": version.version,
                "built": built.created,
                "build_seconds": built.seconds,
                "startup_seconds": running.startup_seconds,
            },
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=GATE,
            passed=outcome.passed,
            description=outcome.detail,
            metadata={"value": outcome.value or 0.0, "limit": TOLERANCE, "rows": outcome.rows},
        )

    return asset
