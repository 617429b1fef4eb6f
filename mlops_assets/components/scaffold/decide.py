"""What a table becomes: its task, its keys, what the model reads, and why the rest is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import polars as pl

from mlops_assets.components.scaffold.columns import safe_names
from mlops_assets.components.scaffold.look import Table
from mlops_assets.components.scaffold.wanted import Unusable, Wanted
from mlops_assets.ml.profile import Limits, profile

CLASSES = 20
FEW_INTEGERS = 10
"""Whole numbers of at most so many values are taken for classes."""
_MULTICLASS_AUC = 0.97
"""In a table of several classes one column often tells one of them well, and honestly."""
_MANY_TEXTS = 200
_RECURS = 10
"""Rows that a value must have on average to have a history."""
_YES = {"yes", "y", "true", "t", "1", "positive", "pos"}
FREQUENT, MOST_SHARES = 0.05, 6
"""Least share of a class whose history is read, and how many are at most."""
MOST_TELLING = 3
NUMBERED = "row"
CALENDAR = ("hour", "weekday", "month")
"""Methods of a time that give what a model may read of it."""
_SHOWN = 5
STANDS_IN = 1_000
"""Default of training.min_rows."""

Rows = pl.DataFrame


@dataclass(frozen=True)
class Decided:
    """How a table is made a product; columns by their safe names.

    Attributes:
        task, why: the task, and what in the label says so.
        positive: of a binary text or number the value that counts as 1; None where it is 0 and 1.
        keys: columns that identify a row within its day.
        numeric, categorical: what the model reads.
        left_out: column to why the model does not read it.
        telling: the columns that alone say most of the label (AUC, or R² of a regression).
        calendar: what the row's local time says, feature to method of polars; empty without a time.
        entity: a column whose values recur, for the label's history; empty where none does.
        shares: of several classes: name of a share in the history, to the class.
        notes: what a person should know.
    """

    task: str
    why: str
    positive: str | float | bool | None
    label: str
    time: str
    keys: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    left_out: dict[str, str]
    telling: dict[str, float]
    calendar: dict[str, str]
    entity: str
    shares: dict[str, Any]
    notes: tuple[str, ...] = ()


def decide(wanted: Wanted, table: Table) -> Decided:
    """Decide from what there is.

    Raises:
        Unusable: the label does not vary or fits no task, or no columns identify a row.
    """
    label = table.safe(wanted.label)
    time = table.safe(wanted.time) if wanted.time else ""
    for column in (label, time):
        if column in table.odd:
            raise Unusable(f"column {table.names[column]!r} {table.odd[column]}")
    rows = table.rows
    task, why = _task(wanted, rows[label], wanted.label)
    keys = _keys(wanted, table, label, time)
    profiled = _profiled(table, label, task)
    left_out = dict(table.odd) | dict(_left_out(table, profiled, label, time, wanted))
    own = [c for c in rows.columns if c not in left_out and c not in (label, time)]
    entity = next((k for k in keys if time and _recurs(rows, k, time)), "")
    return Decided(
        task=task,
        why=why,
        positive=_positive(rows[label]) if task == "binary" else None,
        label=label,
        time=time,
        keys=keys,
        numeric=tuple(c for c in own if rows[c].dtype != pl.String),
        categorical=tuple(c for c in own if rows[c].dtype == pl.String),
        left_out=left_out,
        telling=_telling(profiled, time, task),
        calendar=_calendar(table, time, wanted.zone) if time else {},
        entity=entity,
        shares=_shares(rows[label]) if entity and task == "multiclass" else {},
        notes=(*_notes(wanted, table, keys), *_no_history(time, entity)),
    )


def _task(wanted: Wanted, column: pl.Series, own: str) -> tuple[str, str]:
    """The task and why; what is asked for has to fit."""
    known = column.drop_nulls()
    distinct = known.n_unique()
    if distinct < 2:
        value = f" ({known[0]!r})" if distinct else ""
        raise Unusable(
            f"the label {own!r} has {distinct} value{value} in {len(column):,} rows; it takes two"
            " to tell"
        )
    number = known.dtype.is_numeric()
    if wanted.task:
        fits = {"regression": number, "binary": distinct == 2, "multiclass": distinct <= CLASSES}
        if not fits[wanted.task]:
            raise Unusable(
                f"the label {own!r} is {known.dtype} with {distinct} values, which is nothing for"
                f" {wanted.task}"
            )
        return wanted.task, "you said so"
    if distinct == 2:
        return "binary", f"{own} has two values"
    if known.dtype == pl.String and distinct <= CLASSES:
        return "multiclass", f"{own} is text with {distinct} values"
    if known.dtype.is_integer() and distinct <= FEW_INTEGERS:
        return "multiclass", f"{own} is a whole number with {distinct} values only"
    if number:
        return "regression", f"{own} is a number with {distinct:,} values"
    raise Unusable(
        f"the label {own!r} is {known.dtype} with {distinct:,} values; expected a number, or"
        f" at most {CLASSES} classes"
    )


def _positive(column: pl.Series) -> str | float | bool | None:
    """What counts as 1: a yes, else the rarer value; None where it is 1 or true already."""
    if column.dtype == pl.Boolean or set(column.drop_nulls().unique()) == {0, 1}:
        return None
    counts = column.drop_nulls().alias("value").value_counts().sort("count", "value")
    values = counts["value"].to_list()
    return next((v for v in values if isinstance(v, str) and v.strip().lower() in _YES), values[0])


def _keys(wanted: Wanted, table: Table, label: str, time: str) -> tuple[str, ...]:
    """Those given, which must identify a row; else the first that do."""
    if wanted.keys:
        given = tuple(table.safe(k) for k in wanted.keys)
        if found := _duplicates(table.rows, given, time):
            raise Unusable(f"the keys {', '.join(wanted.keys)} do not identify a row: {found}")
        return given
    candidates = list(_candidates(table.rows, label, time))
    for keys in candidates:
        if not _duplicates(table.rows, keys, ""):
            return keys
    if table.numbered and not time:
        return (NUMBERED,)
    nearest = candidates[0] if candidates else ()
    found = _duplicates(table.rows, nearest, "") if nearest else "none is without empty values"
    raise Unusable(
        f"no column or pair of columns identifies a row; of {', '.join(nearest) or 'all columns'}:"
        f" {found}. Name columns that do, with --keys A,B"
    )


def _candidates(rows: Rows, label: str, time: str) -> Iterator[tuple[str, ...]]:
    """What may identify a row, the best to ask by first: what recurs with the time, then an id."""
    simple = [
        c for c, kind in rows.schema.items()
        if c not in (label, time) and (kind == pl.String or kind.is_integer() or kind == pl.Date)
        and not rows[c].null_count()
    ]  # fmt: skip
    alone = [c for c in simple if rows[c].n_unique() == rows.height]
    recur = [c for c in simple if c not in alone and rows[c].dtype == pl.String]
    recur += [c for c in simple if c not in alone and c not in recur]
    if time:
        yield from ((c, time) for c in recur)
        yield (time,)
        yield from ((*pair, time) for pair in combinations(recur[:6], 2))
    yield from ((c,) for c in alone)
    if not time:
        yield from combinations(recur[:6], 2)


def _duplicates(rows: Rows, keys: tuple[str, ...], time: str) -> str:
    """How many rows share their keys (and day), with an example; empty where none do."""
    by = [pl.col(k) for k in keys]
    if time and time not in keys:
        by.append(pl.col(time).cast(pl.Date).alias("date"))
    counts = rows.group_by(by).len().filter(pl.col("len") > 1).sort("len", *keys, descending=True)
    if counts.is_empty():
        return ""
    one = counts.row(0, named=True)
    example = ", ".join(f"{k} {v}" for k, v in one.items() if k != "len")
    return f"{counts['len'].sum():,} rows share theirs, as {one['len']} with {example}"


def _profiled(table: Table, label: str, task: str) -> Rows:
    rows = table.rows.filter(pl.col(label).is_not_null())
    auc = Limits(auc=_MULTICLASS_AUC) if task == "multiclass" else Limits()
    target = pl.col(label).cast(pl.String) if task == "multiclass" else pl.col(label)
    return profile(rows.with_columns(target), label, auc)


def _telling(profiled: Rows, time: str, task: str) -> dict[str, float]:
    least = 0.0 if task == "regression" else 0.5
    known = profiled.filter(pl.col("column") != time, pl.col("alone") > least)
    most = known.sort("alone", "column", descending=[True, False]).head(MOST_TELLING)
    return dict(most.select("column", "alone").iter_rows())


def _left_out(
    table: Table, profiled: Rows, label: str, time: str, wanted: Wanted
) -> Iterator[tuple[str, str]]:
    """Column to why the model should not read it."""
    rows = table.rows.filter(pl.col(label).is_not_null())
    for column, note, distinct in profiled.select("column", "note", "distinct").iter_rows():
        kind = rows.schema[column]
        if column in (label, time):
            continue
        if note:
            yield column, note
        elif kind.is_temporal():
            yield column, _of_a_time(rows, column, time, wanted.lead_hours)
        elif kind == pl.String and distinct > min(_MANY_TEXTS, rows.height // 2):
            yield column, f"{distinct:,} different texts"


def _of_a_time(rows: Rows, column: str, time: str, lead_hours: float) -> str:
    if time and rows[column].dtype == rows[time].dtype:
        asked = pl.col(time) - pl.duration(seconds=round(lead_hours * 3600))
        after = rows.select((pl.col(column) > asked).mean()).item() or 0.0
        if after:
            return f"known only after the fact: in {after:.0%} of the rows after the question"
    return "a time; derive a number from it if it says something"


def _calendar(table: Table, time: str, zone: str) -> dict[str, str]:
    """What of the local time differs from row to row; of a table of days that is no hour."""
    local = table.rows[time].dt.convert_time_zone(zone).dt
    parts = [part for part in CALENDAR if getattr(local, part)().n_unique() > 1]
    taken = set(table.names) & set(parts)
    return {f"{time}_{part}" if taken else part: part for part in parts}


def _recurs(rows: Rows, column: str, time: str) -> bool:
    return column not in (time, NUMBERED) and rows.height / rows[column].n_unique() >= _RECURS


def _shares(label: pl.Series) -> dict[str, Any]:
    """The frequent classes, the most frequent first, by the names of their shares."""
    counts = label.drop_nulls().alias("value").value_counts()
    frequent = counts.filter(pl.col("count") >= FREQUENT * pl.col("count").sum())
    ordered = frequent.sort("count", "value", descending=[True, False])
    values = ordered["value"].head(MOST_SHARES).to_list()
    names = safe_names([f"{label.name} {value}" for value in values])
    return dict(zip(names.values(), values, strict=True))


def _no_history(time: str, entity: str) -> Iterator[str]:
    if not time:
        yield "no history of the label is read: without --time nothing is before anything else"
    elif not entity:
        yield (
            f"no history of the label is read: no key has values that stand in {_RECURS} rows or"
            " more on average; `history` takes another column as `by`, if one recurs"
        )


def _notes(wanted: Wanted, table: Table, keys: tuple[str, ...]) -> Iterator[str]:
    if not wanted.licence:
        yield (
            'no licence is stated: fill it in at licence= in raw.py, as "CC-BY-4.0" or "our own",'
            " or give --licence; until then no model is promoted"
        )
    if table.rows.height < table.count:
        yield f"{table.rows.height:,} of {table.count:,} rows were looked at"
    renamed = {own: safe for safe, own in table.names.items() if own != safe}
    if renamed:
        few = [f"{own!r} is {safe}" for own, safe in renamed.items()][:_SHOWN]
        more = f" and {len(renamed) - _SHOWN} more" if len(renamed) > _SHOWN else ""
        yield f"renamed: {', '.join(few)}{more}"
    if keys == (NUMBERED,):
        yield "no columns identify a row, so rows are numbered; keep the file's order"
    if table.count < STANDS_IN:
        yield (
            f"with fewer than {STANDS_IN:,} rows to train on the baseline stands in for what is"
            " searched; training.min_rows in defs.yaml says from when on it need not"
        )
    if not wanted.keys:
        yield f"a row is identified by its day and {', '.join(keys)}; --keys says otherwise"
