"""Stage 6: the candidate as a Bento, built once for equal content, started and tried.

The trial is three gates: the running Bento answers real rows as the batch path does, within its
budget of time, and it is within its budget of size. Where a check fails nothing downstream runs.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.declaration import Serving
from mlops_assets.components.ml_product.evaluation import NAME as EVALUATION
from mlops_assets.components.ml_product.evaluation import (
    checks,
    judged_rows,
    rival,
    write_outcomes,
)
from mlops_assets.components.ml_product.origin import REFIT, evaluated
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.refit import to_package
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.resources import (
    BentoStoreResource,
    LakehouseResource,
    ModelRegistryResource,
)
from mlops_assets.ml.cost_gates import fast_enough, small_enough
from mlops_assets.ml.families import load_model
from mlops_assets.ml.gates import TRIED, GateOutcome
from mlops_assets.stores.bento_store import BentoBuild, BentoStore, RunningBento
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "bento"
TOLERANCE = 1e-6
"""Greatest difference of a probability; a row alone and in a batch may round differently."""
ROWS = 32
"""Rows whose answers are compared."""
BULK_ROWS = 512
"""Rows of a request that is timed; fewer where fewer were judged."""
ROUNDS, REQUESTS = 5, 10
"""Rounds of timed requests of one row, of which the quietest counts, and requests of each."""
LONGEST_SECONDS = 5.0
"""After which no further round begins; a model that is slow shows it in one."""


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
        name="answers_as_batch",
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


def time_requests(bento: RunningBento, rows: pl.DataFrame, budget: Serving) -> GateOutcome:
    """Time requests of one row, and of all rows at once, to a Bento that is warm."""
    bulk = rows.fill_nan(None).to_dicts()
    bento.predict(bulk)
    single: list[list[float]] = []
    many: list[float] = []
    end = time.perf_counter() + LONGEST_SECONDS
    while len(single) < ROUNDS and (not single or time.perf_counter() < end):
        single.append([_seconds(bento, bulk[:1]) for _ in range(REQUESTS)])
        many.append(_seconds(bento, bulk))
    return fast_enough(
        single,
        many,
        len(bulk),
        single_ms=budget.single_row_ms,
        bulk_row_ms=budget.bulk_row_ms,
    )


def try_out(
    bento: RunningBento,
    rows: pl.DataFrame,
    model_folder: Path,
    budget: Serving,
) -> list[GateOutcome]:
    """The gates on a running Bento, asked for real rows."""
    expected = load_model(model_folder).predict(rows.head(ROWS))
    files = sum(path.stat().st_size for path in model_folder.rglob("*") if path.is_file())
    return [
        compare(bento, rows.head(ROWS), expected),
        time_requests(bento, rows, budget),
        small_enough(
            files, bento.memory_bytes(), model_mb=budget.model_mb, server_mb=budget.server_mb
        ),
    ]


def bento_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with its trial as blocking checks."""
    key = product.key(NAME)
    last = REFIT if product.training.refit_on_all else EVALUATION

    @product.asset(
        NAME,
        product.code_version(build, product.columns, try_out, product.serving),
        kinds=["bentoml"],
        description="The candidate as a Bento: built, started, and tried on real rows.",
        deps=[product.key(name) for name in dict.fromkeys((CANDIDATE, EVALUATION, last))],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, blocking=True, description=says)
            for name, says in TRIED.items()
        ],
        automation_condition=content_changed(product.table(last), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
        bentos: BentoStoreResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        # What is promoted; the rows are those on which its evaluation judged.
        version = to_package(store, models, product)
        built = build(bentos.store, models, product, version)
        judged = evaluated(store, models, product, version)
        present = rival(store, models, product, judged)
        rows = judged_rows(store, product, judged, present).head(BULK_ROWS)
        features = rows.select(product.columns.names)
        with bentos.store.serve(built.tag) as running:
            outcomes = try_out(running, features, models.download(version), product.serving)
        write_outcomes(store, product, version, outcomes, context.run.run_id, NAME)
        row = {"tag": built.tag, "model_version": version.version, "path": str(built.path)}
        store.overwrite(product.table(NAME), pl.DataFrame([row]), Commit(run_id=context.run.run_id))
        passed = all(outcome.passed for outcome in outcomes)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(combine(tag=built.tag, passed=str(passed))),
            metadata={
                "tag": built.tag,
                "path": dg.MetadataValue.path(str(built.path)),
                "model_version": version.version,
                "built": built.created,
                "build_seconds": built.seconds,
                "startup_seconds": running.startup_seconds,
            },
        )
        yield from checks(key, TRIED, outcomes)

    return asset


def _seconds(bento: RunningBento, rows: list[dict[str, Any]]) -> float:
    started = time.perf_counter()
    bento.predict(rows)
    return time.perf_counter() - started
