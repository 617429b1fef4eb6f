"""The rows of a table by key and moment, and how many of them were there at a moment.

A row's key and moment are one whole number, ascending, so that a place among the rows is found by
a binary search: one for all keys, whatever their types. Pure functions of frames; no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

_KEY = "__key"
_AT = "__at"


@dataclass(frozen=True)
class Timeline:
    """A table in the order of key, moment, ties. A null is nobody's key, and no moment.

    A place is a number of rows: all those of the keys before, and those of the own key up to a
    moment. What stands between two places of a key is what came between the two moments.

    Attributes:
        rows: the table's rows in that order, without the keys.
        keys: each key once, with its number from 0.
        moments: the distinct moments, ascending, as physical values.
        codes: of each row, its key's number times (moments + 1) plus its moment's number from 1.
        time: type of the moments.
    """

    rows: pl.DataFrame
    keys: pl.DataFrame
    moments: np.ndarray
    codes: np.ndarray
    time: pl.DataType

    @classmethod
    def of(
        cls, table: pl.DataFrame, keys: Sequence[str], moment: str, ties: Sequence[str] = ()
    ) -> Timeline:
        """Sort a table; `ties` are columns that order the rows of one key and moment."""
        names = table.select(keys).drop_nulls().unique().with_row_index(_KEY)
        rows = (
            table.join(names, on=list(keys), how="left", maintain_order="left")
            .drop(keys)
            .drop_nulls([_KEY, moment])
            .sort(moment, *ties)
        )
        times = rows[moment].to_physical().to_numpy()
        is_new = np.diff(times, prepend=times[:1] - 1) != 0
        moments = times[is_new]
        # Stable, so that each key's rows stay in order; numpy sorts 16 bits by radix.
        key = rows[_KEY].to_numpy().astype(np.min_scalar_type(names.height))
        order = np.argsort(key, kind="stable")
        codes = (key.astype(np.int64) * (len(moments) + 1) + np.cumsum(is_new))[order]
        return cls(rows.drop(_KEY)[order], names, moments, codes, table.schema[moment])

    def asked(self, spine: pl.DataFrame, at: str) -> Asked:
        """Rows that ask what was there at their own time `at`.

        Raises:
            TypeError: where that is not of the moments' type.
        """
        if spine.schema[at] != self.time:
            raise TypeError(
                f"{at} is {spine.schema[at]} and the table's moments are {self.time};"
                " cast one to the other"
            )
        found = spine.select(*self.keys.columns[1:], at).join(
            self.keys, on=self.keys.columns[1:], how="left", maintain_order="left"
        )
        # Who has no key here, or no time, stands after all keys, where no rows are.
        unknown = pl.col(_KEY).is_null() | pl.col(at).is_null()
        key = pl.when(unknown).then(self.keys.height).otherwise(pl.col(_KEY).cast(pl.Int64))
        asked = found.select(
            (key * (len(self.moments) + 1)).alias(_KEY),
            pl.col(at).to_physical().fill_null(0).alias(_AT),
        )
        # By time for the search among moments, then by code for the one among rows: a binary
        # search in ascending order stays in the cache.
        by_time = asked[_AT].arg_sort()
        first, times = (asked[by_time][c].to_numpy() for c in (_KEY, _AT))
        now = first + np.searchsorted(self.moments, times, side="right")
        by_code = pl.Series(now).arg_sort().to_numpy()
        return Asked(self, first, times, by_code, by_time.to_numpy()[by_code])


@dataclass(frozen=True)
class Asked:
    """Rows that ask, in the order of key and moment.

    Attributes:
        line: whom they ask.
        first: by time, the code before all of the row's key.
        times: by time, the row's own moment.
        by_code: from the order by time to the order of key and moment.
        order: the row's number in the spine, in the order of key and moment.
    """

    line: Timeline
    first: np.ndarray
    times: np.ndarray
    by_code: np.ndarray
    order: np.ndarray

    def begins(self) -> np.ndarray:
        """The place before all rows of the own key."""
        return self._places(self.first)

    def places(self, before: timedelta = timedelta(0)) -> np.ndarray:
        """The place at the own moment less `before`, rows of just that moment included."""
        unit = pl.Duration(self.line.time.time_unit)  # type: ignore[attr-defined]
        back = pl.Series([before], dtype=unit).to_physical().item()
        known = np.searchsorted(self.line.moments, self.times - back, side="right")
        return self._places(self.first + known)

    def in_own_order(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame in the order of key and moment, in the order of the spine."""
        own = np.empty_like(self.order)
        own[self.order] = np.arange(len(self.order), dtype=own.dtype)
        return frame[own]

    def _places(self, codes: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.line.codes, codes[self.by_code], side="right")
