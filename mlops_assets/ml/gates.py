"""What a candidate must show before it may serve; every gate states both numbers and the margin.

A gate returns a `GateOutcome`, passed or not. Input that cannot be judged (missing scores,
differing lengths, no rows) fails or raises `ValueError`; nothing passes for want of evidence but
the comparison with a champion that does not exist. Limits are arguments: they are the product's.

Here are the gates on scores. row_gates.py has those on the rows, the columns and the features,
compliance_gates.py those on people and licences, cost_gates.py those on what a served model costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.metrics import Column
from mlops_assets.ml.profile import tell_alone
from mlops_assets.ml.targets import BINARY, Target

_NAMED = 5
"""Columns that a verdict names."""

JUDGED = {
    "same_schema": "The model reads the product's columns, in order, and no others.",
    "sound_scores": "Scores are what the task's scores must be, and more than one of them.",
    "enough_rows": "There are enough rows and days to judge on.",
    "distinct_rows": "No row is judged twice.",
    "untouched_rows": "No row that is judged was trained on, by any of the models.",
    "known_in_time": "Features hold what was known at the prediction time, computed once more.",
    "leak_suspect": "The model is not too good to be true.",
    "gain_over_baseline": "The loss is below the best baseline's, paired, beyond chance.",
    "calibrated": "The model is not surer than the outcomes allow.",
    "not_worse_than_champion": "The loss is not above the champion's by more than the margin.",
    "no_personal_data": "No column that is marked personal reaches the model or the log.",
    "even_for_groups": "No sensitive group is served worse than declared.",
    "licences_stated": "The licences of all raw tables are stated, and none is refused.",
}
"""The gates on the model and its scores, and what each says."""

TRIED = {
    "answers_as_batch": "The running Bento answers as the batch path does.",
    "online_as_offline": "What the running Bento looks up is what the feature view has.",
    "fast_enough": "The running Bento answers one row, and many, within the budget.",
    "small_enough": "The model's files and the server's memory are within the budget.",
}
"""The gates on the Bento that was built, and what each says."""

REQUIRED = frozenset({*JUDGED, *TRIED})
"""All of them must have passed; one that was not judged has not."""

ONE_SIDED = 0.90
"""Level of a two-sided interval that ends below at the one-sided 95 % bound."""


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
    rival: str = "the baseline's",
    target: Target = BINARY,
) -> GateOutcome:
    """Pass where the candidate beats the baseline in the target's loss beyond chance.

    The lower bound of the 95 % interval of the paired gain (nats a row, or a share of the
    baseline's loss) must exceed `min_gain`. `rival` is what the baseline's loss is called.
    """
    _require_finite("min_gain", min_gain, target)
    gain = target.gain(label, p, p_baseline, block, repetitions=repetitions, seed=seed)
    return _gain_outcome("gain_over_baseline", gain, min_gain, len(p), rival, target)


def not_worse_than_champion(
    label: Column,
    p: Column,
    p_champion: Column | None,
    block: Column,
    *,
    margin: float,
    repetitions: int = 500,
    seed: int = 0,
    target: Target = BINARY,
) -> GateOutcome:
    """Pass where the candidate is at most `margin` worse than the champion in the target's loss.

    The one-sided 95 % lower bound of the paired gain (nats a row, or a share of the champion's
    loss) must exceed `-margin` (non-inferiority). Without a champion (None) it passes and says so.
    """
    name = "not_worse_than_champion"
    _require_finite("margin", margin, target)
    if margin < 0:
        raise ValueError(f"margin is {margin}, expected 0 or more {target.unit}")
    if p_champion is None:
        target.check(label, p)
        return outcome(name, True, None, -margin, None, len(p), "no champion yet")
    gain = target.gain(
        label, p, p_champion, block, repetitions=repetitions, seed=seed, level=ONE_SIDED
    )
    return _gain_outcome(name, gain, -margin, len(p), "the champion's", target)


def leak_suspect(
    label: Column,
    p: Column,
    limit: float = 0.82,
    target: Target = BINARY,
    features: pl.DataFrame | None = None,
) -> GateOutcome:
    """Fail where the model is too good to be honest: a feature probably knows the outcome.

    Judged is the AUC, or the share of the loss that is explained (`Target.plausibility`). A limit
    of 1 suspects none. `features`, of the same rows, say which column is suspected.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}, expected above 0, at most 1")
    truth, score = target.check(label, p)
    try:
        name, found = target.plausibility(truth, score)
    except ValueError as error:
        return outcome("leak_suspect", False, None, limit, None, truth.size, str(error))
    passed = found < limit or limit == 1
    detail = f"{name} {found:.4f}, expected below {limit:.4f}"
    if not passed:
        field = "leak_explained" if target.task == "regression" else "leak_auc"
        detail += (
            "; does a feature know what happened after the prediction time?"
            f"{_alone(label, features, limit)} If all is known in time and the table is that easy,"
            f" raise gates.{field} in the product's defs.yaml; 1 suspects none"
        )
    return outcome("leak_suspect", passed, found, limit, limit - found, truth.size, detail)


