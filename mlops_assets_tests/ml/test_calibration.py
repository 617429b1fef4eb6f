"""calibration.py: the slope is the logistic regression's, and its interval that of refitting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from mlops_assets.ml.calibration import calibration_slope

ROWS, DAYS = 4_000, 25
RANDOM = np.random.default_rng(5)
DAY = RANDOM.integers(0, DAYS, ROWS)
CHANCE = expit(RANDOM.normal(-1.5, 1, ROWS) + RANDOM.normal(0, 0.4, DAYS)[DAY])
LABEL = (RANDOM.random(ROWS) < CHANCE).astype(int)
SCORE = expit(1.6 * logit(CHANCE) - 0.3)


def refitted(rows: np.ndarray) -> float:
    odds = logit(SCORE[rows])[:, None]
    return float(LogisticRegression(C=np.inf).fit(odds, LABEL[rows]).coef_[0, 0])


def test_the_slope_is_that_of_a_logistic_regression():
    assert calibration_slope(LABEL, SCORE, DAY).value == pytest.approx(
        refitted(np.arange(ROWS)), abs=1e-3
    )


def test_the_interval_is_that_of_fitting_again_on_resampled_days():
    by_day = [np.flatnonzero(day == DAY) for day in range(DAYS)]
    slopes = [
        refitted(np.concatenate([by_day[day] for day in RANDOM.integers(0, DAYS, DAYS)]))
        for _ in range(300)
    ]
    found = calibration_slope(LABEL, SCORE, DAY, repetitions=2_000)
    assert [found.low, found.high] == pytest.approx(np.quantile(slopes, [0.025, 0.975]), abs=0.02)


def test_certain_scores_have_a_finite_slope():
    score = np.where(np.arange(ROWS) < 20, 0.0, SCORE)
    assert np.isfinite(calibration_slope(LABEL, score, DAY).value)
