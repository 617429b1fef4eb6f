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

from mlops_assets.ml.timeline import Timeline

AVAILABLE_AT = "available_at"
EVENT_TIME = "event_time"
PREDICTION_TIME = "prediction_time"

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
    """Sums, or their ratios, over the half-open window (t - window, t] of what became available.

    The table holds sums (integers, so that any order of adding gives the same number) of each
    key at each `available_at`. A ratio is null where its denominator is zero. A sum is 0 where the
    table has nothing of the key in the window, also where it has never had a row of it: of a key,
    nothing recorded is nothing that happened. Only a null, which is nobody's key, has no sum.

    Attributes:
        keys: columns that name the entity, present in the table and in the spine.
        prefix: first part of the feature names, say "carrier".
        ratios: feature stem to (numerator column, denominator column), or to (column, None) for
            the sum itself.
        windows: label to length, say {"24h": timedelta(hours=24)}.
    """

    keys: tuple[str, ...]
    prefix: str
    ratios: Mapping[str, tuple[str, str | None]]
    windows: Mapping[str, timedelta] = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(self._feature(s, w) for w in self.windows for s in self.ratios)

    @property
    def sums(self) -> tuple[str, ...]:
        """The table columns that are read, each once."""
        return tuple(dict.fromkeys(c for pair in self.ratios.values() for c in pair if c))

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
        TypeError: when the two sides' times differ in type, or a sum is no whole number.
    """
    _require(spine.columns, [*definition.keys, at], "the spine")
    _require(table.collect_schema().names(), definition.reads, "the feature table")
    known = table.select(definition.reads).collect()
    if isinstance(definition, Latest):
        return spine.hstack(_latest(spine, known, definition, at))
    return spine.hstack(_trailing(spine, known, definition, at))


def join_all(spine: pl.DataFrame, reads: Sequence[tuple[pl.LazyFrame, Definition]]) -> pl.DataFrame:
    """Add the features of several tables, one after the other."""
    return reduce(lambda rows, read: look_up(rows, *read), reads, spine)


def _latest(spine: pl.DataFrame, table: pl.DataFrame, definition: Latest, at: str) -> pl.DataFrame:
    line = Timeline.of(table, definition.keys, AVAILABLE_AT, ties=[EVENT_TIME])
    asked = line.asked(spine, at)
    places = asked.places()
    newest = pl.Series(places, dtype=pl.Int64) - 1
    newest = newest.set(pl.Series(places == asked.begins()), None)
    columns = [pl.col(column).alias(name) for name, column in definition.columns.items()]
    if definition.ttl is not None:
        moment = spine[at].gather(asked.order)
        age = moment - line.rows[EVENT_TIME].gather(newest)
        newest = newest.set(age > definition.ttl, None)
    return asked.in_own_order(line.rows.select(columns).select(pl.all().gather(newest)))


def _trailing(
    spine: pl.DataFrame, table: pl.DataFrame, definition: Trailing, at: str
) -> pl.DataFrame:
    for name in definition.sums:
        if not (table.schema[name].is_integer() or table.schema[name] in (pl.Boolean, pl.Null)):
            raise TypeError(
                f"the sum {name!r} is {table.schema[name]}; keep whole numbers, in a smaller unit"
                " if need be: any order of adding gives the same one"
            )
    line = Timeline.of(table, definition.keys, AVAILABLE_AT)
    asked = line.asked(spine, at)
    # One series over all keys: what stands between two places of a key is of that key alone.
    nothing = pl.lit(0, pl.Int64)
    series = line.rows.select(
        pl.concat([nothing, pl.col(c).cast(pl.Int64).fill_null(0).cum_sum()]).alias(c)
        for c in definition.sums
    )
    now = series[asked.places()]
    windows = []
    for label, window in definition.windows.items():
        within = now - series[asked.places(window)]
        windows.append(
            within.select(
                _of_sums(above, below).alias(definition._feature(stem, label))
                for stem, (above, below) in definition.ratios.items()
            )
        )
    found = asked.in_own_order(pl.concat(windows, how="horizontal"))
    return _nothing_of_nobody(found, spine.select(*definition.keys, at), definition)


def _of_sums(above: str, below: str | None) -> pl.Expr:
    if below is None:
        return pl.col(above)
    return pl.when(pl.col(below) > 0).then(pl.col(above) / pl.col(below))


def _nothing_of_nobody(
    found: pl.DataFrame, asked: pl.DataFrame, definition: Trailing
) -> pl.DataFrame:
    """The features, null where a key or the time is: there a ratio has no denominator, a sum is."""
    if all(below is not None for _, below in definition.ratios.values()):
        return found
    someone = asked.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    return found if someone.all() else found.select(pl.when(someone).then(pl.all()))


def _require(present: Sequence[str], wanted: Sequence[str], where: str) -> None:
    if missing := [c for c in wanted if c not in present]:
        raise ValueError(f"{where} lacks {missing}; it has {sorted(present)}")
