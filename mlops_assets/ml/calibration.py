"""How sure a model is, against how sure it may be: the slope of its recalibration.

The slope is that of a logistic regression of the outcome on the model's own log-odds (Cox 1958):
1 for a model that is as sure as it may be, below 1 for one that is too sure, above 1 for one that
is not sure enough. The intercept is free: a season with more or fewer outcomes than the training
months had, which no model of earlier days can know, moves the intercept and not the slope.
"""

from __future__ import annotations

import numpy as np

from mlops_assets.ml.bootstrap import Interval, block_draws, block_numbers, percentiles
from mlops_assets.ml.metrics import Column, check_both_classes

_CERTAIN = 1e-9
"""Probabilities nearer to 0 or 1 than this count as this near; their log-odds are finite."""
_STEPS, _SMALL_STEP = 50, 1e-9


def calibration_slope(
    label: Column,
    probability: Column,
    block: Column,
    *,
    repetitions: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The slope, with an interval over days.

    A repetition is one Newton step from the fit on all rows, which needs a gradient and a Hessian
    a day instead of all rows again.

    Args:
        label: 0 or 1, shape (rows,).
        probability: chance of 1, shape (rows,).
        block: day of each row, shape (rows,).
        repetitions: number of resamples of the days.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Raises:
        ValueError: scores as in `metrics.check_both_classes`, fewer than two days, scores that are
            all the same, or that separate the labels without a miss.
    """
    from scipy.special import logit

    truth, score = check_both_classes(label, probability)
    day = block_numbers(block, truth.size)
    odds = logit(np.clip(score, _CERTAIN, 1 - _CERTAIN))
    if np.ptp(odds) == 0:
        raise ValueError(f"all {odds.size} scores are {score[0]:.4g}: there is no slope")
    # Centred and scaled, so that a step is as well determined whatever the odds.
    centre, scale = odds.mean(), odds.std()
    design = np.column_stack([np.ones_like(odds), (odds - centre) / scale])
    fitted = _fitted(design, truth)
    gradients, hessians = _by_day(design, truth, fitted, day)
    weight = block_draws(day, repetitions, seed).astype(np.float64)
    steps = np.linalg.solve(
        np.tensordot(weight, hessians, axes=1), (weight @ gradients)[:, :, None]
    )[:, 1, 0]
    return percentiles(fitted[1] / scale, (fitted[1] + steps) / scale, level)


def _fitted(design: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intercept and slope by Newton's method, shape (2,)."""
    everything = np.zeros(truth.size, dtype=np.int64)
    found = np.zeros(2)
    for _ in range(_STEPS):
        gradients, hessians = _by_day(design, truth, found, everything)
        try:
            step = np.linalg.solve(hessians[0], gradients[0])
        except np.linalg.LinAlgError:
            break
        found = found + step
        if np.abs(step).max() < _SMALL_STEP:
            return found
    raise ValueError("the recalibration has no finite slope: the scores separate the labels")


def _by_day(
    design: np.ndarray, truth: np.ndarray, at: np.ndarray, day: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the log likelihood, shape (days, 2), and information, shape (days, 2, 2)."""
    from scipy.special import expit

    chance = expit(design @ at)
    missed, spread = truth - chance, chance * (1 - chance)
    x = design[:, 1]
    gradients = np.column_stack([np.bincount(day, missed), np.bincount(day, missed * x)])
    ones, cross, square = (np.bincount(day, spread * part) for part in (1, x, x * x))
    return gradients, np.stack([ones, cross, cross, square], axis=-1).reshape(-1, 2, 2)
