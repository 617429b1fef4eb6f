"""What a table looks like, column by column, and which column knows too much of the label.

Pure polars: a frame in, one row a column out. A column that alone tells the label almost surely is
rarely a good feature; mostly it was written after the fact.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

FOLDS = 5
BINS = 20
BARS = 12
CLASSES = 20
"""A label of text with more values than this is not looked at as classes."""
PRIOR_ROWS = 20
"""Rows of the mean label that steady a bin of few rows."""
SUSPECT_AUC = 0.9
SUSPECT_R2 = 0.8

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Limits:
    """From which score on a column is suspected to know the label.

    Attributes:
        auc: of a label with classes, each against the rest.
        r2: of a label that is a number.
    """

    auc: float = SUSPECT_AUC
    r2: float = SUSPECT_R2


def profile(
    frame: pl.DataFrame, label: str | None = None, limits: Limits | None = None
) -> pl.DataFrame:
    """One row a column: type, missing values, spread, and what it alone says of the label.

    Args:
        frame: the rows, any columns.
        label: column to hold the others against; rows where it is null are left out of `alone`.
        limits: from which on `note` says that a column knows too much.

    Returns:
        column, type, missing (share), distinct, lowest, highest, mean (numbers), usual (the most
        frequent value and its share), shape (a histogram of numbers and times, or the shares of
        the most frequent values), alone (AUC, or R² of a label that is a number; null without a
        label, or where it cannot be said), note (what a person should look at).

    Raises:
        ValueError: no rows, or a label that is not a column or has one value.
    """
    if frame.is_empty():
        raise ValueError("the table has no rows to look at")
    target = _target(frame, label) if label else None
    rows = [_described(frame, name, target, limits or Limits()) for name in frame.columns]
    return pl.DataFrame(rows, schema=_SCHEMA)


def tell_alone(features: pl.DataFrame, label: pl.Series) -> list[tuple[str, float]]:
    """The columns by what each alone says of the label (AUC or R²), the most telling first.

    Raises:
        ValueError: as `profile`.
    """
    found = profile(features.with_columns(label.alias(_LABEL)), _LABEL).drop_nulls("alone")
    return list(found.sort("alone", "column", descending=[True, False])["column", "alone"].rows())


_LABEL = "(label)"
_SCHEMA = {
    "column": pl.String, "type": pl.String, "missing": pl.Float64, "distinct": pl.Int64,
    "lowest": pl.String, "highest": pl.String, "mean": pl.Float64, "usual": pl.String,
    "shape": pl.String, "alone": pl.Float64, "note": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class _Target:
    """The label as numbers: one column for each class, or the number itself."""

    name: str
    known: pl.Series
    columns: list[np.ndarray]
    classes: bool


def _target(frame: pl.DataFrame, label: str) -> _Target:
    if label not in frame.columns:
        raise ValueError(f"no column {label!r} to use as label; there are {frame.columns}")
    known = frame[label].is_not_null()
    values = frame[label].filter(known)
    distinct = values.unique().sort()
    if len(distinct) < 2:
        raise ValueError(f"the label {label!r} has {len(distinct)} values; it takes two to tell")
    if values.dtype.is_numeric() and len(distinct) > 2:
        return _Target(label, known, [values.cast(pl.Float64).to_numpy()], classes=False)
    if len(distinct) > CLASSES:
        raise ValueError(
            f"the label {label!r} is {values.dtype} with {len(distinct)} values; expected a number"
            f" or at most {CLASSES} classes"
        )
    wanted = distinct[1:] if len(distinct) == 2 else distinct
    columns = [(values == value).cast(pl.Float64).to_numpy() for value in wanted]
    return _Target(label, known, columns, classes=True)


def _described(
    frame: pl.DataFrame, name: str, target: _Target | None, limits: Limits
) -> dict[str, object]:
    column = frame[name]
    present = column.drop_nulls()
    if column.dtype.is_float():
        present = present.filter(present.is_finite())
    simple = not column.dtype.is_nested()
    distinct = present.n_unique() if simple else None
    ordered = simple and (column.dtype.is_numeric() or column.dtype.is_temporal())
    alone = None
    if target is not None and name != target.name and simple:
        alone = _alone(column.filter(target.known), target)
    return {
        "column": name,
        "type": _type(column.dtype),
        "missing": 1 - len(present) / len(column),
        "distinct": distinct,
        "lowest": _text(present.min()) if ordered else None,
        "highest": _text(present.max()) if ordered else None,
        "mean": present.mean() if column.dtype.is_numeric() else None,
        "usual": _usual(present) if simple else None,
        "shape": _shape(present, ordered) if simple else None,
        "alone": alone,
        "note": _note(column, present, distinct, alone, target, limits),
    }


def _alone(column: pl.Series, target: _Target) -> float | None:
    """The score of the mean label of the column's bin or level, taken from the other folds."""
    bins = _bins(column)
    fold = np.arange(len(column)) % FOLDS
    scores = [
        _score(label, _out_of_fold(bins, fold, label), target.classes) for label in target.columns
    ]
    known = [score for score in scores if score is not None]
    return max(known) if known else None


