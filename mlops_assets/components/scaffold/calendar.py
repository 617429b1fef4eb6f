"""How the days or other periods of a table are shared out: to train, to judge, and to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from mlops_assets.components.arrival import KEPT_BACK
from mlops_assets.components.scaffold.look import Table
from mlops_assets.components.scaffold.wanted import Unusable, Wanted
from mlops_assets.ml.periods import Periods

LEAST_DAYS = 30
_HISTORY = 0.65
"""Share of the days that the first training set has."""
_USUAL = 110
"""Days of history from which on the defaults of validation, folds and holdout fit."""
_LONG = 45
"""Days of history from which on a window of 28 days fits, with the lead and a week's look."""
_ROWS = 500
"""Default of gates.min_rows."""
_LEAST = {"week": 78, "month": 30}
_HELD_OUT = {"week": 12, "month": 6}
"""As usual.py has it."""


@dataclass(frozen=True)
class Calendar:
    """Where the first training set ends, the windows (days) that fit into it, and what differs
    from the defaults, part by part."""

    cutoff: date
    windows: tuple[int, int]
    training: dict[str, object]
    gates: dict[str, object]


def calendar(table: Table, wanted: Wanted, known_after_days: int) -> Calendar:
    """Share out the days of a table, or its weeks or months.

    Raises:
        Unusable: there are too few.
    """
    if wanted.periods.every in _LEAST:
        return _of_periods(table, wanted.periods)
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


def whole(table: Table, periods: Periods) -> list[date]:
    """The periods all of whose days lie between the first and the last of a table."""
    first, last = periods.of(table.first), periods.ended_by(table.last)
    return periods.between(first if first == table.first else periods.step(first), last)


def _of_periods(table: Table, periods: Periods) -> Calendar:
    """Weeks or months; validation, holdout and the rest are what is usual for them."""
    come = whole(table, periods)
    if len(come) < _LEAST[periods.every]:
        raise Unusable(
            f"{len(come)} whole {periods} ({table.first} to {table.last}) are too few to split by"
            f" time, which takes {_LEAST[periods.every]}; leave --partitioning out for days"
        )
    judged = table.count * _HELD_OUT[periods.every] // len(come)
    gates: dict[str, object] = {"min_rows": max(10, judged // 2)} if judged < _ROWS else {}
    windows = (28, 84) if periods.every == "week" else (92, 184)
    return Calendar(come[int(len(come) * _HISTORY) - 1], windows, {}, gates)
