"""The features of logged requests by the offline path: the twin of online_features.py.

The same rows, the same tables as the online store had them, and the definitions that training uses;
but read from the lake and joined as training joins. What both give must be equal, cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec
import polars as pl

from mlops_assets.ml.point_in_time import PREDICTION_TIME, Definition, look_up
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.online_features import Spine

GENERATIONS = "online_features"
"""Table of a product: what each generation of its online store was made of."""
DAY = "date"
PLACE = "__place"


class UnknownGeneration(LookupError):
    """The lake has no record of what a generation of the online store was made of."""


@dataclass(frozen=True)
class Known:
    """What a generation held of a table.

    Attributes:
        delta_version: the table's version in the lake.
        first_day: its first local day that was held; None for a table without days.
        known_from: first moment (UTC) at which a look-up gives what the lake gives; before it
            nothing is known. None for all.
    """

    delta_version: int
    first_day: date | None = None
    known_from: datetime | None = None


def generation(lake: Lakehouse, product: str, name: str) -> dict[str, Known]:
    """Table to what a generation held of it.

    Raises:
        UnknownGeneration: the lake has no record of it.
    """
    table = f"{product}/{GENERATIONS}"
    columns = ["table", "delta_version", "first_day", "known_from"]
    if lake.exists(table):
        rows = lake.scan(table).filter(generation=name).select(columns).unique("table").collect()
        if rows.height:
            return {each: Known(*values) for each, *values in rows.iter_rows()}
    raise UnknownGeneration(
        f"{table} has no generation {name!r}: the online store that answered was not filled by the"
        f" asset {table} of this lake"
    )


def requests_frame(requests: Sequence[str], types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Requests as they were logged, JSON objects, as a frame in the types of the spine's table.

    A field that a caller did not give is null.
    """
    rows = msgspec.json.decode(f"[{','.join(requests)}]")
    columns = {
        name: pl.Series(name, [_typed(row.get(name), dtype) for row in rows], dtype, strict=False)
        for name, dtype in types.items()
    }
    return pl.DataFrame(columns)


def offline(
    lake: Lakehouse,
    requests: pl.DataFrame,
    spine: Spine | None,
    derive: Callable[[pl.LazyFrame], pl.LazyFrame],
    definitions: Mapping[str, Definition],
    known: Mapping[str, Known],
) -> pl.DataFrame:
    """What training would have seen of the requests, had the tables been as they were online.

    Args:
        lake: where the tables are.
        requests: what callers gave, in the types of the spine's table; null where they did not.
        spine: what is filled in from its table; None for nothing.
        derive: the problem's spine: gives `prediction_time`, look-up keys, on-demand features.
        definitions: feature table to what is looked up in it.
        known: table to what was known of it, the spine's among them.

    Returns:
        The requests in their order, with all that they derive and look up.

    Raises:
        KeyError: a table that `known` lacks.
        TableNotFound: a table, or its version, is gone.
    """
    completed = _completed(lake, requests, spine, known[spine.table]) if spine else requests
    rows = derive(completed.lazy()).collect()
    for table, definition in definitions.items():
        there = known[table]
        rows = look_up(rows, _read(lake, table, there), definition)
        if there.known_from is not None:
            told = pl.col(PREDICTION_TIME) >= there.known_from
            rows = rows.with_columns(
                pl.when(told).then(pl.col(name)).alias(name) for name in definition.features
            )
    return rows


def _completed(lake: Lakehouse, requests: pl.DataFrame, spine: Spine, there: Known) -> pl.DataFrame:
    """The requests, with the spine's columns where a caller gave none."""
    columns = list(spine.columns)
    planned = _read(lake, spine.table, there).select(*spine.keys, *columns).collect()
    planned = planned.unique(spine.keys, keep="last", maintain_order=True)
    given = requests.with_row_index(PLACE)
    found = given.join(planned, on=list(spine.keys), how="left", suffix="__planned")
    filled = found.sort(PLACE).with_columns(
        pl.coalesce(pl.col(name), pl.col(f"{name}__planned")).alias(name) for name in columns
    )
    return filled.select(requests.columns)


def _read(lake: Lakehouse, table: str, there: Known) -> pl.LazyFrame:
    if there.first_day is None:
        return lake.scan(table, version=there.delta_version)
    return lake.scan(table, version=there.delta_version, first=there.first_day)


def _typed(value: Any, dtype: pl.DataType) -> Any:
    """A JSON value as the column wants it: texts as times and days."""
    if isinstance(value, str) and isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(value)
    if isinstance(value, str) and dtype == pl.Date:
        return date.fromisoformat(value)
    return value
