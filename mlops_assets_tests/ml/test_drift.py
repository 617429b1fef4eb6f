"""drift.py against scipy and Evidently, and on columns that have nothing to compare."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from mlops_assets.ml.drift import Reference, Thresholds, daily_drift, drift_rows
from mlops_assets.ml.drift_report import evidently_report

NUMERIC = ["delay", "hour", "gust", "ceiling", "fixed", "stepped"]
CATEGORICAL = ["carrier", "tail", "late", "terminal"]


def flights(rows, seed):
    """Rows with ties, holes, infinities, a constant, a step, and categories that come and go."""
    rng = np.random.default_rng(seed)
    delay = rng.normal(seed * 0.3, 1, rows)
    return pl.DataFrame(
        {
            "delay": delay,
            "hour": rng.integers(0, 9, rows),
            "gust": pl.Series(np.where(rng.random(rows) < 0.3, np.nan, delay)).fill_nan(None),
            "ceiling": np.where(rng.random(rows) < 0.1, np.inf, delay),
            "fixed": np.full(rows, 3.0),
            "stepped": np.full(rows, 3.0 + seed),
            "chance": rng.beta(1, 3 + seed, rows),
            "carrier": rng.choice(["AA", "UA", "WN", "HA", "OO"][seed : 3 + seed], rows),
            "tail": [None if r < 0.2 else "a" if r < 0.6 else "b" for r in rng.random(rows)],
            "late": rng.random(rows) < 0.3 + 0.2 * seed,
            "terminal": pl.Series(rng.choice(["A", "B"], rows), dtype=pl.Categorical),
        }
    )


OLD, NEW = flights(800, 0), flights(500, 1)
REFERENCE = Reference.of(OLD, NUMERIC, CATEGORICAL, prediction="chance")


def only(series_old, series_new, kind="numeric", **thresholds):
    """The drift row of one column."""
    old, new = (pl.DataFrame({"x": series}) for series in (series_old, series_new))
    named = {"numeric": [], "categorical": []} | {kind: ["x"]}
    return drift_rows(Reference.of(old, **named), new, Thresholds(**thresholds)).row(0, named=True)


def test_every_value_is_evidentlys():
    page, run = evidently_report(OLD, NEW, [*NUMERIC, "chance"], CATEGORICAL)
    theirs = {m["config"]["column"]: m for m in run["metrics"] if "column" in m["config"]}
    ours = drift_rows(REFERENCE, NEW)
    assert set(theirs) == set(ours["column"])
    for row in ours.iter_rows(named=True):
        metric = theirs[row["column"]]
        assert row["value"] == pytest.approx(float(metric["value"]), abs=1e-6)
        assert row["statistic"] == metric["config"]["method"]
        assert row["threshold"] == metric["config"]["threshold"]
    assert run["metrics"][0]["value"]["count"] == ours["drifted"].sum()
    assert "<html" in page


def test_evidently_runs_on_a_sample_without_the_columns_that_would_end_it():
    empty = pl.lit(None, pl.Float64).alias("gust")
    _, run = evidently_report(OLD, NEW.with_columns(empty), ["gust", "delay"], [], max_rows=100)
    assert [m["config"].get("column") for m in run["metrics"]] == [None, "delay"]
    with pytest.raises(ValueError, match="none of"):
        evidently_report(OLD, NEW.with_columns(empty), ["gust"], [])


numbers = st.lists(st.floats(-50, 50).map(lambda x: round(x, 1)), min_size=1, max_size=40)


@given(old=numbers, new=numbers)
@settings(deadline=None, max_examples=150)
def test_wasserstein_is_scipys(old, new):
    expected = wasserstein_distance(old, new) / max(np.std(old), 0.001)
    assert only(old, new)["value"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


letters = st.lists(st.sampled_from("abcde"), min_size=1, max_size=40)


@given(old=letters, new=letters)
@settings(deadline=None, max_examples=100)
def test_jensen_shannon_is_scipys(old, new):
    p, q = ([column.count(letter) for letter in "abcde"] for column in (old, new))
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(jensenshannon(p, q))
    assert only(old, new, "categorical")["value"] == pytest.approx(expected, abs=1e-7)


def test_the_same_rows_are_at_no_distance():
    found = drift_rows(REFERENCE, OLD.sample(fraction=1, shuffle=True, seed=1))
    assert found["value"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert not found["drifted"].any()


def test_missing_values_are_counted_apart():
    row = only([1.0, 2.0, None, float("nan")], [1.0, 2.0, float("inf")])
    assert row["value"] == 0
    assert (row["missing_reference"], row["missing_current"]) == (0.5, pytest.approx(1 / 3))
    assert (row["rows_reference"], row["rows_current"]) == (4, 3)
    assert row["drifted"] is False


NONE = pl.Series([None] * 3, dtype=pl.Float64)
SOME = pl.Series([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("old", "new", "drifted", "note"),
    [
        (NONE, NONE, False, "the reference has no known value; the current rows have no known"),
        (NONE, SOME, True, "the reference has no known value; missing share went from 100% to 0%"),
        (SOME, NONE, True, "the current rows have no known value; missing share went from 0% to"),
        (SOME, SOME.clear(), False, "no current rows"),
        (NONE, SOME.clear(), False, "the reference has no known value; no current rows"),
    ],
)
@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_side_without_values_has_no_distance_and_says_so(old, new, drifted, note, kind):
    row = only(old, new, kind)
    assert row["value"] is None
    assert row["drifted"] is drifted
    assert row["note"].startswith(note)


def test_an_untyped_null_column_is_a_missing_one():
    assert only(SOME, pl.Series([None, None]))["missing_current"] == 1


@pytest.mark.parametrize(
    ("old", "new", "value", "drifted", "note"),
    [
        ([3, 3], [3], 0, False, "the reference is constant"),
        ([3, 3], [4], 1000, True, "the reference is constant"),
        ([1, 3], [2, 2], 1, True, None),
    ],
)
def test_constants_are_judged_as_evidently_does(old, new, value, drifted, note):
    row = only(old, new)
    assert row["value"] == pytest.approx(value)
    assert (row["drifted"], row["note"]) == (drifted, note)


def test_a_change_of_the_missing_share_is_drift_by_itself():
    new = [1.0, 2.0, None]
    assert only([1.0, 2.0], new)["drifted"] is True
    assert only([1.0, 2.0], new, missing=0.5)["drifted"] is False


def test_each_kind_has_its_threshold():
    found = drift_rows(REFERENCE, NEW, Thresholds(numeric=0.2, categorical=0.3, prediction=0.4))
    limits = dict(found.select("kind", "threshold").unique().iter_rows())
    assert limits == {"numeric": 0.2, "categorical": 0.3, "prediction": 0.4}


def test_the_reference_can_be_a_sample():
    sampled = Reference.of(OLD, NUMERIC, CATEGORICAL, max_rows=100, seed=1)
    assert {column.rows for column in sampled.columns} == {100}


def year():
    start = date(2013, 8, 1)
    dates = [start + timedelta(days=i // 20) for i in range(500)]
    return flights(500, 1).with_columns(date=pl.Series(dates)).filter(pl.col("date").dt.day() != 9)


def test_a_day_is_the_drift_of_its_trailing_window():
    frame = year().sample(fraction=1, shuffle=True, seed=2)
    days = [date(2013, 8, day) for day in (3, 9, 20)]
    found = daily_drift(REFERENCE, frame, days, window_days=5)
    assert found.columns[:2] == ["date", "window_start"]
    for day in days:
        start = day - timedelta(days=4)
        window = frame.filter(pl.col("date").is_between(start, day))
        part = found.filter(date=day, window_start=start).drop("date", "window_start")
        expected = drift_rows(REFERENCE, window)
        assert part["value"].to_numpy() == pytest.approx(expected["value"].to_numpy())
        assert part.drop("value").equals(expected.drop("value"))


def test_a_window_without_rows_has_no_values():
    found = daily_drift(REFERENCE, year(), [date(2013, 8, 9), date(2014, 1, 1)], window_days=1)
    assert found["value"].null_count() == found.height == 2 * len(REFERENCE.columns)
    assert set(found["note"]) == {"no current rows", "the reference is constant; no current rows"}
    assert daily_drift(REFERENCE, year(), []).is_empty()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"columns \['nowhere'\] are missing"):
        Reference.of(OLD, ["nowhere"], [])
    with pytest.raises(ValueError, match="named twice"):
        Reference.of(OLD, ["hour"], ["hour"])
    with pytest.raises(ValueError, match="no column is named"):
        Reference.of(OLD, [], [])
    with pytest.raises(ValueError, match="0 rows"):
        Reference.of(OLD.clear(), NUMERIC, [])
    with pytest.raises(ValueError, match="are missing"):
        drift_rows(REFERENCE, NEW.drop("gust"))
    with pytest.raises(ValueError, match="window_days is 0"):
        daily_drift(REFERENCE, year(), [], window_days=0)
    undated = year().with_columns(date=pl.lit(None, pl.Date))
    with pytest.raises(ValueError, match="have no date"):
        daily_drift(REFERENCE, undated, [])
