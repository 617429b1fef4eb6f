"""What follows from a row alone is the same number for one row, as the endpoint asks, and many."""

from datetime import UTC, datetime, timedelta

import polars as pl
from polars.testing import assert_frame_equal

from mlops_assets.defs.nyc_flights.expressions import two_hours_before_departure


def test_one_row_gives_what_many_give_to_the_last_bit():
    """Each minute of the day on which summer time begins."""
    departures = [datetime(2013, 3, 10, 5, tzinfo=UTC) + timedelta(minutes=n) for n in range(1440)]
    utc = pl.Datetime("us", "UTC")
    rows = pl.DataFrame({"scheduled_departure": pl.Series(departures, dtype=utc)}).with_columns(
        scheduled_arrival=pl.col("scheduled_departure") + pl.duration(minutes=101)
    )
    expressions = two_hours_before_departure()
    many = rows.with_columns(expressions)
    one_by_one = pl.concat(each.with_columns(expressions) for each in rows.iter_slices(1))
    assert_frame_equal(one_by_one, many, check_exact=True)
    assert many["scheduled_hour"].n_unique() == 1380