def _alone(label: Column, features: pl.DataFrame | None, limit: float) -> str:
    """Which columns alone say as much of the label, in words; empty where nothing can be said."""
    if features is None:
        return ""
    try:
        told = tell_alone(features, pl.Series(label))
    except ValueError:
        return ""
    by = [f"{column} {score:.4f}" for column, score in told if score >= limit]
    if by:
        more = f" and {len(by) - _NAMED} more" if len(by) > _NAMED else ""
        return f" Alone reach it {', '.join(by[:_NAMED])}{more}."
    most = ", ".join(f"{column} {score:.4f}" for column, score in told[:_NAMED])
    return f" No column alone reaches it; the most telling are {most}." if most else ""


def calibrated(
    label: Column,
    p: Column,
    block: Column,
    *,
    min_slope: float,
    repetitions: int = 500,
    seed: int = 0,
    target: Target = BINARY,
) -> GateOutcome:
    """Fail where the model is too sure of itself: it says more than the outcomes allow.

    The one-sided 95 % lower bound of the slope of the outcomes on the predictions (`Target.slope`;
    of the log-odds see calibration.py) must exceed `min_slope`. Log-odds three times too large have
    a slope of a third. A slope above 1, too little confidence, costs loss and is left to the gates
    that compare it.
    """
    if not 0 < min_slope < 1:
        raise ValueError(f"min_slope is {min_slope}, expected between 0 and 1, say 0.7")
    truth, score = target.check(label, p)
    try:
        slope = target.slope(
            truth, score, block, repetitions=repetitions, seed=seed, level=ONE_SIDED
        )
    except ValueError as error:
        return outcome("calibrated", False, None, min_slope, None, len(p), str(error))
    said = "predictions" if target.task == "regression" else "log-odds"
    detail = (
        f"slope of the outcomes on its {said} {slope.value:.2f}, lower bound {slope.low:.2f},"
        f" expected above {min_slope:.2f}"
    )
    passed = slope.low > min_slope
    margin = slope.low - min_slope
    return outcome("calibrated", passed, slope.value, min_slope, margin, len(p), detail, slope)


def sound_scores(
    p: Column, label: Column, problem: str = "", target: Target = BINARY
) -> GateOutcome:
    """Fail on scores that the target cannot have, or that are all the same; never raise.

    `problem` says why a model gave none.
    """
    rows, distinct = np.shape(p)[0] if np.ndim(p) else 0, 0
    try:
        if problem:
            raise ValueError(problem)
        _, score = target.check(label, p)
        distinct = len(np.unique(score, axis=0))
        detail = f"{distinct} distinct scores in {rows} rows"
        if distinct == 1:
            said = ", ".join(f"{each:.4g}" for each in np.atleast_1d(score[0]))
            detail += f", all {said}: the model tells no row from another"
    except (ValueError, TypeError) as error:
        detail = str(error)
    return outcome("sound_scores", distinct > 1, distinct, 2, distinct - 2, rows, detail)


def _gain_outcome(
    name: str, gain: Interval, limit: float, rows: int, rival: str, target: Target
) -> GateOutcome:
    loss = target.metric.replace("_", " ")
    by = f"{abs(gain.value):.1%}" if target.is_relative else f"{abs(gain.value):.4f}"
    detail = (
        f"{loss} {by} {'below' if gain.value >= 0 else 'above'} {rival}; "
        f"lower bound of the gain {gain.low:+.4f}, expected above {limit:+.4f}"
    )
    passed = gain.low > limit
    return outcome(name, passed, gain.value, limit, gain.low - limit, rows, detail, gain)


def outcome(
    name: str,
    passed: bool,
    value: float | None,
    limit: float | None,
    margin: float | None,
    rows: int,
    detail: str,
    interval: Interval | None = None,
) -> GateOutcome:
    """An outcome with its numbers as plain floats."""
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


def _require_finite(name: str, value: float, target: Target) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number ({target.unit})")
