"""Schedules against brute force, percentiles and regret against cases that are known by hand."""

from __future__ import annotations

from datetime import date
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.backtest import (
    grid_days,
    judge,
    month_ends,
    paired_share,
    schedule_losses,
    schedules,
)
from mlops_assets.ml.backtest_picture import backtest_picture

SINCE = np.array([0, 3, 5, 8])


def test_dates_of_a_month_and_of_a_week():
    assert month_ends(date(2013, 4, 1), date(2013, 6, 30)) == [date(2013, 4, 30), date(2013, 5, 31)]
    assert month_ends(date(2013, 4, 1), date(2013, 4, 30)) == []
    assert grid_days(date(2013, 4, 1), date(2013, 4, 16)) == [
        date(2013, 4, 1), date(2013, 4, 8), date(2013, 4, 15),
    ]  # fmt: skip
    assert grid_days(date(2013, 4, 1), date(2013, 4, 15))[-1] == date(2013, 4, 8)


def test_all_schedules_or_as_many_as_are_drawn():
    every = {tuple(row) for row in schedules(6, 2)}
    assert every == set(combinations(range(1, 6), 2))
    drawn = schedules(40, 5, most=500)
    assert drawn.shape == (500, 5)
    assert (np.diff(drawn, axis=1) > 0).all()
    assert (drawn.min(), drawn.max()) == (1, 39)
    with pytest.raises(ValueError, match="4 retrains of 3 dates"):
        schedules(4, 4)


def test_losses_of_schedules_are_those_that_a_day_by_day_sum_finds():
    losses = np.random.default_rng(1).random((4, 12))
    chosen = schedules(4, 2)
    for own, row in zip(schedule_losses(losses, SINCE, chosen), chosen, strict=True):
        served = [max([0, *(m for m in row if SINCE[m] <= day)]) for day in range(12)]
        assert own == pytest.approx(sum(losses[m, day] for day, m in enumerate(served)))


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Two seeds, four models, twelve days; the third model is the best, by far, from its day on."""
    losses = np.full((2, 4, 12), 10.0)
    losses[:, 2] = 5.0
    return losses, np.full(12, 20)


def test_the_best_schedule_beats_the_others_and_has_no_regret():
    losses, rows = planted()
    own = np.where(np.arange(12) >= 5, 5.0, 10.0)
    found = judge(losses, SINCE, np.array([own, own]), 1, rows, repetitions=50)
    assert found.schedules == 3
    assert found.best == (2,)
    # It ties with itself, and beats the two others.
    assert found.percentile.value == pytest.approx(2.5 / 3)
    assert found.regret.value == found.regret.low == found.regret.high == 0


def test_the_worst_schedule_beats_none_and_its_regret_is_a_row_s_share():
    losses, rows = planted()
    own = np.full((2, 12), 11.0)
    found = judge(losses, SINCE, own, 1, rows, repetitions=50)
    assert found.percentile.value == 0
    # 132 against 5 days of 10 and 7 of 5, over 240 rows.
    assert found.regret.value == pytest.approx((132 - 85) / 240)
    assert found.regret.low < found.regret.value < found.regret.high


def test_a_relative_regret_is_a_share_of_the_best():
    losses, rows = planted()
    own = np.full((2, 12), 11.0)
    found = judge(losses, SINCE, own, 1, rows, relative=True, repetitions=50)
    assert found.regret.value == pytest.approx((132 - 85) / 85)
    assert found.regret.low < found.regret.value < found.regret.high


def test_the_share_that_a_policy_keeps():
    frozen, most = np.full(10, 4.0), np.full(10, 2.0)
    half = paired_share(frozen, most, np.full(10, 3.0))
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_share(frozen, most, frozen).value == 0
    assert paired_share(frozen, most, np.full(10, 5.0)).value == -0.5
    with pytest.raises(ValueError, match="10, 10 and 9 days"):
        paired_share(frozen, most, np.full(9, 2.0))


def test_a_share_of_next_to_nothing_has_a_wide_interval():
    rng = np.random.default_rng(3)
    frozen, noise = rng.normal(4, 1, 60), rng.normal(0, 1, 60)
    most = frozen - (noise - noise.mean() + 0.02)
    found = paired_share(frozen, most, frozen + rng.normal(0, 1, 60))
    assert found.high - found.low > 2


def test_where_retraining_loses_there_is_nothing_to_keep_a_share_of():
    frozen = np.full(10, 2.0)
    for most in (np.full(10, 3.0), frozen):
        found = paired_share(frozen, most, np.full(10, 3.0))
        assert np.isnan([found.value, found.low, found.high]).all()


SHOWN = [{"log_loss": "nats", "auc": ""}, {"absolute_error": "the label's unit"}]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: next(iter(shown)))
def test_the_picture_needs_months(shown):
    figures = pl.DataFrame(
        {"period": ["2013-04", "2013-05", "test"], "policy": ["loop"] * 3}
        | {f"{m}{e}": [0.4, 0.5, 0.6] for m in shown for e in ("", "_low", "_high")}
    )
    asked = {"names": {"loop": "our loop"}, "shown": shown}
    cases = pl.DataFrame({"day": [date(2013, 4, 28)], "verdict": ["retrain"]})
    served = [date(2013, 4, 29)]
    png = backtest_picture(figures, cases, served, title="a walk", **asked)
    assert png.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no row of a month"):
        backtest_picture(figures.tail(1), cases, served, title="", **asked)
