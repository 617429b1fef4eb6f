"""Days, weeks and months against a count of the days themselves."""

from datetime import date, timedelta

import polars as pl
import pytest

from mlops_assets.ml.periods import DAYS, Periods

DAY = timedelta(days=1)
YEARS = [date(2023, 1, 1) + n * DAY for n in range(2 * 366)]
EVERY = [DAYS, Periods("week"), Periods("week", 6), Periods("month")]


@pytest.mark.parametrize("periods", EVERY, ids=str)
def test_a_period_is_named_by_its_first_day(periods):
    for day in YEARS:
        period = periods.of(day)
        assert period <= day <= periods.last_day(period)
        assert periods.of(period) == periods.of(periods.last_day(period)) == period
        assert periods.step(period) == periods.last_day(period) + DAY
        assert periods.step(periods.step(period, 5), -5) == period


@pytest.mark.parametrize("periods", EVERY, ids=str)
def test_a_column_and_a_day_have_the_same_period(periods):
    found = pl.DataFrame({"day": YEARS}).select(periods.column(pl.col("day")))["day"]
    assert found.dtype == pl.Date
    assert found.to_list() == [periods.of(day) for day in YEARS]


def test_weeks_and_months_begin_where_the_calendar_says():
    assert Periods("week").of(date(2024, 5, 15)) == date(2024, 5, 13)  # a Monday
    assert Periods("week", 6).of(date(2024, 5, 15)) == date(2024, 5, 12)  # a Sunday
    assert Periods("month").of(date(2024, 2, 29)) == date(2024, 2, 1)
    assert Periods("month").last_day(date(2024, 2, 1)) == date(2024, 2, 29)
    assert Periods("month").step(date(2024, 1, 1), -13) == date(2022, 12, 1)


@pytest.mark.parametrize("periods", EVERY, ids=str)
def test_what_has_ended_by_a_day(periods):
    for day in YEARS:
        newest = periods.ended_by(day)
        assert periods.last_day(newest) <= day < periods.last_day(periods.step(newest))


@pytest.mark.parametrize("periods", EVERY, ids=str)
@pytest.mark.parametrize("days", [0, 1, 6, 7, 8, 27, 28, 29, 31, 92])
def test_days_to_one_side_touch_no_more_periods_than_are_said(periods, days):
    most = 0
    for day in YEARS[:400]:
        period = periods.of(day)
        touched = {periods.of(periods.last_day(period) + n * DAY) for n in range(days + 1)}
        before = {periods.of(period - n * DAY) for n in range(days + 1)}
        most = max(most, len(touched) - 1, len(before) - 1)
    assert most <= periods.reached(days) <= most + (periods.every == "month")


def test_how_many_periods_days_make():
    assert [p.within(28) for p in EVERY] == [28, 4, 4, 1]
    assert [p.within(184) for p in EVERY] == [184, 26, 26, 6]
    assert Periods("month").within(3) == 1
