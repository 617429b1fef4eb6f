"""Splits by time: a model is fitted on earlier days and judged on later ones, never shuffled.

Days are calendar days in the product's own time zone, one a row: dates, or datetime64.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TypeAlias

import numpy as np
import polars as pl

Days: TypeAlias = np.ndarray | pl.Series | Sequence[date]


def time_folds(days: Days, folds: int, valid_days: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds with an expanding training window, earliest first.

    The last `folds` x `valid_days` days that have rows are cut into blocks of `valid_days`; each
    fold validates on one block and trains on every day before it.

    Args:
        days: day of each row, shape (rows,), in any order.
        folds: number of folds.
        valid_days: days in each validation block.

    Returns:
        (training rows, validation rows) a fold, as indices into `days`, ascending.

    Raises:
        ValueError: counts below 1, a missing day, or too few days to leave one for training.
    """
    if folds < 1 or valid_days < 1:
        raise ValueError(f"folds is {folds}, valid_days is {valid_days}: expected at least 1 each")
    column = as_days(days)
    distinct = np.unique(column)
    needed = folds * valid_days + 1
    if distinct.size < needed:
        raise ValueError(
            f"{folds} folds of {valid_days} days need at least {needed} days "
            f"(one to train on), got {distinct.size}; take fewer folds or more days"
        )
    blocks = distinct[-folds * valid_days :].reshape(folds, valid_days)
    return [
        (np.flatnonzero(column < block[0]), _between(column, block[0], block[-1]))
        for block in blocks
    ]


def split_by_day(days: Days, cutoff: date, validation_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Train on the days up to `cutoff - validation_days`, validate on the rest through `cutoff`.

    Args:
        days: day of each row, shape (rows,), in any order.
        cutoff: last day that may be used; later rows are in neither part.
        validation_days: calendar days in the validation part.

    Returns:
        Two boolean masks of shape (rows,): training, validation.

    Raises:
        ValueError: `validation_days` below 1, a missing day, or a part without rows.
    """
    if validation_days < 1:
        raise ValueError(f"validation_days is {validation_days}, expected at least 1")
    column = as_days(days)
    last_train = cutoff - timedelta(days=validation_days)
    train = column <= np.datetime64(last_train, "D")
    valid = ~train & (column <= np.datetime64(cutoff, "D"))
    for part, mask in {"training": train, "validation": valid}.items():
        if not mask.any():
            span = f"{column.min()} to {column.max()}" if column.size else "no days at all"
            raise ValueError(
                f"no {part} rows: the cut-off is {cutoff}, validation starts after {last_train}, "
                f"the rows span {span}"
            )
    return train, valid


def as_days(days: Days) -> np.ndarray:
    """Days as datetime64[D]; `ValueError` if one is missing."""
    column = np.asarray(days, dtype="datetime64[D]")
    if missing := int(np.count_nonzero(np.isnat(column))):
        raise ValueError(f"{missing} of {column.size} rows have no day")
    return column


def _between(column: np.ndarray, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    return np.flatnonzero((column >= first) & (column <= last))
