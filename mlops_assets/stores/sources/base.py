"""What every source does: the rows of some local days, in a contract's names and types.

A subclass says what columns there are and scans them; the days are filtered there coarsely, by what
the file or the database can look up, and here exactly. Days are local to `zone`; a row without a
time gets one of `blocks` days by a hash of its keys that never changes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

import polars as pl

from mlops_assets.ml.blocks import block_day
from mlops_assets.ml.periods import Periods, day_of
from mlops_assets.stores.source_files import SourceError
from mlops_assets.stores.sources.times import as_utc, require_one_kind, require_times
from mlops_assets.stores.sources.typed import as_declared

if TYPE_CHECKING:
    import dataframely as dy

BLOCKS = 200
"""Days over which rows without a time are spread; enough for the default folds and holdout."""
FIRST_BLOCK = date(2000, 1, 1)
DAY = "date"
_OWN_DAY = "day of the row"
"""Its name while a source's own `date` may still be there."""

ROUGHLY = timedelta(days=2)
"""By how much a rough look-up is wider than the days asked for; zones differ by 26 hours."""

NUMBER = "number of the row"
SPREAD, WHOLE = 2_654_435_761, 2**32
"""A row is of a sample by its number times the golden ratio: evenly, and in step with no period
that a table may have."""

Days = tuple[date, date]


@dataclass(frozen=True)
class Source(ABC):
    """A table that is somewhere else; see `open_source` for the fields."""

    uri: str
    table: str = ""
    time: str = ""
    zone: str = "UTC"
    keys: tuple[str, ...] = ()
    row: str = ""
    blocks: int = BLOCKS
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is, with the environment's variables."""
        return os.path.expandvars(self.uri)

    @property
    def where(self) -> str:
        """What messages call it; never with a password."""
        return self.address

    @abstractmethod
    def schema(self) -> pl.Schema:
        """Columns as the source names them, and the types that it has for them.

        Raises:
            SourceError: when it cannot be read.
        """

    @abstractmethod
    def scan(self, columns: Sequence[str], roughly: Days | None = None) -> pl.LazyFrame:
        """Its own columns; of the days asked for at least all rows, where a time is declared."""

    @abstractmethod
    def sample(self, rows: int) -> tuple[pl.DataFrame, int]:
        """At most so many rows of all columns, evenly over the table, and how many there are."""

    def own(self, column: str) -> str:
        """The name of a column in the source."""
        return self.names.get(column, column)

    def rows(
        self, contract: type[dy.Schema], first: date | None = None, last: date | None = None
    ) -> pl.DataFrame:
        """The rows of the local days `first` to `last`, or all, in the contract's names and types.

        With days, `date` is the row's day; with hours (their beginnings, UTC) its hour. Every value
        is of its declared type or null; what else a row must be is the contract's to say.

        Raises:
            SourceError: it cannot be read, lacks a column, or a value is not of its type.
        """
        wanted = contract.create_empty().schema
        given = {c: kind for c, kind in wanted.items() if c not in self._made(first)}
        read = dict.fromkeys([*given, *self.keys] + ([self.time] if self.time else []))
        self.require([self.own(c) for c in read])
        days = (first, last) if first and last else None
        raw = self._read(list(read), days)
        typed = as_declared(raw, given, self.where, self.names, self.zone)
        made = [pl.Series(self.row, raw[self.row])] if self.row in wanted else []
        if days:
            made.append(raw[DAY])
        return typed.hstack(made).select(list(wanted))

    def _made(self, first: date | None) -> set[str]:
        """Columns that the source does not hold."""
        return {self.row} | ({DAY} if first else set())

    def _read(self, columns: list[str], days: Days | None) -> pl.DataFrame:
        own = {self.own(c): c for c in columns}
        try:
            whole = (day_of(days[0]), day_of(days[1])) if days and self.time else None
            found = self.scan(list(own), whole)
            if self.row:
                found = found.with_row_index(self.row).with_columns(pl.col(self.row).cast(pl.Int64))
            found = found.rename(own)
            if days is None:
                return found.collect()
            if not self.time:
                return self._in_blocks(found.collect(), days)
            return self._of_days(found, days)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self.where}: {self.cause(error)}") from None

    def _of_days(self, found: pl.LazyFrame, days: Days) -> pl.DataFrame:
        kind = found.collect_schema()[self.time]
        utc = as_utc(self.time, kind, self.zone, self.where)
        first, last = days
        hours = isinstance(first, datetime)
        day = utc.dt.convert_time_zone("UTC" if hours else self.zone).dt.date()
        # A row without a day is read too: no day would ask for it, and it would be lost unseen.
        rows = found.with_columns(day.alias(_OWN_DAY)).filter(
            pl.col(_OWN_DAY).is_between(day_of(first), day_of(last)) | pl.col(_OWN_DAY).is_null()
        )
        read = rows.collect()
        require_one_kind(read, self.time, self.own(self.time), self.where)
        require_times(read, self.time, self.own(self.time), _OWN_DAY, self.where, self.zone)
        if hours:
            hour = Periods("hour").at(utc, self.zone).cast(pl.Datetime("us", "UTC"))
            read = read.with_columns(hour.alias(_OWN_DAY))
            read = read.filter(pl.col(_OWN_DAY).is_between(first, last))
        return read.rename({_OWN_DAY: DAY})

    def _in_blocks(self, found: pl.DataFrame, days: Days) -> pl.DataFrame:
        keys = list(self.keys or ([self.row] if self.row else ()))
        if not keys:
            raise SourceError(
                f"{self.where}: a table without a time needs keys, by which its rows are spread"
                f" over {self.blocks} days; declare keys="
            )
        day = block_day(keys, FIRST_BLOCK, self.blocks)
        return found.with_columns(day.alias(DAY)).filter(pl.col(DAY).is_between(*days))

    def require(self, columns: Sequence[str]) -> None:
        """Refuse where a column is not there, naming the nearest.

        Raises:
            SourceError: naming all that are missing.
        """
        there = self.schema().names()
        missing = [c for c in columns if c not in there and c != self.row]
        if missing:
            near = {c: get_close_matches(c, there, 1) for c in missing}
            named = ", ".join(
                f"{c!r} (did you mean {n[0]!r}?)" if n else repr(c) for c, n in near.items()
            )
            raise SourceError(
                f"{self.where}: there is no column {named}; it has {', '.join(there)}"
            )

    def span(self, kind: pl.DataType | None = None) -> tuple[datetime, datetime]:
        """The first and the last time that a row has (UTC).

        Raises:
            SourceError: when there is none, or a row has none.
        """
        own = self.own(self.time)
        self.require([own])
        try:
            column = self.scan([own])
            utc = as_utc(own, column.collect_schema()[own], self.zone, self.where)
            asked = column.select(own, utc.alias(_OWN_DAY))
            read = asked.filter(pl.col(_OWN_DAY).is_null()).head(1).collect()
            require_times(read, own, own, _OWN_DAY, self.where, self.zone)
            ends = asked.select(
                pl.col(_OWN_DAY).min().alias("a"), pl.col(_OWN_DAY).max().alias("b")
            )
            first, last = ends.collect().row(0)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self.where}: {self.cause(error)}") from None
        if first is None:
            raise SourceError(f"{self.where}: there are no rows")
        return first, last

    def cause(self, error: Exception) -> str:
        """What an error of reading says, in a sentence."""
        return f"it cannot be read ({str(error).partition(chr(10))[0]})"
