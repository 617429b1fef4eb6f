"""splits.py: later days judge earlier ones, and every day stays on one side."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.splits import split_by_day, time_folds

FIRST = date(2013, 1, 1)


def days_from(offsets):
    return [FIRST + timedelta(days=int(offset)) for offset in offsets]


@given(
    offsets=st.lists(st.integers(0, 40), min_size=1, max_size=80),
    folds=st.integers(1, 4),
    valid_days=st.integers(1, 5),
)
def test_folds_expand_and_never_look_ahead(offsets, folds, valid_days):
    days = np.array(days_from(offsets), dtype="datetime64[D]")
    distinct = np.unique(days)
    if distinct.size <= folds * valid_days:
        with pytest.raises(ValueError, match=f"at least {folds * valid_days + 1} days"):
            time_folds(days, folds, valid_days)
        return
    made = time_folds(days, folds, valid_days)
    assert len(made) == folds
    judged = np.concatenate([valid for _, valid in made])
    assert set(days[judged]) == set(distinct[-folds * valid_days :])
    assert len(set(judged)) == len(judged)
    for train, valid in made:
        assert days[train].max() < days[valid].min()
        assert np.unique(days[valid]).size == valid_days
        assert train.size == np.count_nonzero(days < days[valid].min())


@pytest.mark.parametrize("column", [list, np.array, pl.Series])
def test_folds_take_lists_arrays_and_series_of_dates(column):
    made = time_folds(column(days_from([3, 1, 0, 2])), 2, 1)
    assert [(train.tolist(), valid.tolist()) for train, valid in made] == [
        ([1, 2], [3]),
        ([1, 2, 3], [0]),
    ]


@pytest.mark.parametrize("bad", [(0, 1), (1, 0)])
def test_folds_refuse_counts_below_one(bad):
    with pytest.raises(ValueError, match="at least 1 each"):
        time_folds(days_from(range(9)), *bad)


def test_a_missing_day_is_refused():
    with pytest.raises(ValueError, match="1 of 2 rows have no day"):
        time_folds([FIRST, None], 1, 1)


def test_split_leaves_out_what_comes_after_the_cutoff():
    days = days_from(range(10))
    train, valid = split_by_day(days, days[7], 3)
    assert np.flatnonzero(train).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(valid).tolist() == [5, 6, 7]


def test_split_takes_moments_by_their_day():
    days = np.array([datetime(2013, 1, 1, 23), datetime(2013, 1, 2, 1)], dtype="datetime64[s]")
    train, valid = split_by_day(days, date(2013, 1, 2), 1)
    assert train.tolist() == [True, False]
    assert valid.tolist() == [False, True]


@pytest.mark.parametrize(
    ("offsets", "cutoff", "validation_days", "message"),
    [
        ([5, 6], 6, 2, "no training rows"),
        ([0, 1], 9, 2, "no validation rows"),
        ([], 9, 2, "no days at all"),
        ([0, 1], 1, 0, "expected at least 1"),
    ],
)
def test_a_part_without_rows_is_refused(offsets, cutoff, validation_days, message):
    with pytest.raises(ValueError, match=message):
        split_by_day(days_from(offsets), FIRST + timedelta(days=cutoff), validation_days)
