"""The point-in-time join: what was known about a key at a moment, and nothing later.

A feature table has two times a row, both UTC: `event_time`, what the row speaks of, and
`available_at`, when it could be known. Two definitions read it, `Latest` and `Trailing`; training,
batch scoring and the endpoint all call `look_up` with the same definition. No I/O here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce

import polars as pl

AVAILABLE_AT = "available_at"
EVENT_TIME = "event_time"
PREDICTION_TIME = "prediction_time"

_ROW = "__row"
_DAYLIGHT_SAVING = timedelta(hours=1)


@dataclass(frozen=True)
class Latest:
    """The key's newest row that was available, unless it speaks of a time more than `ttl` ago.

    Newest is the greatest (`available_at`, `event_time`); a table holds one row for each key and
    event time, so there are no further ties.

    Attributes:
        keys: columns that name the entity, present in the table and in the spine.
        columns: feature name to table column.
        ttl: greatest age of `event_time` at the prediction time; None for no limit.
    """

    keys: tuple[str, ...]
    columns: Mapping[str, str]
    ttl: timedelta | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(self.columns)

    @property
    def reads(self) -> tuple[str, ...]:
        """The table columns that a look-up needs."""
        return (*self.keys, AVAILABLE_AT, EVENT_TIME, *self.columns.values())

    @property
    def reach(self) -> timedelta | None:
        """How far before the prediction time a row can matter; None for all history."""
        return self.ttl


@dataclass(frozen=True)
class Trailing:
    """Ratios of sums over the half-open window (t - window, t] of what became available in it.

    The table holds sums (integers, so that any order of adding gives the same number) of each
    key at each `available_at`. A ratio is null where its denominator is zero.

    Attributes:
        keys: columns that name the entity, present in the table and in the spine.
        prefix: first part of the feature names, say "carrier".
        ratios: feature stem to (numerator column, denominator column).
        windows: label to length, say {"24h": timedelta(hours=24)}.
    """

    keys: tuple[str, ...]
    prefix: str
    ratios: Mapping[str, tuple[str, str]]
    windows: Mapping[str, timedelta] = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(self._feature(s, w) for w in self.windows for s in self.ratios)

    @property
    def sums(self) -> tuple[str, ...]:
        """The table columns that are read, each once."""
        return tuple(dict.fromkeys(c for pair in self.ratios.values() for c in pair))

    @property
    def reads(self) -> tuple[str, ...]:
        """The table columns that a look-up needs."""
        return (*self.keys, AVAILABLE_AT, *self.sums)

    @property
    def reach(self) -> timedelta | None:
        """How far before the prediction time a row can matter."""
        return max(self.windows.values())

    def _feature(self, stem: str, window: str) -> str:
        return f"{self.prefix}_{stem}_{window}"


Definition = Latest | Trailing


def days_back(definition: Definition, lead: timedelta) -> int | None:
    """Daily partitions before a row's own day that its look-up can reach; None for all.

    `lead` is the time between the prediction and the row's own time. One hour is added because
    a local day can have 23. The table's day is that of `available_at` for a trailing window, and of
    `event_time` for the latest row, whose table must then become available in that order.
    """
    if definition.reach is None:
        return None
    return math.ceil((definition.reach + lead + _DAYLIGHT_SAVING) / timedelta(days=1))


def look_up(
    spine: pl.DataFrame, table: pl.LazyFrame, definition: Definition, at: str = PREDICTION_TIME
) -> pl.DataFrame:
    """Add the definition's features to the spine, as they were known at each row's own time.

    Args:
        spine: the rows to predict, with the definition's keys and `at` (UTC).
        table: the feature table, at least as far back as the definition reaches.
        definition: what to read.
        at: name of the spine's prediction time.

    Returns:
        The spine, in its own order, with the definition's features appended.

    Raises:
        ValueError: when a key or a column is missing on either side.
    """
    _require(spine.columns, [*definition.keys, at], "the spine")
    _require(table.collect_schema().names(), definition.reads, "the feature table")
    rows = spine.select(*definition.keys, at).with_row_index(_ROW).lazy()
    if isinstance(definition, Latest):
        found = _latest(rows, table, definition, at)
    else:
        found = _trailing(rows, table, definition, at)
    features = found.sort(_ROW).select(definition.features).collect()
    return spine.hstack(features)


def join_all(spine: pl.DataFrame, reads: Sequence[tuple[pl.LazyFrame, Definition]]) -> pl.DataFrame:
    """Add the features of several tables, one after the other."""
    return reduce(lambda rows, read: look_up(rows, *read), reads, spine)


def _latest(rows: pl.LazyFrame, table: pl.LazyFrame, definition: Latest, at: str) -> pl.LazyFrame:
    keys = list(definition.keys)
    columns = {name: pl.col(column).alias(name) for name, column in definition.columns.items()}
    known = table.select(*keys, AVAILABLE_AT, EVENT_TIME, *columns.values())
    known = known.sort(AVAILABLE_AT, EVENT_TIME)
    joined = _as_of(rows, known, at, keys)
    if definition.ttl is None:
        return joined
    fresh = pl.col(at) - pl.col(EVENT_TIME) <= definition.ttl
    return joined.with_columns(pl.when(fresh).then(pl.col(n)).alias(n) for n in columns)


def _trailing(
    rows: pl.LazyFrame, table: pl.LazyFrame, definition: Trailing, at: str
) -> pl.LazyFrame:
    keys, sums = list(definition.keys), list(definition.sums)
    series = (
        table.group_by([*keys, AVAILABLE_AT])
        .agg(pl.col(sums).sum())
        .sort(AVAILABLE_AT)
        .with_columns(pl.col(sums).cum_sum().over(keys))
        .collect()
        .lazy()
    )
    now = _as_of(rows, series, at, keys).with_columns(pl.col(sums).fill_null(0))
    for label, window in definition.windows.items():
        begin = rows.with_columns(pl.col(at) - window)
        before = _as_of(begin, series, at, keys).select(
            _ROW, *(pl.col(c).fill_null(0).alias(f"{c}__{label}") for c in sums)
        )
        now = now.join(before, on=_ROW, how="left")
        within = {c: pl.col(c) - pl.col(f"{c}__{label}") for c in sums}
        now = now.with_columns(
            pl.when(within[below] > 0)
            .then(within[above] / within[below])
            .alias(definition._feature(stem, label))
            for stem, (above, below) in definition.ratios.items()
        )
    return now


def _as_of(rows: pl.LazyFrame, known: pl.LazyFrame, at: str, keys: list[str]) -> pl.LazyFrame:
    # Both sides are sorted right here; polars cannot check that within groups and would warn.
    return rows.sort(at).join_asof(
        known, left_on=at, right_on=AVAILABLE_AT, by=keys, strategy="backward",
        check_sortedness=False,
    )  # fmt: skip


def _require(present: Sequence[str], wanted: Sequence[str], where: str) -> None:
    if missing := [c for c in wanted if c not in present]:
        raise ValueError(f"{where} lacks {missing}; it has {sorted(present)}")