def _bins(column: pl.Series) -> np.ndarray:
    """A whole number for each row: the bin of a number or time, the level of all else, or null."""
    number = column.to_physical().cast(pl.Float64) if _is_ordered(column) else None
    if number is not None:
        number = number.fill_nan(None)
        edges = np.unique(number.drop_nulls().to_numpy())
        if len(edges) > BINS:
            edges = np.unique(
                np.quantile(number.drop_nulls().to_numpy(), np.arange(1, BINS) / BINS)
            )
        bins = np.searchsorted(edges, number.fill_null(0).to_numpy(), side="right")
        return np.where(number.is_null().to_numpy(), -1, bins)
    level = column.cast(pl.String).rank("dense")
    return level.cast(pl.Int64).fill_null(-1).to_numpy()


def _is_ordered(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype.is_temporal()


def _out_of_fold(bins: np.ndarray, fold: np.ndarray, label: np.ndarray) -> np.ndarray:
    mean = float(label.mean())
    sums = pl.DataFrame({"bin": bins, "fold": fold, "label": label}).with_columns(
        pl.col("label").sum().over("bin").alias("all"),
        pl.len().over("bin").alias("rows"),
        pl.col("label").sum().over("bin", "fold").alias("own"),
        pl.len().over("bin", "fold").alias("own_rows"),
    )
    others = (pl.col("all") - pl.col("own") + mean * PRIOR_ROWS) / (
        pl.col("rows") - pl.col("own_rows") + PRIOR_ROWS
    )
    return sums.select(others.alias("score"))["score"].to_numpy()


def _score(label: np.ndarray, score: np.ndarray, classes: bool) -> float | None:
    if not classes:
        spread = float(((label - label.mean()) ** 2).sum())
        return max(0.0, 1 - float(((label - score) ** 2).sum()) / spread) if spread else None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else None


def _note(
    column: pl.Series,
    present: pl.Series,
    distinct: int | None,
    alone: float | None,
    target: _Target | None,
    limits: Limits,
) -> str:
    if target is not None and column.name == target.name:
        return "the label"
    notes = []
    if len(present) == 0:
        notes.append("no value at all")
    elif distinct == 1:
        notes.append("one value only: it tells no row from another")
    whole = column.dtype == pl.String or column.dtype.is_integer()
    if whole and distinct == len(column) and len(column) > BINS:
        notes.append("another value in each row: an id, not a feature")
    if alone is not None and target is not None:
        limit, metric = (limits.auc, "AUC") if target.classes else (limits.r2, "R²")
        if alone >= limit:
            notes.append(
                f"leak suspect: alone it reaches {metric} {alone:.3f}; was it known in time?"
            )
    return "; ".join(notes)


def _usual(present: pl.Series) -> str | None:
    if present.is_empty():
        return None
    value, count = (
        present.alias("value")
        .value_counts()
        .sort("count", "value", descending=[True, False])
        .row(0)
    )
    return f"{_text(value)} ({count / len(present):.0%})"


def _shape(present: pl.Series, ordered: bool) -> str:
    if present.is_empty():
        return ""
    if ordered:
        values = present.to_physical().cast(pl.Float64).to_numpy()
        heights = np.histogram(values, bins=min(BARS, max(1, present.n_unique())))[0]
    else:
        heights = present.alias("value").value_counts(sort=True)["count"].head(BARS).to_numpy()
    tallest = heights.max()
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(last * height / tallest)] if height else " " for height in heights)


def _type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return f"Datetime {dtype.time_zone or 'without zone'}"
    return str(dtype)


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}".removesuffix(":00")
    if value is None:
        return None
    return f"{value:.6g}" if isinstance(value, float) else str(value)
