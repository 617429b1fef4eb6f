"""Scoring from a Delta table to a Delta table, against the model alone and against a loop by hand.

Ours is `predict_days`, what the asset `predictions` runs: read block by block, content hash of each
day, probability, decision, id, one commit, content hash of what was written. The floor is the
model's own predict on rows that lie in memory, ready in single precision. By hand is the loop one
writes: read some days, predict, write key and probability with deltalake.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.data import days_of, lake, model, product, version
from benchmarks.measure import Case, Contender, Work
from mlops_assets.stores.lakehouse import Commit, Lakehouse

PREDICTIONS, VIEW = "flight_delays/predictions", "flight_delays/feature_view"
BLOCK = 131_072


def cases(quick: bool) -> list[Case]:
    """A small model, and the product's champion."""
    copies, rows, size = (2, 41_876, "42k rows") if quick else (30, 10_080_000, "10M rows")
    contenders = (
        Contender("ours", "ours"), Contender("predict", "bare_predict"),
        Contender("by hand", "by_hand", 0 if quick else 4),
    )  # fmt: skip
    shapes = {"small": "100 trees x 25", "champion": "champion x 63"}
    return [
        Case("scoring", f"{size}, {shape}", contenders,
             {"copies": copies, "features": features, "quick": quick},
             rounds=1 if quick else 2, repeats=1, rows=rows)
        for features, shape in shapes.items()
    ]  # fmt: skip


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    first: dict[str, Any] = {"quick": quick}
    sizes = [{k: v for k, v in c.arguments.items() if k != "quick"} for c in cases(quick)]
    return [("year", first), ("models", first), *(("large_view", size) for size in sizes)]


def ours(folder: str, copies: int, features: str, quick: bool) -> Work:
    """The product's own, without Dagster's run around it."""
    from mlops_assets.components.ml_product.scoring import predict_days

    store = Lakehouse(Path(folder) / f"view_{copies}_{features}")
    shutil.rmtree(store.location(PREDICTIONS), ignore_errors=True)
    declared, chosen = product(quick), model(folder, features)
    days = pl.date_range(days_of(quick)[0].replace(month=1, day=1), days_of(quick)[0], eager=True)

    def run() -> pl.LazyFrame:
        predict_days(store, declared, chosen, version(), days.to_list(), Commit())
        return store.scan(PREDICTIONS)

    return Work(run, _check)


def bare_predict(folder: str, copies: int, features: str, quick: bool) -> Work:
    """XGBoost alone: each copy has the features of the first, so one year in memory is all rows."""
    chosen = model(folder, features)
    view = lake(folder).scan(VIEW).select("date", *chosen.columns.names).collect()
    matrix = chosen.encoder.matrix(view, np.float32)
    del view
    blocks = [matrix[at : at + BLOCK] for at in range(0, len(matrix), BLOCK)]

    def run() -> float:
        total = 0.0
        for _ in range(copies):
            for block in blocks:
                found = chosen.booster.inplace_predict(block, missing=np.nan)
                total += float(found.sum(dtype=np.float64))
        return total

    return Work(run, lambda total: [total])


def by_hand(folder: str, copies: int, features: str, quick: bool) -> Work:
    """A loop over days, and deltalake's writer."""
    from deltalake import write_deltalake

    store = Lakehouse(Path(folder) / f"view_{copies}_{features}")
    place = Path(folder) / "by_hand"
    shutil.rmtree(place, ignore_errors=True)
    chosen = model(folder, features)
    view = store.scan(VIEW)
    keys = ["date", "carrier", "flight", "origin", "prediction_time"]

    def batches() -> Iterator[Any]:
        days = view.select("date").unique().sort("date").collect()["date"]
        for at in range(0, len(days), 5):
            rows = view.filter(
                pl.col("date").is_between(days[at], days[min(at + 4, len(days) - 1)])
            )
            part = rows.collect()
            probability = pl.Series("probability", chosen.predict(part))
            yield from part.select(*keys, probability).to_arrow().to_batches()

    def run() -> pl.LazyFrame:
        import pyarrow as pa

        found = batches()
        first = next(found)
        reader = pa.RecordBatchReader.from_batches(first.schema, _chain(first, found))
        write_deltalake(place, reader, mode="error", partition_by="date")
        return pl.scan_delta(str(place))

    return Work(run, _check)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _check(written: pl.LazyFrame) -> list[float]:
    return [float(written.select(pl.col("probability").sum()).collect().item())]
