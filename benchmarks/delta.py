"""The lakehouse against bare deltalake and polars: a year of day partitions, 80 columns wide."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable, write_deltalake

from benchmarks.data import lake
from benchmarks.measure import Case, Contender, Work
from mlops_assets.stores.lakehouse import Commit, Lakehouse

COLUMNS = 80
TABLE = "wide"


def cases(quick: bool) -> list[Case]:
    """Write, overwrite, read."""
    days = "24 days" if quick else "364 days"
    sizes = {
        "write": f"{days} x 80", "write_stream": f"{days} x 80", "overwrite": "1 day x 80",
        "read_all": f"{days} x 80", "read_part": "7 days x 80" if quick else "31 days x 80",
    }  # fmt: skip
    pair = (Contender("ours", "ours"), Contender("deltalake", "bare"))
    many = {"overwrite": 10, "read_part": 10, "read_all": 5}
    found = []
    for work, size in sizes.items():
        arguments = {"work": work, "last": 7 if quick else 31}
        rounds, repeats = (1, 1) if quick else (3, many.get(work, 2))
        name = f"delta {work.replace('_', ' ')}"
        found.append(Case(name, size, pair, arguments, rounds, repeats))
    return found


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    return [("year", {"quick": quick})]


def ours(folder: str, work: str, last: int) -> Work:
    """`Lakehouse`."""
    frame = _wide(folder)
    days = [str(day) for day in frame["date"].unique().sort()]
    one = frame.filter(pl.col("date").cast(pl.String) == days[10])
    home = _new_folder(folder)
    made = iter(Lakehouse(home / str(n)) for n in range(1000))

    def write(store: Lakehouse) -> Lakehouse:
        store.overwrite_partitions(TABLE, frame, by="date", partitions=days, commit=Commit())
        return store

    def stream() -> pl.LazyFrame:
        store = next(made)
        store.append_frames(TABLE, _blocks(frame), Commit())
        return store.scan(TABLE)

    if work == "write":
        return Work(lambda: write(next(made)).scan(TABLE), _check)
    if work == "write_stream":
        return Work(stream, _check)
    store = write(next(made))

    def overwrite() -> pl.LazyFrame:
        store.overwrite_partitions(TABLE, one, by="date", partitions=days[10:11], commit=Commit())
        return store.scan(TABLE)

    return {
        "overwrite": Work(overwrite, _check),
        "read_all": Work(lambda: store.scan(TABLE).collect(), _check),
        "read_part": Work(
            lambda: store.scan(TABLE, first=days[0], last=days[last - 1]).collect(), _check
        ),
    }[work]


def bare(folder: str, work: str, last: int) -> Work:
    """deltalake's writer and polars' scan, with the same options."""
    frame = _wide(folder)
    days = frame["date"].unique().sort()
    one = frame.filter(pl.col("date") == days[10])
    home = _new_folder(folder)
    places = iter(home / str(n) for n in range(1000))

    def write(place: Path) -> Path:
        write_deltalake(place, frame, mode="error", partition_by="date")
        return place

    def stream() -> pl.LazyFrame:
        import pyarrow as pa

        parts = [block.to_arrow() for block in _blocks(frame)]
        reader = pa.RecordBatchReader.from_batches(
            parts[0].schema, (batch for part in parts for batch in part.to_batches())
        )
        place = next(places)
        write_deltalake(place, reader, mode="append", partition_by="date")
        return pl.scan_delta(str(place))

    if work == "write":
        return Work(lambda: pl.scan_delta(str(write(next(places)))), _check)
    if work == "write_stream":
        return Work(stream, _check)
    place = write(next(places))

    def overwrite() -> pl.LazyFrame:
        table = DeltaTable(place)
        write_deltalake(table, one, mode="overwrite", predicate=f"date = '{days[10]}'")
        return pl.scan_delta(str(place))

    month = pl.col("date").is_between(days[0], days[last - 1])
    return {
        "overwrite": Work(overwrite, _check),
        "read_all": Work(lambda: pl.scan_delta(str(place)).collect(), _check),
        "read_part": Work(lambda: pl.scan_delta(str(place)).filter(month).collect(), _check),
    }[work]


def _wide(folder: str) -> pl.DataFrame:
    view = lake(folder).scan("flight_delays/feature_view").collect()
    more = [c for c, dtype in view.schema.items() if dtype.is_float()][: COLUMNS - view.width]
    return view.with_columns(pl.col(c).alias(f"{c}_again") for c in more)


def _blocks(frame: pl.DataFrame, days: int = 30) -> Iterator[pl.DataFrame]:
    dates = frame["date"].unique().sort()
    for at in range(0, len(dates), days):
        yield frame.filter(pl.col("date").is_in(dates[at : at + days].implode()))


def _new_folder(folder: str) -> Path:
    place = Path(folder) / "delta"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        shutil.rmtree(old)
    return Path(tempfile.mkdtemp(dir=place))


def _check(result: Any) -> str:
    from mlops_assets.stores.content import content_hash

    return content_hash(result.lazy().collect())
