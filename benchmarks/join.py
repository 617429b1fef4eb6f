"""The point-in-time join: two trailing windows and the latest weather, against what does the same.

Ours is `ml.point_in_time.join_all`, as the feature view uses it. Bare polars is what one writes by
hand: sums accumulated once, an as-of join a window. DuckDB does it in one statement with ASOF
joins, pandas with merge_asof. Reading the tables is not timed.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.measure import THREADS, Case, Contender, Work

WINDOWS = {"24h": timedelta(hours=24), "7d": timedelta(days=7)}
RATIOS = {
    "late_rate": ("late_arrivals", "arrivals"),
    "arrival_delay": ("arrival_delay", "arrivals"),
}
SUMS = ["late_arrivals", "arrivals", "arrival_delay"]
READINGS = ["temperature_f", "wind_speed_mph"]
KEYS = ["carrier", "origin"]
TTL = timedelta(hours=6)
FEATURES = [f"carrier_origin_{s}_{w}" for w in WINDOWS for s in RATIOS] + READINGS


def cases(quick: bool) -> list[Case]:
    """Three sizes."""
    found = []
    sizes = {1: "21k rows"} if quick else {1: "0.34M rows", 10: "3.4M rows", 30: "10M rows"}
    for copies, size in sizes.items():
        gb = 0.3 * copies
        contenders = (
            Contender("ours", "ours", gb), Contender("polars", "bare_polars", gb),
            Contender("DuckDB", "duckdb_asof", gb), Contender("pandas", "pandas_asof", 1.5 * gb),
        )  # fmt: skip
        rounds, repeats = (1, 1) if quick else {1: (3, 3), 10: (2, 2), 30: (2, 1)}[copies]
        found.append(Case("join", size, contenders, {"copies": copies}, rounds, repeats))
    return found


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    year: dict[str, Any] = {"quick": quick}
    return [("year", year), *(("join_tables", dict(c.arguments)) for c in cases(quick))]


def ours(folder: str, copies: int) -> Work:
    """The product's own."""
    from mlops_assets.ml.point_in_time import Latest, Trailing, join_all

    spine, delays, weather = _tables(folder, copies)
    trailing = Trailing(tuple(KEYS), "carrier_origin", RATIOS, WINDOWS)
    latest = Latest(("origin",), {name: name for name in READINGS}, TTL)
    return Work(
        lambda: join_all(spine, [(delays.lazy(), trailing), (weather.lazy(), latest)]), _check
    )


def bare_polars(folder: str, copies: int) -> Work:
    """By hand."""
    spine, delays, weather = _tables(folder, copies)

    def run() -> pl.DataFrame:
        series = delays.sort("available_at").with_columns(pl.col(SUMS).cum_sum().over(KEYS))
        rows = spine.sort("prediction_time")
        as_of: Any = {"right_on": "available_at", "check_sortedness": False}
        now = rows.join_asof(series, left_on="prediction_time", by=KEYS, **as_of)
        columns = [rows]
        for label, window in WINDOWS.items():
            begin = rows.with_columns(pl.col("prediction_time") - window)
            before = begin.join_asof(series, left_on="prediction_time", by=KEYS, **as_of)
            within = now.select(pl.col(SUMS).fill_null(0)) - before.select(
                pl.col(SUMS).fill_null(0)
            )
            columns.append(
                within.select(
                    pl.when(pl.col(below) > 0)
                    .then(pl.col(above) / pl.col(below))
                    .alias(f"carrier_origin_{stem}_{label}")
                    for stem, (above, below) in RATIOS.items()
                )
            )
        sky = weather.sort("available_at")
        known = rows.join_asof(sky, left_on="prediction_time", by="origin", **as_of)
        fresh = pl.col("prediction_time") - pl.col("event_time") <= TTL
        columns.append(known.select(pl.when(fresh).then(pl.col(c)).alias(c) for c in READINGS))
        return pl.concat(columns, how="horizontal").sort("row")

    return Work(run, _check)


