"""Departures by the hour, on the source's rows: what is counted, when it was known, and the label.

The expected numbers are counted from the source's own columns, not from the tables.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.tables import function_of, table_of
from mlops_assets.components.tables.examine import examine
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.defs.departure_demand import problem
from mlops_assets.defs.nyc_flights import departures, features, flights
from mlops_assets.defs.nyc_flights.expressions import NEW_YORK
from mlops_assets.defs.nyc_flights.source import read_source
from mlops_assets.ml.brute_force import features_known
from mlops_assets.ml.point_in_time import days_back, look_up
from mlops_assets.ml.row_gates import differing

# The clocks change on 3 November; a week before and after lie within.
FIRST, LAST = date(2013, 10, 20), date(2013, 11, 15)
TABLES = (departures.departure_counts, departures.same_hour_last_week)
KEY = ["date", "origin", "departure_hour"]


@pytest.fixture(scope="module")
def planned():
    return flights.planned(FIRST, LAST)


@pytest.fixture(scope="module")
def happened():
    return flights.happened(FIRST, LAST)


@pytest.fixture(scope="module")
def hours(planned):
    frame = function_of(features.scheduled_congestion)(planned.lazy()).collect()
    table = table_of(features.scheduled_congestion)
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    examined = examine(frame, table, days)
    assert examined.rejected.is_empty()
    assert [v.detail for v in examined.verdicts if not v.passed] == []
    return problem.spine(frame.lazy()).collect()


@pytest.fixture(scope="module")
def tables(planned, happened):
    counts = function_of(departures.departure_counts)(planned.lazy(), happened.lazy())
    last_week = function_of(departures.same_hour_last_week)(happened.lazy())
    return {
        t.key.to_user_string(): f.collect()
        for t, f in zip(TABLES, (counts, last_week), strict=True)
    }


@pytest.fixture(scope="module")
def source():
    """The source's rows by local clock: airport, day, hour, minutes late; null where cancelled."""
    rows = read_source("flights").select(
        pl.date("year", "month", "day").alias("date"),
        "origin",
        (pl.col("sched_dep_time") // 100).cast(pl.Int8).alias("hour"),
        pl.col("dep_delay").alias("late"),
    )
    return rows.filter(pl.col("date").is_between(FIRST, LAST))


def test_the_label_counts_what_left_late_by_scheduled_hour(hours, happened, source):
    expected = (
        source.drop_nulls("late")
        .group_by("date", "origin", "hour")
        .agg((pl.col("late") >= 15).sum().cast(pl.Float64).alias("label"))
    )
    label = problem.label(happened.lazy()).collect()
    found = hours.join(label, on=KEY).filter(pl.col("date") < LAST - timedelta(days=1))
    expected = expected.filter(pl.col("date") < LAST - timedelta(days=1))
    columns = ["date", "origin", "hour", "label"]
    assert_frame_equal(found.select(columns), expected.select(columns), check_row_order=False)
    left = happened.filter(pl.col("event") == "departure")
    assert (left["date"] - left["flight_date"]).max() < timedelta(days=2)
    hour = (pl.col("departed_at") - pl.duration(minutes="delay")).dt.truncate("1h")
    assert left.filter(pl.col("available_at") <= hour - problem.LEAD).is_empty()


def test_hours_and_what_is_planned_before_them(hours, source):
    evening = (pl.col("date") == date(2013, 11, 3)) & (pl.col("origin") == "JFK")
    counted = dict(source.filter(evening).group_by("hour").len().iter_rows())
    row = hours.filter(evening, pl.col("hour") == 18).row(0, named=True)
    assert row["departure_hour"] == datetime(2013, 11, 3, 23, tzinfo=UTC)
    assert row["prediction_time"] == datetime(2013, 11, 3, 17, tzinfo=UTC)
    assert row["departures"] == counted[18]
    assert row["departures_before"] == counted[15] + counted[16] + counted[17]
    first = hours.sort("departure_hour").group_by("date", "origin").first()
    assert set(first["departures_before"]) == {0}


@pytest.mark.parametrize(
    "name", ["nyc_flights/departure_counts", "nyc_flights/same_hour_last_week"]
)
def test_look_ups_are_what_adding_up_gives_and_reach_as_many_days_as_they_say(name, hours, tables):
    """Also where only the partitions are read that a look-up declares."""
    definition, table = DEFINITIONS[name], tables[name]
    back = timedelta(days=days_back(definition, problem.LEAD))
    asked = hours.filter(pl.col("date") >= FIRST + back).sample(60, seed=1)
    expected = features_known(asked, table, definition)
    assert differing(look_up(asked, table.lazy(), definition)[expected.columns], expected) == {}
    for row in asked.head(20).iter_slices(1):
        day = row["date"].item()
        some = table.lazy().filter(pl.col("date").is_between(day - back, day))
        alone = look_up(row, some, definition)[expected.columns]
        assert_frame_equal(alone, look_up(row, table.lazy(), definition)[expected.columns])


def test_the_same_hour_last_week_is_by_the_clock_and_counts_all_its_flights(hours, tables, source):
    name = "nyc_flights/same_hour_last_week"
    asked = hours.filter(pl.col("date") >= FIRST + timedelta(days=9))
    found = look_up(asked, tables[name].lazy(), DEFINITIONS[name])
    week_before = source.drop_nulls("late").with_columns(pl.col("date") + timedelta(days=7))
    left = week_before.group_by("date", "origin", "hour").agg(
        pl.len().cast(pl.Int64).alias("same_hour_departed_last_week"),
        (pl.col("late") >= 15).sum().cast(pl.Int64).alias("same_hour_departed_late_last_week"),
    )
    keys, counts = ["date", "origin", "hour"], list(DEFINITIONS[name].features)
    expected = asked.join(left, on=keys, how="left", maintain_order="left").with_columns(
        pl.col(counts).fill_null(0)
    )
    assert_frame_equal(found.select(counts), expected.select(counts))


def test_nothing_is_known_before_it_happened(planned, happened, tables):
    """A flight counts from the full hour on that ends with its departure."""
    counts = tables["nyc_flights/departure_counts"]
    at = pl.col("available_at")
    assert counts.filter(at.dt.truncate("1h") != at).is_empty()
    moment = datetime(2013, 11, 4, 22, tzinfo=UTC)
    left = happened.filter(
        pl.col("event") == "departure", pl.col("origin") == "EWR",
        pl.col("event_time") <= moment, pl.col("event_time") > moment - timedelta(hours=2),
    )  # fmt: skip
    spine = pl.DataFrame({"origin": ["EWR"], "prediction_time": [moment]}).cast(
        {"prediction_time": pl.Datetime("us", "UTC")}
    )
    found = look_up(spine, counts.lazy(), DEFINITIONS["nyc_flights/departure_counts"])
    assert found["origin_departed_2h"].item() == left.height
    assert found["origin_departed_late_2h"].item() == left.filter(pl.col("delay") >= 15).height


def test_a_day_without_flights_last_week_had_none_late(hours, tables):
    """What was never planned never was late: 0, not unknown."""
    definition = DEFINITIONS["nyc_flights/same_hour_last_week"]
    night = hours.head(1).with_columns(
        pl.lit(datetime(2013, 11, 5, 8)).dt.replace_time_zone("UTC").alias("departure_hour")
    )
    found = look_up(night, tables["nyc_flights/same_hour_last_week"].lazy(), definition)
    assert found["same_hour_departed_last_week"].item() == 0


def test_no_local_hour_is_lost_when_the_clock_changes(tables):
    rows = tables["nyc_flights/same_hour_last_week"]
    local = rows["departure_hour"].dt.convert_time_zone(NEW_YORK).dt.hour()
    assert rows["departure_hour"].null_count() == 0
    assert local.min() >= 5
