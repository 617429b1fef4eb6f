"""gates.py: each gate passes what it should, and nothing passes for want of evidence."""

from datetime import date, timedelta

import numpy as np
import pytest

from mlops_assets.ml.gates import (
    REQUIRED,
    decide,
    enough_rows,
    gain_over_baseline,
    leak_suspect,
    not_worse_than_champion,
    sound_scores,
    untouched_rows,
)

ROWS, DAYS = 3_000, 30
DAY = np.arange(ROWS) % DAYS
RNG = np.random.default_rng(6)
TRUE_CHANCE = RNG.beta(1, 3, ROWS)
LABEL = (RNG.random(ROWS) < TRUE_CHANCE).astype(int)
GOOD = np.clip(TRUE_CHANCE, 0.01, 0.99)
CONSTANT = np.full(ROWS, LABEL.mean())
WORSE = np.clip(GOOD + RNG.normal(0, 0.05, ROWS), 0.01, 0.99)
EVALUATION = [date(2013, 8, 1) + timedelta(days=int(d)) for d in DAY]
BEFORE = date(2013, 7, 31)


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


def test_a_leak_cannot_be_ruled_out_on_one_class():
    assert leak_suspect(np.zeros(ROWS), GOOD).passed is False


def test_sound_scores_fail_on_constants_and_on_what_is_no_number():
    assert sound_scores(GOOD, LABEL).passed
    assert sound_scores(CONSTANT, LABEL).passed is False
    assert sound_scores(["high"] * ROWS, LABEL).passed is False
    assert sound_scores(None, LABEL).passed is False


@pytest.mark.parametrize(
    ("rows", "days", "passed"), [(100, 7, True), (99, 7, False), (100, 6, False)]
)
def test_enough_rows_needs_rows_and_days(rows, days, passed):
    outcome = enough_rows(rows, days, 100, 7)
    assert outcome.passed is passed
    assert (outcome.margin >= 0) is passed


def test_zero_rows_never_suffice():
    assert enough_rows(0, 0, 0, 0).passed is False


def test_untouched_rows_name_the_model_that_saw_them():
    models = {"candidate": BEFORE, "champion": date(2013, 8, 2)}
    outcome = untouched_rows(EVALUATION, models)
    assert outcome.passed is False
    assert "champion saw days through 2013-08-02" in outcome.detail
    assert "candidate" not in outcome.detail
    assert outcome.value == 200
    assert untouched_rows(EVALUATION, {"candidate": BEFORE}).passed is True


@pytest.mark.parametrize(
    ("days", "models"),
    [
        (EVALUATION, {"candidate": EVALUATION[0]}),
        (EVALUATION, {"candidate": None}),
        (EVALUATION, {}),
        ([], {"candidate": BEFORE}),
    ],
)
def test_untouched_rows_fail_without_proof(days, models):
    assert untouched_rows(days, models).passed is False


def outcomes():
    return [
        sound_scores(GOOD, LABEL),
        enough_rows(ROWS, DAYS, 100, 7),
        untouched_rows(EVALUATION, {"candidate": BEFORE}),
        leak_suspect(LABEL, GOOD),
        gain_over_baseline(LABEL, GOOD, CONSTANT, DAY),
        not_worse_than_champion(LABEL, GOOD, None, DAY, margin=0.01),
    ]


def test_all_gates_passed_decide_for_it():
    assert {outcome.name for outcome in outcomes()} == REQUIRED
    assert decide(outcomes()) is True


@pytest.mark.parametrize("absent", range(6))
def test_an_absent_gate_decides_against_it(absent):
    judged = outcomes()
    del judged[absent]
    assert decide(judged) is False


def test_a_failed_gate_decides_against_it_even_beside_a_passed_twin():
    assert decide([*outcomes(), enough_rows(1, 1, 100, 7)]) is False
    assert decide([], required=()) is False
