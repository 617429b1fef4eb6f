"""The trial of a Bento: started as it will be served, asked as callers ask, judged on real rows.

The online store and the log of the trial are its own, made of the days of the rows. What is asked
are requests, not features: the Bento looks up and computes the rest, and that must be what the
batch path has.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.declaration import Serving
from mlops_assets.components.ml_product.online_features import read_online
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY
from mlops_assets.ml.cost_gates import fast_enough, small_enough
from mlops_assets.ml.families import load_model
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.ml.periods import day_of
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.ml.serving_gates import answers_as_batch, online_as_offline
from mlops_assets.ml.targets import Multiclass, Target
from mlops_assets.stores.bento_store import BentoStore, RunningBento
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.online_features import Spine
from mlops_assets.stores.online_snapshot import snapshot_of
from mlops_assets.stores.online_store import open_store
from mlops_assets.stores.request_log import closed_segments, read_segment

ROWS = 32
"""Rows whose answers are compared."""
BULK_ROWS = 512
"""Rows of a request that is timed, and whose features are compared; fewer where fewer are there."""
ROUNDS, REQUESTS = 5, 10
"""Rounds of timed requests of one row, of which the quietest counts, and requests of each."""
LONGEST_SECONDS = 5.0
"""After which no further round begins; a model that is slow shows it in one."""


def try_out(
    store: Lakehouse,
    bentos: BentoStore,
    tag: str,
    rows: pl.DataFrame,
    model_folder: Path,
    product: Product,
) -> tuple[list[GateOutcome], float]:
    """The gates on the Bento `tag`, and the seconds that it took to start.

    Args:
        store: the lake that the rows are of.
        bentos: where the Bento is.
        tag: which one.
        rows: judged rows of the feature view: entity keys and features.
        model_folder: the files of its model.
        product: whose.
    """
    contract = bentos.contract(tag)
    rows = rows.head(BULK_ROWS)
    requests = requests_of(store, contract, rows)
    model = load_model(model_folder)
    expected = model.predict(rows.head(ROWS))
    files = sum(path.stat().st_size for path in model_folder.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory(prefix="trial-") as scratch:
        environment = _prepare(store, product, contract, rows, Path(scratch))
        with bentos.serve(tag, environment) as bento:
            first = bento.predict_batch(requests)
            alone = [bento.predict(request) for request in requests[:ROWS]]
            costs = [
                time_requests(bento, requests, product.serving),
                small_enough(
                    files,
                    bento.memory_bytes(),
                    model_mb=product.serving.model_mb,
                    server_mb=product.serving.server_mb,
                ),
            ]
        used = _features(Path(scratch), product, [each["prediction_id"] for each in first])
    answers = _scores(alone, model.target)
    return [
        answers_as_batch(answers, expected, bento.startup_seconds, product.serving.device),
        online_as_offline(used, rows, product.columns),
        *costs,
    ], bento.startup_seconds


def requests_of(store: Lakehouse, contract: Contract, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """What a caller who knows no more than must be given asks for each row."""
    keys = list(contract.entity_keys)
    days = rows[DAY]
    spine = store.scan(contract.spine_table, first=days.min(), last=days.max())  # type: ignore[arg-type]
    found = rows.select(keys).lazy().join(spine, on=keys, how="left", maintain_order="left")
    asked = found.select(contract.spine_keys).collect()
    return [{name: _json(value) for name, value in row.items()} for row in asked.to_dicts()]


def time_requests(
    bento: RunningBento, requests: list[dict[str, Any]], budget: Serving
) -> GateOutcome:
    """Time requests of one row, and of all rows at once, to a Bento that is warm."""
    single: list[list[float]] = []
    many: list[float] = []
    end = time.perf_counter() + LONGEST_SECONDS
    while len(single) < ROUNDS and (not single or time.perf_counter() < end):
        single.append([_seconds(bento, "/predict", requests[0]) for _ in range(REQUESTS)])
        many.append(_seconds(bento, "/predict_batch", {"rows": requests}))
    return fast_enough(
        single,
        many,
        len(requests),
        single_ms=budget.single_row_ms,
        bulk_row_ms=budget.bulk_row_ms,
    )


def _prepare(
    store: Lakehouse, product: Product, contract: Contract, rows: pl.DataFrame, scratch: Path
) -> Mapping[str, str]:
    """Publish the days of the rows to a store of the trial's own; return the server's settings."""
    first, last = rows[DAY].min(), rows[DAY].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    spine = Spine(contract.spine_table, contract.spine_keys, contract.spine_columns)
    tables = snapshot_of(
        store,
        product.definitions,
        spine,
        product.partitions.of(day_of(first)),
        product.partitions.last_day(last),
        lead=product.lead,
        zone=product.days.timezone,
        periods=read_online(product),
    )
    uri = f"lmdb://{scratch / 'online'}"
    open_store(uri).publish(product.name, tables, datetime.now(UTC))
    return {
        "MLOPS_SERVE": "trial",
        "MLOPS_ONLINE_STORE": uri,
        "MLOPS_REQUEST_LOG": str(scratch / "requests"),
        "MLOPS_API_TOKENS": "",
        "MLOPS_BESIDE": "",
    }


def _features(scratch: Path, product: Product, asked: list[str]) -> pl.DataFrame:
    """The features of some predictions as the log has them, in the order asked for."""
    segments = closed_segments(scratch / "requests", product.name)
    log = pl.concat([read_segment(path).records for path in segments])
    types: dict[str, pl.DataType] = dict.fromkeys(product.columns.numeric, pl.Float64())
    types |= dict.fromkeys(product.columns.categorical, pl.String())
    return (
        pl.DataFrame({"prediction_id": asked})
        .join(log.select("prediction_id", "features"), on="prediction_id", maintain_order="left")
        .with_columns(pl.col("features").str.json_decode(pl.Struct(types)))
        .unnest("features")
    )


def _scores(answers: list[dict[str, Any]], target: Target) -> np.ndarray:
    """What a server answered, as the model's scores."""
    if isinstance(target, Multiclass):
        said = [[each["probabilities"].get(c, np.nan) for c in target.classes] for each in answers]
        return np.array(said)
    return np.array([each[target.answer] for each in answers])


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _seconds(bento: RunningBento, path: str, content: Any) -> float:
    started = time.perf_counter()
    bento.post(path, content)
    return time.perf_counter() - started