def duckdb_asof(folder: str, copies: int) -> Work:
    """One statement."""
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS})
    for name, table in zip(("spine", "delays", "weather"), _tables(folder, copies), strict=True):
        connection.register("given", table.to_arrow())
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    sums = ", ".join(
        f"CAST(sum({c}) OVER (PARTITION BY carrier, origin ORDER BY available_at) AS BIGINT) AS {c}"
        for c in SUMS
    )
    hours = {label: int(window.total_seconds() // 3600) for label, window in WINDOWS.items()}
    joins = "".join(
        f" ASOF LEFT JOIN series AS w{label} ON s.carrier = w{label}.carrier AND"
        f" s.origin = w{label}.origin AND"
        f" s.prediction_time - INTERVAL {n} HOUR >= w{label}.available_at"
        for label, n in hours.items()
    )
    features = ", ".join(
        f"CASE WHEN {_within(below, label)} > 0 THEN"
        f" CAST({_within(above, label)} AS DOUBLE) / {_within(below, label)} END"
        f" AS carrier_origin_{stem}_{label}"
        for label in WINDOWS
        for stem, (above, below) in RATIOS.items()
    )
    readings = ", ".join(
        f"CASE WHEN s.prediction_time - k.event_time <= INTERVAL 6 HOUR THEN k.{c} END AS {c}"
        for c in READINGS
    )
    statement = (
        f"WITH series AS (SELECT carrier, origin, available_at, {sums} FROM delays)"
        f" SELECT s.row, {features}, {readings} FROM spine AS s"
        " ASOF LEFT JOIN series AS n ON s.carrier = n.carrier AND s.origin = n.origin"
        f" AND s.prediction_time >= n.available_at{joins}"
        " ASOF LEFT JOIN weather AS k ON s.origin = k.origin AND"
        " s.prediction_time >= k.available_at"
    )
    return Work(lambda: connection.execute(statement).to_arrow_table(), _check)


def _within(column: str, label: str) -> str:
    return f"(coalesce(n.{column}, 0) - coalesce(w{label}.{column}, 0))"


def pandas_asof(folder: str, copies: int) -> Work:
    """merge_asof, a window at a time."""
    import pandas as pd

    spine, delays, weather = (table.to_pandas() for table in _tables(folder, copies))

    def run() -> pd.DataFrame:
        series = delays.sort_values("available_at", ignore_index=True)
        series[SUMS] = series.groupby(KEYS, sort=False)[SUMS].cumsum()
        rows = spine.sort_values("prediction_time", ignore_index=True)
        as_of: Any = {"left_on": "prediction_time", "right_on": "available_at"}
        now = pd.merge_asof(rows, series, by=KEYS, **as_of)[SUMS].fillna(0)
        found = rows[["row"]].copy()
        for label, window in WINDOWS.items():
            begin = rows.assign(prediction_time=rows["prediction_time"] - window)
            within = now - pd.merge_asof(begin, series, by=KEYS, **as_of)[SUMS].fillna(0)
            for stem, (above, below) in RATIOS.items():
                ratio = within[above] / within[below].where(within[below] > 0)
                found[f"carrier_origin_{stem}_{label}"] = ratio
        sky = weather.sort_values("available_at", ignore_index=True)
        known = pd.merge_asof(rows, sky, by="origin", **as_of)
        fresh = known["prediction_time"] - known["event_time"] <= TTL
        return found.join(known[READINGS].where(fresh)).sort_values("row")

    return Work(run, _check)


def _tables(folder: str, copies: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    source = Path(folder) / f"join_{copies}"
    spine, delays, weather = (
        pl.read_parquet(source / f"{name}.parquet") for name in ("spine", "delays", "weather")
    )
    return spine, delays, weather


def _check(result: Any) -> str:
    """Content of the features, row by row, whatever the order of rows."""
    from mlops_assets.stores.content import content_hash

    frame = result if isinstance(result, pl.DataFrame) else pl.DataFrame(result)
    types: Any = {"row": pl.Int64, **dict.fromkeys(FEATURES, pl.Float64)}
    return content_hash(frame.select("row", *FEATURES).cast(types).fill_nan(None))
