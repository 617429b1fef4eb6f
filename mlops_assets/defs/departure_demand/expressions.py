"""What follows from an hour of an airport alone, six hours before it begins. Pure polars.

No Dagster and no I/O: a Bento imports this module.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from mlops_assets.defs.nyc_flights.expressions import NEW_YORK, local_date

LEAD = timedelta(hours=6)
"""Time between the question how many departures will be late, and the hour in which they are."""


def six_hours_before() -> list[pl.Expr]:
    """From `departure_hour` (UTC): `date` (local), `prediction_time` (UTC), and what the calendar
    says: `hour` of the local day, 0 to 23, and `weekday`, 1 (Monday) to 7.
    """
    hour = pl.col("departure_hour")
    local = hour.dt.convert_time_zone(NEW_YORK)
    return [
        local_date("departure_hour").alias("date"),
        (hour - LEAD).alias("prediction_time"),
        local.dt.hour().alias("hour"),
        local.dt.weekday().alias("weekday"),
    ]
