"""gates.py: each gate passes what it should, and nothing passes for want of evidence."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.gates import (
    calibrated,
    gain_over_baseline,
    leak_suspect,
    not_worse_than_champion,
    sound_scores,
)
from mlops_assets.ml.targets import Multiclass, Regression

ROWS, DAYS = 3_000, 30
DAY = np.arange(ROWS) % DAYS
RNG = np.random.default_rng(6)
TRUE_CHANCE = RNG.beta(1, 3, ROWS)
LABEL = (RNG.random(ROWS) < TRUE_CHANCE).astype(int)
GOOD = np.clip(TRUE_CHANCE, 0.01, 0.99)
CONSTANT = np.full(ROWS, LABEL.mean())
WORSE = np.clip(GOOD + RNG.normal(0, 0.05, ROWS), 0.01, 0.99)


def test_gain_over_baseline_passes_with_both_numbers_and_the_margin():
    outcome = gain_over_baseline(LABEL, GOOD, CONSTANT, DAY, min_gain=0.01)
    assert outcome.passed is True
    assert outcome.low < outcome.value < outcome.high
    assert outcome.limit == 0.01
    assert outcome.margin == pytest.approx(outcome.low - 0.01)
    assert outcome.rows == ROWS
    assert "below the baseline's" in outcome.detail


@pytest.mark.parametrize(
    "judged",
    [
        gain_over_baseline(LABEL, CONSTANT, GOOD, DAY),
        gain_over_baseline(LABEL, GOOD, GOOD, DAY),
        gain_over_baseline(LABEL, GOOD, CONSTANT, DAY, min_gain=0.5),
        not_worse_than_champion(LABEL, CONSTANT, GOOD, DAY, margin=0.001),
        not_worse_than_champion(LABEL, GOOD, GOOD, DAY, margin=0.0),
    ],
)
def test_too_little_gain_fails(judged):
    assert judged.passed is False
    assert judged.margin <= 0


def test_the_margin_allows_a_slightly_worse_candidate_and_no_more():
    strict = not_worse_than_champion(LABEL, WORSE, GOOD, DAY, margin=0.0)
    loose = not_worse_than_champion(LABEL, WORSE, GOOD, DAY, margin=0.1)
    assert (strict.passed, loose.passed) == (False, True)
    assert loose.limit == -0.1


def test_the_champion_bound_is_one_sided():
    two_sided = gain_over_baseline(LABEL, WORSE, GOOD, DAY)
    one_sided = not_worse_than_champion(LABEL, WORSE, GOOD, DAY, margin=0.1)
    assert one_sided.value == two_sided.value
    assert one_sided.low > two_sided.low


def test_without_a_champion_it_passes_and_says_so():
    outcome = not_worse_than_champion(LABEL, GOOD, None, DAY, margin=0.01)
    assert (outcome.passed, outcome.detail) == (True, "no champion yet")


NAN = np.where(DAY == 3, np.nan, GOOD)
UNJUDGEABLE = [(NAN, LABEL), (GOOD[1:], LABEL), (GOOD[:0], LABEL[:0]), (GOOD + 1, LABEL)]


@pytest.mark.parametrize(("p", "label"), UNJUDGEABLE)
def test_no_gate_passes_what_cannot_be_judged(p, label):
    assert sound_scores(p, label).passed is False
    baseline, block = CONSTANT[: len(label)], DAY[: len(label)]
    for judge in (
        lambda: gain_over_baseline(label, p, baseline, block),
        lambda: gain_over_baseline(label, baseline, p, block),
        lambda: not_worse_than_champion(label, p, baseline, block, margin=0.1),
        lambda: not_worse_than_champion(label, baseline, p, block, margin=0.1),
        lambda: not_worse_than_champion(label, p, None, block, margin=0.1),
        lambda: leak_suspect(label, p),
        lambda: calibrated(label, p, block, min_slope=0.7),
    ):
        with pytest.raises(ValueError):
            judge()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_limit_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        gain_over_baseline(LABEL, GOOD, CONSTANT, DAY, min_gain=bad)
    with pytest.raises(ValueError, match="expected"):
        not_worse_than_champion(LABEL, GOOD, CONSTANT, DAY, margin=bad)
    with pytest.raises(ValueError, match="expected"):
        leak_suspect(LABEL, GOOD, limit=bad)
    with pytest.raises(ValueError, match="expected"):
        calibrated(LABEL, GOOD, DAY, min_slope=bad)


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        not_worse_than_champion(LABEL, GOOD, None, DAY, margin=-0.1)


def test_a_score_too_good_is_a_suspected_leak():
    assert leak_suspect(LABEL, GOOD).passed
    leaked = leak_suspect(LABEL, np.clip(LABEL * 0.9 + 0.05, 0, 1))
    assert not leaked.passed
    assert leaked.margin == pytest.approx(0.82 - 1)
    assert "after the prediction time" in leaked.detail
    assert leak_suspect([0, 1, 1], [0.5, 0.5, 0.5], limit=0.5).passed is False


def test_a_suspected_leak_names_the_columns_and_the_field_to_raise():
    known = np.clip(LABEL * 0.9 + 0.05, 0, 1)
    noise = pl.Series(RNG.normal(size=ROWS))
    features = pl.DataFrame({"noise": noise, "paid": LABEL, "chance": TRUE_CHANCE})
    leaked = leak_suspect(LABEL, known, 0.99, features=features)
    assert "Alone reach it paid 1.0000. If all is known in time" in leaked.detail
    assert "raise gates.leak_auc in the product's defs.yaml; 1 suspects none" in leaked.detail
    together = leak_suspect(LABEL, known, 0.99, features=features.drop("paid"))
    assert "No column alone reaches it; the most telling are chance 0.7" in together.detail
    many = pl.DataFrame({f"copy_{n}": LABEL for n in range(7)})
    assert "copy_4 1.0000 and 2 more" in leak_suspect(LABEL, known, features=many).detail


def test_a_suspected_leak_of_classes_and_of_numbers_names_columns_too():
    words = pl.Series(["a b", "ü", "c"] * (ROWS // 3))
    target = Multiclass().of(words)
    scores = np.eye(3)[target.encode(words).astype(int)] * 0.94 + 0.02
    sure = leak_suspect(words, scores, 0.99, target, pl.DataFrame({"word": words}))
    assert (sure.passed, "Alone reach it word 1.0000" in sure.detail) == (False, True)
    number = RNG.normal(size=ROWS)
    doubled = pl.DataFrame({"doubled": 2 * number, "constant": 1.0})
    told = leak_suspect(number, number + 0.001, 0.9, Regression("squared_error"), doubled).detail
    assert "Alone reach it doubled 0.9" in told
    assert "raise gates.leak_explained" in told


def test_a_limit_of_1_suspects_none():
    assert leak_suspect(LABEL, LABEL * 1.0, 1.0).passed
    assert not leak_suspect(LABEL, LABEL * 1.0, 0.9999).passed


def test_a_leak_cannot_be_ruled_out_on_one_class():
    assert leak_suspect(np.zeros(ROWS), GOOD).passed is False


def test_sound_scores_fail_on_constants_and_on_what_is_no_number():
    assert sound_scores(GOOD, LABEL).passed
    assert sound_scores(CONSTANT, LABEL).passed is False
    assert sound_scores(["high"] * ROWS, LABEL).passed is False
    assert sound_scores(None, LABEL).passed is False


def test_the_reason_why_there_are_no_scores_is_told():
    outcome = sound_scores(np.full(ROWS, np.nan), LABEL, "it reads a column that is not there")
    assert (outcome.passed, outcome.detail) == (False, "it reads a column that is not there")


def times_as_sure(by: float) -> np.ndarray:
    odds = by * np.log(GOOD / (1 - GOOD))
    return 1 / (1 + np.exp(-odds))


def test_a_model_as_sure_as_it_may_be_is_calibrated_whatever_the_season():
    assert calibrated(LABEL, GOOD, DAY, min_slope=0.7).passed
    odds = np.log(GOOD / (1 - GOOD)) + 0.5
    assert calibrated(LABEL, 1 / (1 + np.exp(-odds)), DAY, min_slope=0.7).passed
    assert calibrated(LABEL, times_as_sure(0.5), DAY, min_slope=0.7).passed


@pytest.mark.parametrize("by", [2, 3, -1])
def test_a_model_that_is_too_sure_is_not(by):
    outcome = calibrated(LABEL, times_as_sure(by), DAY, min_slope=0.7)
    assert outcome.passed is False
    assert outcome.value == pytest.approx(1 / by, abs=0.15)
    assert outcome.low < outcome.value < outcome.high
    assert outcome.margin == pytest.approx(outcome.low - 0.7)


def test_too_sure_is_refused_even_where_the_log_loss_beats_the_baseline():
    sure = times_as_sure(1.7)
    assert gain_over_baseline(LABEL, sure, CONSTANT, DAY).passed
    assert calibrated(LABEL, sure, DAY, min_slope=0.7).passed is False


@pytest.mark.parametrize(
    ("label", "score", "says"),
    [
        (np.ones(ROWS), GOOD, "both classes"),
        (LABEL, CONSTANT, "there is no slope"),
        (LABEL, np.where(LABEL == 1, 0.9, 0.1), "separate the labels"),
    ],
)
def test_what_has_no_slope_is_not_calibrated(label, score, says):
    outcome = calibrated(label, score, DAY, min_slope=0.7)
    assert (outcome.passed, outcome.value) == (False, None)
    assert says in outcome.detail
