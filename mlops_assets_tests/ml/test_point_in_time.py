"""look_up against its definition read row by row, and days_back against the local calendar."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlops_assets.ml.point_in_time import (
    AVAILABLE_AT,
    EVENT_TIME,
    PREDICTION_TIME,
    Latest,
    Trailing,
    days_back,
    join_all,
    look_up,
)

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2013, 3, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")
KEYS = ("carrier", "origin")
SPINE = {"row": pl.Int64, "carrier": pl.String, "origin": pl.String, PREDICTION_TIME: TIME}
TABLE = {"carrier": pl.String, "origin": pl.String, EVENT_TIME: TIME, AVAILABLE_AT: TIME}
SUMS = {"late": pl.Int64, "arrivals": pl.Int64, "delay": pl.Int64}

RATIOS = {
    "late_rate": ("late", "arrivals"),
    "mean_delay": ("delay", "arrivals"),
    "delay": ("delay", None),
}
LATENESS = st.integers(-1, 4)
WINDOWS = {"2h": 2 * HOUR, "5h": 5 * HOUR}


def hours(least, greatest):
    """Whole hours after START: few, so that times tie and fall on the edges of windows."""
    return st.integers(least, greatest).map(lambda n: START + n * HOUR)


def keys(*carriers):
    return st.tuples(st.sampled_from([*carriers, None]), st.sampled_from(["EWR", "JFK"]))


@st.composite
def spines(draw, least=0, greatest=14):
    asked = draw(st.lists(st.tuples(keys("AA", "UA", "ZZ"), hours(least, greatest)), max_size=12))
    rows = [(i, *key, at) for i, (key, at) in enumerate(asked)]
    return pl.DataFrame(rows, schema=SPINE, orient="row")


@st.composite
def readings(draw, late=LATENESS, greatest=12):
    """One row a key and event time, in any order, available early, at once, or late."""
    row = st.tuples(keys("AA", "UA"), hours(0, greatest), late, st.none() | st.integers(0, 9))
    drawn = draw(st.lists(row, max_size=30, unique_by=lambda r: (r[0], r[1])))
    rows = [(*key, at, at + lateness * HOUR, x) for key, at, lateness, x in drawn]
    return pl.DataFrame(rows, schema=TABLE | {"x": pl.Int64}, orient="row")


@st.composite
def sums(draw, greatest=12):
    """Rows with ties in key and time; a sum may be null, and a delay negative."""
    count = st.none() | st.integers(0, 3)
    delay = st.none() | st.integers(-60, 60)
    row = st.tuples(keys("AA", "UA"), hours(0, greatest), st.tuples(count, count, delay))
    drawn = draw(st.lists(row, max_size=30))
    rows = [(*key, at, at, *values) for key, at, values in drawn]
    return pl.DataFrame(rows, schema=TABLE | SUMS, orient="row")


def known(asked, table):
    """Rows of the asked key that were available when it was asked; a null is nobody's key."""
    return [
        row
        for row in table.iter_rows(named=True)
        if all(row[k] is not None and row[k] == asked[k] for k in KEYS)
        and row[AVAILABLE_AT] <= asked[PREDICTION_TIME]
    ]


def latest_by_definition(asked, table, ttl):
    rows = known(asked, table)
    if not rows:
        return None
    newest = max(rows, key=lambda r: (r[AVAILABLE_AT], r[EVENT_TIME]))
    fresh = ttl is None or asked[PREDICTION_TIME] - newest[EVENT_TIME] <= ttl
    return newest["x"] if fresh else None


def ratio_by_definition(asked, table, above, below, window):
    begin = asked[PREDICTION_TIME] - window
    rows = [r for r in known(asked, table) if r[AVAILABLE_AT] > begin]
    numerator, denominator = (sum(r[c] or 0 for r in rows if c) for c in (above, below))
    if below is None:
        return None if None in asked.values() else numerator
    return numerator / denominator if denominator > 0 else None


@settings(max_examples=150, deadline=None)
@given(spines(), readings(), st.none() | st.integers(0, 6).map(lambda n: n * HOUR))
def test_latest_is_the_newest_row_that_was_available_and_is_fresh(spine, table, ttl):
    found = look_up(spine, table.lazy(), Latest(KEYS, {"value": "x"}, ttl))
    expected = [latest_by_definition(r, table, ttl) for r in spine.iter_rows(named=True)]
    assert_frame_equal(found, spine.with_columns(pl.Series("value", expected, pl.Int64)))


