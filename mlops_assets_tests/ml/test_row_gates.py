"""row_gates.py: rows, columns and features are proven, or the gate fails."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.row_gates import (
    Recomputed,
    Trained,
    differing,
    distinct_rows,
    enough_rows,
    known_in_time,
    same_schema,
    untouched_rows,
)

CUTOFF, FIRST = date(2013, 7, 31), date(2013, 8, 1)
HONEST = Trained(CUTOFF, CUTOFF, 0)
COLUMNS = FeatureColumns(("hour", "wind"), ("carrier",))


@pytest.mark.parametrize(
    ("rows", "days", "passed"), [(100, 7, True), (99, 7, False), (100, 6, False)]
)
def test_enough_rows_needs_rows_and_days(rows, days, passed):
    outcome = enough_rows(rows, days, 100, 7)
    assert outcome.passed is passed
    assert (outcome.margin >= 0) is passed


def test_zero_rows_never_suffice_and_the_gate_says_what_to_do():
    outcome = enough_rows(0, 0, 0, 0)
    assert outcome.passed is False
    assert "wait for labels after the cut-off, or cut off earlier" in outcome.detail


def test_a_row_that_is_judged_twice():
    rows = pl.DataFrame({"flight": [1, 2, 3], "origin": ["JFK"] * 3})
    assert distinct_rows(rows, ["flight", "origin"]).passed
    outcome = distinct_rows(pl.concat([rows, rows[:1]]), ["flight", "origin"])
    assert (outcome.passed, outcome.value) == (False, 1)
    assert "1 of 4 rows repeat the flight, origin of another" in outcome.detail
    assert distinct_rows(rows.clear(), ["flight"]).passed is False


def test_rows_after_every_training_set_are_untouched():
    outcome = untouched_rows(100, FIRST, {"candidate": HONEST, "baseline": HONEST})
    assert (outcome.passed, outcome.value) == (True, 0)


@pytest.mark.parametrize(
    ("trained", "says"),
    [
        (Trained(FIRST, FIRST, 40), "saw days through 2013-08-01, and 40 of these rows"),
        (Trained(CUTOFF, CUTOFF, 3), "saw days through 2013-07-31, and 3 of these rows"),
        (Trained(CUTOFF, FIRST + timedelta(9), 40), "while its tag cutoff says 2013-07-31"),
        (Trained(CUTOFF, CUTOFF - timedelta(1), 0), "was trained through 2013-07-30"),
        (Trained(CUTOFF, None, 100), "days that are not known"),
        (Trained(CUTOFF, CUTOFF, 0, "has no record of its training set"), "has no record"),
    ],
)
@pytest.mark.parametrize("name", ["candidate", "baseline", "champion"])
def test_rows_that_a_model_saw_or_may_have_seen(name, trained, says):
    models = dict.fromkeys(("candidate", "baseline", "champion"), HONEST) | {name: trained}
    outcome = untouched_rows(100, FIRST, models)
    assert outcome.passed is False
    assert f"{name} " in outcome.detail
    assert says in outcome.detail


@pytest.mark.parametrize(("rows", "first", "models"), [(0, None, {"a": HONEST}), (9, FIRST, {})])
def test_untouched_rows_fail_without_proof(rows, first, models):
    assert untouched_rows(rows, first, models).passed is False


@pytest.mark.parametrize(
    ("reads", "says"),
    [
        (FeatureColumns(("hour", "wind", "gust"), ("carrier",)), "it reads gust, which"),
        (FeatureColumns(("hour",), ("carrier",)), "it does not read wind"),
        (FeatureColumns(("hour",), ("carrier", "wind")), "wind as categorical, the product has it"),
        (FeatureColumns(("wind", "hour"), ("carrier",)), "in another order"),
    ],
)
def test_a_model_with_other_columns(reads, says):
    assert same_schema(COLUMNS, COLUMNS).passed
    outcome = same_schema(reads, COLUMNS)
    assert outcome.passed is False
    assert says in outcome.detail


def test_features_that_were_not_known_in_time():
    assert known_in_time(Recomputed(10, {}), 5).passed
    outcome = known_in_time(Recomputed(10, {"wind": 1, "rate": 3}), 5)
    assert (outcome.passed, outcome.value) == (False, 4)
    assert "most in rate (3), wind (1)" in outcome.detail
    assert known_in_time(Recomputed(0, {}), 0).passed is False


def test_cells_differ_beyond_rounding_and_where_one_is_missing():
    expected = pl.DataFrame({"rate": [0.5, 1e9, None, 0.1], "hour": [1, 2, 3, None]})
    rounded = expected.with_columns(pl.col("rate") * (1 + 1e-12))
    assert differing(rounded, expected) == {}
    other = pl.DataFrame({"rate": [0.5001, 1e9, 0.0, None], "hour": [1, 2, None, 4]})
    assert differing(other, expected) == {"rate": 3, "hour": 2}
