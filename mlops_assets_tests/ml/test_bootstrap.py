"""bootstrap.py: the weighted areas against scikit-learn, and intervals that behave."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from mlops_assets.ml.bootstrap import (
    RankedScores,
    bootstrap_metrics,
    paired_gain,
)

ROWS, DAYS = 4_000, 40


@pytest.fixture
def scored():
    rng = np.random.default_rng(3)
    day = np.arange(ROWS) % DAYS
    probability = np.clip(rng.beta(1, 3, ROWS) + rng.normal(0, 0.1, DAYS)[day], 0.01, 0.99)
    return rng.random(ROWS) < probability, probability, day


rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=60
)


@given(rows=rows, weight=st.lists(st.integers(0, 5), min_size=4, max_size=4))
@settings(deadline=None, max_examples=150)
def test_weighted_areas_are_scikit_learns_ties_included(rows, weight):
    label, score, block = (np.array(column) for column in zip(*rows, strict=True))
    score, weight = score / 8, np.array(weight)
    ranked = RankedScores(label, score, block)
    row_weight = weight[block]
    if not row_weight[label].sum() or not row_weight[~label].sum():
        assert np.isnan(ranked.auc(weight))
        assert np.isnan(ranked.aucs(np.array([weight, weight]))).all()
        assert np.isnan(ranked.pr_auc(weight))
        return
    kept = row_weight > 0
    expected = (label[kept], score[kept])
    assert ranked.auc(weight) == pytest.approx(
        roc_auc_score(*expected, sample_weight=row_weight[kept])
    )
    # To the digit, by pairs of blocks and, of few weightings, row by row.
    for weights in (np.array([weight, weight]), weight[None]):
        assert set(ranked.aucs(weights)) == {ranked.auc(weight)}
    assert ranked.pr_auc(weight) == pytest.approx(
        average_precision_score(*expected, sample_weight=row_weight[kept])
    )


def test_values_are_those_of_all_rows_and_lie_within(scored):
    label, probability, day = scored
    found = bootstrap_metrics(label, probability, day, seed=0)
    assert found["auc"].value == pytest.approx(roc_auc_score(label, probability))
    assert found["pr_auc"].value == pytest.approx(average_precision_score(label, probability))
    assert found["log_loss"].value == pytest.approx(log_loss(label, probability))
    for interval in found.values():
        assert interval.low < interval.value < interval.high


def test_a_repetition_is_the_rows_of_the_days_it_draws(scored):
    label, probability, day = scored
    drawn = np.random.default_rng(0).multinomial(DAYS, [1 / DAYS] * DAYS, size=200)
    areas, losses = [], []
    for weight in drawn:
        rows = np.repeat(np.arange(ROWS), weight[day])
        areas.append(roc_auc_score(label[rows], probability[rows]))
        losses.append(log_loss(label[rows], probability[rows]))
    found = bootstrap_metrics(label, probability, day, seed=0)
    for name, values in {"auc": areas, "log_loss": losses}.items():
        bounds = [found[name].low, found[name].high]
        assert bounds == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_the_same_seed_gives_the_same_interval(scored):
    first, again, other = (bootstrap_metrics(*scored, seed=seed) for seed in (7, 7, 8))
    assert first == again != other


def test_one_class_leaves_the_areas_out():
    assert set(bootstrap_metrics([0, 0], [0.1, 0.2], [1, 2], seed=0)) == {"log_loss", "brier"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([1, 1, 1], "at least 2 days, got 1"),
        ([1, 2], "expected the day of each of 3 rows"),
        (np.array(["2013-08-01", "2013-08-02", "NaT"], dtype="datetime64[D]"), "1 of 3 rows"),
        (pl.Series([1, 2, None]), "1 of 3 rows"),
        (pl.Series([date(2013, 8, 1), date(2013, 8, 2), None]), "1 of 3 rows"),
    ],
)
def test_days_that_cannot_be_resampled_are_refused(block, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_metrics([0, 1, 1], [0.1, 0.2, 0.3], block, seed=0)


@pytest.mark.parametrize("bad", [{"level": 1.5}, {"repetitions": 0}])
def test_settings_out_of_range_are_refused(scored, bad):
    with pytest.raises(ValueError, match="expected"):
        bootstrap_metrics(*scored, seed=0, **bad)


@pytest.mark.parametrize("metric", ["log_loss", "auc"])
def test_the_gain_is_paired_signed_and_zero_for_itself(scored, metric):
    label, good, day = scored
    poor = np.clip(good + np.random.default_rng(4).normal(0, 0.3, ROWS), 0.01, 0.99)
    gain = paired_gain(label, good, poor, day, metric)
    loss = paired_gain(label, poor, good, day, metric)
    assert 0 < gain.low < gain.value < gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert paired_gain(label, good, good, day, metric).high == 0
    alone = bootstrap_metrics(label, good, day, seed=0)[metric]
    assert gain.high - gain.low < 2 * (alone.high - alone.low)


def test_a_gain_on_unsound_input_is_refused(scored):
    label, probability, day = scored
    holed = np.where(np.arange(ROWS) == 0, np.nan, probability)
    for new, old in ((holed, probability), (probability, holed)):
        with pytest.raises(ValueError, match="1 of 4000 rows are missing"):
            paired_gain(label, new, old, day)
    with pytest.raises(ValueError, match="one length"):
        paired_gain(label, probability, probability[1:], day)
    with pytest.raises(ValueError, match="expected log_loss or auc"):
        paired_gain(label, probability, probability, day, "accuracy")
    with pytest.raises(ValueError, match="need both classes"):
        paired_gain(np.zeros(ROWS), probability, probability, day, "auc")
