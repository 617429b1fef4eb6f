"""What must hold of the rows, the columns and the features before a score of them says anything.

These gates rest on what is in the tables, not on what a model's tags say of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.gates import GateOutcome, outcome

_TOLERANCE = 1e-9
"""Relative; sums in another order may round differently."""
_SHOWN = 5


@dataclass(frozen=True)
class Trained:
    """What one of the compared models was trained on, beside what is recorded of it.

    Attributes:
        claimed: the last day that its tag says; None where it says none.
        through: the last day in its training set; None where the set cannot be read.
        seen: how many of the judged rows are in its training set.
        problem: why the set is not known for sure; empty where it is.
    """

    claimed: date | None
    through: date | None
    seen: int
    problem: str = ""


@dataclass(frozen=True)
class Recomputed:
    """How many cells of features were computed once more, and which columns differed how often."""

    cells: int
    differing: Mapping[str, int]


def enough_rows(
    rows: int, days: int, min_rows: int, min_days: int, every: str = "days"
) -> GateOutcome:
    """Pass where there is enough to judge by; no rows or no days (`every`) never suffice.

    The outcome's value is the rows, or the days where only they are too few.
    """
    rows_suffice, days_suffice = rows >= max(min_rows, 1), days >= max(min_days, 1)
    detail = (
        f"{rows} rows on {days} {every}, expected at least {min_rows} rows on {min_days} {every}"
    )
    if not rows:
        detail += "; wait for labels after the cut-off, or cut off earlier"
    value, limit = (days, min_days) if rows_suffice and not days_suffice else (rows, min_rows)
    passed = rows_suffice and days_suffice
    return outcome("enough_rows", passed, value, limit, value - limit, rows, detail)


def distinct_rows(rows: pl.DataFrame, keys: Sequence[str]) -> GateOutcome:
    """Fail where two rows have the same entity keys: a row judged twice counts twice."""
    repeated = rows.height - rows.select(keys).n_unique() if rows.height else 0
    detail = f"{repeated} of {rows.height} rows repeat the {', '.join(keys)} of another"
    passed = rows.height > 0 and not repeated
    return outcome("distinct_rows", passed, repeated, 0, -repeated, rows.height, detail)


def untouched_rows(rows: int, first: date | None, trained: Mapping[str, Trained]) -> GateOutcome:
    """Fail where a model was trained on a judged row or on a later day, or lies about it.

    Args:
        rows: how many are judged.
        first: the first day that is judged; None where there is none.
        trained: each compared model by name. One whose training set is not known fails, and so
            does one whose tag differs from its training set.
    """
    if not rows or first is None or not trained:
        detail = f"{rows} evaluation rows and {len(trained)} models: nothing to judge"
        return outcome("untouched_rows", False, None, None, None, rows, detail)
    faults = [f"{name} {fault}" for name, t in trained.items() if (fault := _touched(t, first))]
    worst = max(t.seen if t.through else rows for t in trained.values())
    detail = (
        f"evaluation starts on {first}, but {'; '.join(faults)}"
        if faults
        else f"evaluation starts on {first}, after every model's training set"
    )
    return outcome("untouched_rows", not faults, worst, 0, -worst, rows, detail)


def same_schema(reads: FeatureColumns, declared: FeatureColumns) -> GateOutcome:
    """Fail where the model's own columns, their order or their kinds are not the product's."""
    kinds = [
        {n: kind for kind in ("numeric", "categorical") for n in getattr(columns, kind)}
        for columns in (reads, declared)
    ]
    own, wanted = kinds
    faults = [
        *(f"it reads {n}, which the product does not have" for n in own if n not in wanted),
        *(f"it does not read {n}" for n in wanted if n not in own),
        *(
            f"it reads {n} as {own[n]}, the product has it as {wanted[n]}"
            for n in wanted
            if n in own and own[n] != wanted[n]
        ),
    ]
    if not faults and reads != declared:
        faults = ["it reads the product's columns in another order"]
    detail = "; ".join(faults[:_SHOWN]) or f"it reads the product's {len(wanted)} columns"
    if len(faults) > _SHOWN:
        detail += f"; and {len(faults) - _SHOWN} more"
    return outcome("same_schema", not faults, len(faults), 0, -len(faults), len(wanted), detail)


def known_in_time(found: Recomputed, rows: int) -> GateOutcome:
    """Fail where a feature is not what was known at its row's prediction time."""
    wrong = sum(found.differing.values())
    detail = f"{wrong} of {found.cells} cells differ from what was known at the prediction time"
    if wrong:
        worst = sorted(found.differing.items(), key=lambda item: -item[1])
        detail += ", most in " + ", ".join(f"{n} ({k})" for n, k in worst[:_SHOWN])
        detail += "; does the look-up see rows that came later?"
    passed = found.cells > 0 and not wrong
    return outcome("known_in_time", passed, wrong, 0, -wrong, rows, detail)


def differing(found: pl.DataFrame, expected: pl.DataFrame) -> dict[str, int]:
    """Column to the number of rows in which two frames of one shape differ, where any does."""
    counts = {
        column: int(differs(found[column], expected[column]).sum()) for column in expected.columns
    }
    return {column: count for column, count in counts.items() if count}


def _touched(trained: Trained, first: date) -> str:
    if trained.problem:
        return trained.problem
    if trained.through is None or trained.claimed is None:
        return "was trained on days that are not known"
    if trained.claimed != trained.through:
        return (
            f"was trained through {trained.through}, on {trained.seen} of these rows,"
            f" while its tag cutoff says {trained.claimed}"
        )
    if trained.seen or trained.through >= first:
        return f"saw days through {trained.through}, and {trained.seen} of these rows"
    return ""


def differs(one: pl.Series, other: pl.Series) -> pl.Series:
    """Of two columns, in which rows they differ, numbers by more than a billionth of the greater.

    Polars itself rounds a quotient of one row otherwise than one of many.
    """
    if not one.dtype.is_float() and not other.dtype.is_float():
        return one.ne_missing(other.cast(one.dtype))
    a, b = one.cast(pl.Float64), other.cast(pl.Float64)
    close = (a - b).abs() <= _TOLERANCE * pl.select(
        pl.max_horizontal(a.abs(), b.abs(), 1.0)
    ).to_series()
    return ~(
        (a.is_null() & b.is_null())
        | close.fill_null(False)
        | (a.is_nan() & b.is_nan()).fill_null(False)
    )