@settings(max_examples=150, deadline=None)
@given(spines(), sums())
def test_trailing_is_the_sum_or_ratio_over_the_half_open_window(spine, table):
    definition = Trailing(KEYS, "route", RATIOS, WINDOWS)
    found = look_up(spine, table.lazy(), definition)
    expected = spine.with_columns(
        pl.Series(
            f"route_{stem}_{label}",
            [ratio_by_definition(r, table, *pair, window) for r in spine.iter_rows(named=True)],
            pl.Float64 if pair[1] else pl.Int64,
        )
        for label, window in WINDOWS.items()
        for stem, pair in RATIOS.items()
    )
    assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.parametrize(
    ("minutes_after", "inside"),
    [(-120, False), (-119, True), (0, True), (1, False)],
    ids=["at t - window", "just inside", "at t", "after t"],
)
def test_the_window_is_open_at_its_begin_and_closed_at_its_end(minutes_after, inside):
    at = START + timedelta(minutes=minutes_after)
    table = pl.DataFrame([("AA", "EWR", at, at, 1, 2, 8)], schema=TABLE | SUMS, orient="row")
    spine = pl.DataFrame([(0, "AA", "EWR", START)], schema=SPINE, orient="row")
    found = look_up(spine, table.lazy(), Trailing(KEYS, "route", RATIOS, {"2h": 2 * HOUR}))
    assert found["route_late_rate_2h"].item() == (0.5 if inside else None)
    assert found["route_mean_delay_2h"].item() == (4.0 if inside else None)
    assert found["route_delay_2h"].item() == (8 if inside else 0)


def test_what_is_known_before_its_time_is_fresh():
    ahead = START + 24 * HOUR
    table = pl.DataFrame(
        [("AA", "EWR", ahead, START, 7)], schema=TABLE | {"x": pl.Int64}, orient="row"
    )
    spine = pl.DataFrame([(0, "AA", "EWR", START)], schema=SPINE, orient="row")
    assert look_up(spine, table.lazy(), Latest(KEYS, {"value": "x"}, HOUR))["value"].item() == 7


@given(spines(), readings(), sums())
@settings(max_examples=30, deadline=None)
def test_several_tables_are_joined_one_after_the_other(spine, table, series):
    latest, trailing = Latest(KEYS, {"value": "x"}), Trailing(KEYS, "route", RATIOS, WINDOWS)
    both = join_all(spine, [(table.lazy(), latest), (series.lazy(), trailing)])
    assert both.columns == [*SPINE, *latest.features, *trailing.features]
    assert_frame_equal(
        both, look_up(look_up(spine, series.lazy(), trailing), table.lazy(), latest).select(
            both.columns
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("side", "column", "definition"),
    [
        ("spine", PREDICTION_TIME, Latest(KEYS, {"value": "x"})),
        ("spine", "origin", Trailing(KEYS, "route", RATIOS, WINDOWS)),
        ("table", EVENT_TIME, Latest(KEYS, {"value": "x"})),
        ("table", "x", Latest(KEYS, {"value": "x"})),
        ("table", "arrivals", Trailing(KEYS, "route", RATIOS, WINDOWS)),
        ("table", AVAILABLE_AT, Trailing(KEYS, "route", RATIOS, WINDOWS)),
    ],
)
def test_a_missing_column_is_named(side, column, definition):
    sides = {
        "spine": pl.DataFrame(schema=SPINE),
        "table": pl.DataFrame(schema=TABLE | SUMS | {"x": pl.Int64}),
    }
    sides[side] = sides[side].drop(column)
    with pytest.raises(ValueError, match=rf"{side} lacks \['{column}'\]; it has \["):
        look_up(sides["spine"], sides["table"].lazy(), definition)


def test_times_of_two_types_are_refused():
    at = pl.Series([START], dtype=pl.Datetime("ms", "UTC"))
    spine = pl.DataFrame([(0, "AA", "EWR", START)], schema=SPINE, orient="row")
    table = pl.DataFrame(schema=TABLE | {"x": pl.Int64}).lazy()
    with pytest.raises(TypeError, match=r"prediction_time is Datetime.*'ms'.*cast one"):
        look_up(spine.with_columns(at.alias(PREDICTION_TIME)), table, Latest(KEYS, {"value": "x"}))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_window_is_as_long_in_any_unit_of_time(unit):
    moments = [START - 2 * HOUR, START - HOUR]
    table = pl.DataFrame(
        [("AA", "EWR", at, at, 1, 2, 8) for at in moments], schema=TABLE | SUMS, orient="row"
    )
    spine = pl.DataFrame([(0, "AA", "EWR", START)], schema=SPINE, orient="row")
    spine, table = (f.cast({pl.Datetime: pl.Datetime(unit, "UTC")}) for f in (spine, table))
    definition = Trailing(KEYS, "route", {"delay": ("delay", "late")}, WINDOWS)
    found = look_up(spine, table.lazy(), definition)
    assert found.row(0)[-2:] == (8.0, 8.0)
    assert look_up(spine, table.lazy().with_columns(pl.col("delay") * 2), definition)[
        "route_delay_2h"
    ].to_list() == [16.0]


def test_a_sum_that_is_no_whole_number_is_refused():
    """One not-a-number would be in every later sum, of all keys."""
    table = pl.DataFrame(schema=TABLE | SUMS | {"delay": pl.Float64}).lazy()
    with pytest.raises(TypeError, match="the sum 'delay' is Float64; keep whole numbers"):
        look_up(pl.DataFrame(schema=SPINE), table, Trailing(KEYS, "route", RATIOS, WINDOWS))


def test_a_row_without_a_time_is_never_known_and_one_asked_at_no_time_knows_nothing():
    table = pl.DataFrame(
        [("AA", "EWR", START, None, 1, 2, 8), ("AA", "EWR", START, START, 1, 1, 5)],
        schema=TABLE | SUMS,
        orient="row",
    )
    asked = [(0, "AA", "EWR", START), (1, "AA", "EWR", None)]
    spine = pl.DataFrame(asked, schema=SPINE, orient="row")
    found = look_up(spine, table.lazy(), Trailing(KEYS, "route", RATIOS, WINDOWS))
    assert found["route_mean_delay_2h"].to_list() == [5.0, None]
    assert found["route_delay_2h"].to_list() == [5, None]
    found = look_up(spine, table.lazy(), Latest(KEYS, {"value": "delay"}))
    assert found["value"].to_list() == [5, None]


def local_midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)


