"""What a table is: its rows or a sample of them, in safe names and inferred types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from mlops_assets.components.scaffold.columns import inferred, safe_names
from mlops_assets.components.scaffold.wanted import Unusable, Wanted
from mlops_assets.stores.sources import BLOCKS, FIRST_BLOCK, open_source
from mlops_assets.stores.sources.times import as_utc, require_one_kind

LOOKED_AT = 200_000
"""Rows that are looked at; of a longer table evenly spread ones."""
LEAST_ROWS = 100


@dataclass(frozen=True)
class Table:
    """A table as it was found.

    Attributes:
        rows: those looked at, by safe names, in inferred types.
        count: how many there are.
        names: safe name to the name in the source, all columns.
        odd: safe name to why a column is left out altogether.
        first, last: local days of the rows.
        numbered: whether rows have numbers, by which they can be told apart.
    """

    rows: pl.DataFrame
    count: int
    names: dict[str, str]
    odd: dict[str, str]
    first: date
    last: date
    numbered: bool

    @property
    def days(self) -> int:
        """How many local days there are from the first to the last."""
        return (self.last - self.first).days + 1

    def safe(self, own: str) -> str:
        """The safe name of a column of the source."""
        return next(safe for safe, name in self.names.items() if name == own)


def look(wanted: Wanted) -> Table:
    """Read what is needed to decide: at most `LOOKED_AT` rows.

    Raises:
        SourceError: the table cannot be read.
        Unusable: it lacks a column that is named, has too few rows, or times of the future.
    """
    wanted.check()
    source = open_source(
        wanted.source, table=wanted.table, time=wanted.time, zone=wanted.zone, keys=wanted.keys
    )
    named = {"--label": [wanted.label], "--time": [wanted.time], "--keys": list(wanted.keys)}
    source.require([c for columns in named.values() for c in columns if c])
    raw, count = source.sample(LOOKED_AT)
    if count < LEAST_ROWS:
        raise Unusable(
            f"{source.where}: {count} rows are too few to learn from and to judge; {LEAST_ROWS} is"
            " the least"
        )
    for column in (c for c, kind in raw.schema.items() if kind == pl.String):
        if column == wanted.time:
            require_one_kind(raw, column, column, source.where)
    safe = safe_names(raw.columns)
    rows, odd = inferred(raw.rename(safe), wanted.zone)
    if wanted.time and safe[wanted.time] in rows:
        time = safe[wanted.time]
        utc = as_utc(time, rows.schema[time], wanted.zone, source.where)
        rows = rows.with_columns(utc.alias(time))
    first, last = FIRST_BLOCK, FIRST_BLOCK + timedelta(days=BLOCKS - 1)
    if wanted.time:
        first, last = _local_days(source.span(), wanted, source.where)
    return Table(
        rows, count, {s: own for own, s in safe.items()}, odd, first, last,
        numbered="://" not in wanted.source,
    )  # fmt: skip


def _local_days(span: Sequence[datetime], wanted: Wanted, where: str) -> tuple[date, date]:
    if span[1] > datetime.now(UTC) + timedelta(days=1):
        raise Unusable(
            f"{where}: {wanted.time!r} reaches into the future, to {span[1]:%Y-%m-%d %H:%M} UTC; is"
            " the unit or the zone another? Leave such rows out"
        )
    first, last = (moment.astimezone(wanted.tz).date() for moment in span)
    return first, last
