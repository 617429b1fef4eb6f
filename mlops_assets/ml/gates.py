"""What a candidate must show before it may serve; every gate states both numbers and the margin.

A gate returns a `GateOutcome`, passed or not. Input that cannot be judged (missing scores,
differing lengths, no rows) fails or raises `ValueError`; nothing passes for want of evidence but
the comparison with a champion that does not exist. Limits are arguments: they are the product's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from mlops_assets.ml.bootstrap import Interval, paired_gain
from mlops_assets.ml.metrics import Column, check_scores
from mlops_assets.ml.splits import Days, as_days

REQUIRED = frozenset(
    {
        "sound_scores",
        "enough_rows",
        "untouched_rows",
        "leak_suspect",
        "gain_over_baseline",
        "not_worse_than_champion",
    }
)


@dataclass(frozen=True)
class GateOutcome:
    """One gate's verdict and the evidence for it.

    Attributes:
        name: the gate.
        passed: the verdict.
        value: what was found; None if there was nothing to find.
        limit: what it was held against; None if there is no number.
        margin: by how much it passed, negative by how much it failed.
        low: lower bound of the value's interval, where it has one.
        high: upper bound.
        rows: rows it was judged on.
        detail: the verdict in a sentence, with its numbers.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    margin: float | None
    low: float | None
    high: float | None
    rows: int
    detail: str


def gain_over_baseline(
    label: Column,
    p: Column,
    p_baseline: Column,
    block: Column,
    *,
    min_gain: float = 0.0,
    repetitions: int = 500,
    seed: int = 0,
) -> GateOutcome:
    """Pass where the candidate beats the baseline in log loss beyond the chance of the days.

    The lower bound of the 95 % interval of the paired gain (nats a row) must exceed `min_gain`.
    """
    _require_finite("min_gain", min_gain)
    gain = paired_gain(label, p, p_baseline, block, repetitions=repetitions, seed=seed)
    return _gain_outcome("gain_over_baseline", gain, min_gain, np.size(p), "the baseline")


def not_worse_than_champion(
    label: Column,
    p: Column,
    p_champion: Column | None,
    block: Column,
    *,
    margin: float,
    repetitions: int = 500,
    seed: int = 0,
) -> GateOutcome:
    """Pass where the candidate is at most `margin` worse than the champion in log loss.

    The one-sided 95 % lower bound of the paired gain (nats a row) must exceed `-margin`
    (non-inferiority). Without a champion (None) it passes and says so.
    """
    name = "not_worse_than_champion"
    _require_finite("margin", margin)
    if margin < 0:
        raise ValueError(f"margin is {margin}, expected 0 or more nats of log loss")
    if p_champion is None:
        check_scores(label, p)
        return _outcome(name, True, None, -margin, None, np.size(p), "no champion yet")
    # A two-sided 90 % interval ends below at the one-sided 95 % bound.
    gain = paired_gain(label, p, p_champion, block, repetitions=repetitions, seed=seed, level=0.90)
    return _gain_outcome(name, gain, -margin, np.size(p), "the champion")


def leak_suspect(label: Column, p: Column, limit: float = 0.82) -> GateOutcome:
    """Fail where the AUC is too good to be honest: a feature probably knows the outcome."""
    from sklearn.metrics import roc_auc_score

    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}, expected an AUC above 0, at most 1")
    truth, score = check_scores(label, p)
    if truth.min() == truth.max():
        detail = f"all {truth.size} labels are {int(truth[0])}: the AUC is undefined"
        return _outcome("leak_suspect", False, None, limit, None, truth.size, detail)
    auc = float(roc_auc_score(truth, score))
    passed = auc < limit
    detail = f"AUC {auc:.4f}, expected below {limit:.4f}"
    if not passed:
        detail += "; does a feature know what happened after the prediction time?"
    return _outcome("leak_suspect", passed, auc, limit, limit - auc, truth.size, detail)


