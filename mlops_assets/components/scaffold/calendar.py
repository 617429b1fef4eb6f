"""How the days of a table are shared out: to train, to validate, to judge, and to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from mlops_assets.components.arrival import KEPT_BACK
from mlops_assets.components.scaffold.look import Table
from mlops_assets.components.scaffold.wanted import Unusable

LEAST_DAYS = 30
_HISTORY = 0.65
"""Share of the days that the first training set has."""
_USUAL = 110
"""Days of history from which on the defaults of validation, folds and holdout fit."""
_LONG = 45
"""Days of history from which on a window of 28 days fits, with the lead and a week's look."""
_ROWS = 500
"""Default of gates.min_rows."""


@dataclass(frozen=True)
class Calendar:
    """Where the first training set ends, the windows (days) that fit into it, and what differs
    from the defaults, part by part."""

    cutoff: date
    windows: tuple[int, int]
    training: dict[str, object]
    gates: dict[str, object]


def calendar(table: Table, known_after_days: int) -> Calendar:
    """Share out the days of a table.

    Raises:
        Unusable: there are too few.
    """
    days = table.days
    if days < LEAST_DAYS:
        raise Unusable(
            f"{days} days ({table.first} to {table.last}) are too few to split by time, which takes"
            f" {LEAST_DAYS}; without --time the rows are split at random"
        )
    history = int(days * _HISTORY)
    training: dict[str, object] = {}
    gates: dict[str, object] = {}
    # What comes after the cut-off, less what is left to arrive day by day.
    after = days - history - min(KEPT_BACK, days // 10) - known_after_days
    holdout = min(28, after)
    if history < _USUAL:
        training = {
            "validation_days": max(3, history // 5),
            "holdout_days": holdout,
            "search": {"folds": 2, "fold_days": max(2, history // 6)},
        }
        gates["min_days"] = max(2, min(14, holdout))
    judged = table.count * holdout // days
    if judged < _ROWS:
        gates["min_rows"] = max(10, judged // 2)
    windows = (7, 28) if history > _LONG else (3, 7)
    return Calendar(table.first + timedelta(days=history - 1), windows, training, gates)