def local_day(column):
    return pl.col(column).dt.convert_time_zone("America/New_York").dt.date()


@given(st.integers(1, 24 * 60 * 15), st.integers(0, 60 * 48), st.booleans())
def test_days_back_reaches_far_enough_on_each_day_of_the_year(reach, lead, trailing):
    reach, lead = timedelta(minutes=reach), timedelta(minutes=lead)
    definition = Trailing(KEYS, "p", RATIOS, {"w": reach}) if trailing else Latest(KEYS, {}, reach)
    back = days_back(definition, lead)
    spring, autumn = date(2013, 3, 10), date(2013, 11, 3)
    nights = [d + timedelta(days=n) for d in (spring, autumn) for n in range(-1, back + 2)]
    reached = [local_midnight(day) - lead - reach for day in nights]
    read = [local_midnight(day - timedelta(days=back)) for day in nights]
    assert all(first <= far for first, far in zip(read, reached, strict=True))
    assert max(far - first for first, far in zip(read, reached, strict=True)) <= 26 * HOUR


def test_days_back_without_a_time_to_live_is_all():
    assert days_back(Latest(KEYS, {"value": "x"}), 2 * HOUR) is None


LEAD = 2 * HOUR
SPRING = 24 * 5
"""Hours from START that span the short day of 2013-03-10."""


def sliced(spine, table, definition, day_column):
    """Look up day by day of the rows' own time, in the partitions that days_back names."""
    own = (pl.col(PREDICTION_TIME) + LEAD).dt.convert_time_zone("America/New_York").dt.date()
    back = timedelta(days=days_back(definition, LEAD))
    parts = [
        look_up(
            rows,
            table.filter(local_day(day_column).is_between(day - back, day)).lazy(),
            definition,
        )
        for (day,), rows in spine.group_by(own)
    ]
    return pl.concat(parts).sort("row") if parts else look_up(spine, table.lazy(), definition)


@settings(max_examples=80, deadline=None)
@given(spines(0, SPRING), sums(SPRING), st.sampled_from([6, 24, 47]))
def test_a_trailing_window_needs_no_other_partitions(spine, table, window):
    definition = Trailing(KEYS, "route", RATIOS, {"w": window * HOUR})
    whole = look_up(spine, table.lazy(), definition)
    assert_frame_equal(sliced(spine, table, definition, AVAILABLE_AT), whole)


@settings(max_examples=80, deadline=None)
@given(spines(0, SPRING), readings(st.just(1), SPRING), st.sampled_from([1, 6, 24, 47]))
def test_the_latest_row_needs_no_other_partitions(spine, table, ttl):
    """Where rows become available in the order of what they speak of."""
    definition = Latest(KEYS, {"value": "x"}, ttl * HOUR)
    whole = look_up(spine, table.lazy(), definition)
    assert_frame_equal(sliced(spine, table, definition, EVENT_TIME), whole)