def sound_scores(p: Column, label: Column) -> GateOutcome:
    """Fail on scores that are missing, infinite, outside [0, 1] or all the same; never raise."""
    rows, distinct = np.size(p), 0
    try:
        _, score = check_scores(label, p)
        distinct = int(np.unique(score).size)
        detail = f"{distinct} distinct scores in {rows} rows"
        if distinct == 1:
            detail += f", all {score[0]:.4g}: the model tells no row from another"
    except (ValueError, TypeError) as error:
        detail = str(error)
    return _outcome("sound_scores", distinct > 1, distinct, 2, distinct - 2, rows, detail)


def enough_rows(rows: int, days: int, min_rows: int, min_days: int) -> GateOutcome:
    """Pass where there is enough to judge by; no rows or no days never suffice.

    The outcome's value is the rows, or the days where only they are too few.
    """
    rows_suffice, days_suffice = rows >= max(min_rows, 1), days >= max(min_days, 1)
    detail = f"{rows} rows on {days} days, expected at least {min_rows} rows on {min_days} days"
    value, limit = (days, min_days) if rows_suffice and not days_suffice else (rows, min_rows)
    passed = rows_suffice and days_suffice
    return _outcome("enough_rows", passed, value, limit, value - limit, rows, detail)


def untouched_rows(days: Days, trained_through: Mapping[str, date | None]) -> GateOutcome:
    """Fail where a model was trained through an evaluation day; it names the models.

    Args:
        days: day of each evaluation row, shape (rows,).
        trained_through: last day that each compared model's training saw; None is unknown, which
            fails.
    """
    column = as_days(days)
    if not column.size or not trained_through:
        detail = (
            f"{column.size} evaluation rows and {len(trained_through)} models: nothing to judge"
        )
        return _outcome("untouched_rows", False, None, None, None, column.size, detail)
    first = column.min().astype(date)
    touched = {
        model: through
        for model, through in trained_through.items()
        if through is None or through >= first
    }
    seen = [_overlap(column, through) for through in trained_through.values()]
    if touched:
        names = ", ".join(
            f"{model} saw days through {day or 'one unknown'}" for model, day in touched.items()
        )
        detail = f"evaluation starts on {first}, but {names}"
    else:
        detail = f"evaluation starts on {first}, after every model's training cut-off"
    worst = max(seen)
    return _outcome("untouched_rows", not touched, worst, 0, -worst, column.size, detail)


def decide(outcomes: Iterable[GateOutcome], required: Collection[str] = REQUIRED) -> bool:
    """Whether all gates passed and none of the required ones is absent."""
    judged = list(outcomes)
    present = {outcome.name for outcome in judged}
    return present.issuperset(required) and bool(judged) and all(o.passed for o in judged)


def _overlap(column: np.ndarray, through: date | None) -> int:
    """Evaluation rows that a model trained through a day has seen; all if that is unknown."""
    if through is None:
        return column.size
    return int(np.count_nonzero(column <= np.datetime64(through, "D")))


def _gain_outcome(name: str, gain: Interval, limit: float, rows: int, rival: str) -> GateOutcome:
    detail = (
        f"log loss {abs(gain.value):.4f} {'below' if gain.value >= 0 else 'above'} {rival}'s; "
        f"lower bound of the gain {gain.low:+.4f}, expected above {limit:+.4f}"
    )
    passed = gain.low > limit
    return _outcome(name, passed, gain.value, limit, gain.low - limit, rows, detail, gain)


def _outcome(
    name: str,
    passed: bool,
    value: float | None,
    limit: float | None,
    margin: float | None,
    rows: int,
    detail: str,
    interval: Interval | None = None,
) -> GateOutcome:
    return GateOutcome(
        name=name,
        passed=bool(passed),
        value=None if value is None else float(value),
        limit=limit,
        margin=None if margin is None else float(margin),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        rows=rows,
        detail=detail,
    )


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number of nats of log loss")
