"""Pure polars expressions of the flights domain, shared by tables, products and the endpoint.

No Dagster and no I/O: a Bento imports this module. Times are UTC unless a name says local.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

NEW_YORK = "America/New_York"
LATE_MINUTES = 15
"""From how many minutes of delay on a flight is late."""
LEAD = timedelta(hours=2)
"""Time between the question whether a flight will be late, and its scheduled departure."""


def clock(column: str) -> pl.Expr:
    """An "hhmm" integer as the duration since local midnight; 2400 is a whole day."""
    hhmm = pl.col(column)
    return pl.duration(hours=hhmm // 100, minutes=hhmm % 100)


def local_date(column: str) -> pl.Expr:
    """The New York calendar date of a UTC time."""
    return pl.col(column).dt.convert_time_zone(NEW_YORK).dt.date()


def relative_humidity(temperature_f: str, dew_point_f: str) -> pl.Expr:
    """Percent, from the columns of temperature and dew point in Fahrenheit (Magnus formula)."""

    def vapour(column: str) -> pl.Expr:
        celsius = (pl.col(column) - 32) / 1.8
        return (17.625 * celsius / (243.04 + celsius)).exp()

    return 100 * vapour(dew_point_f) / vapour(temperature_f)


def calendar_features() -> list[pl.Expr]:
    """What the schedule alone says, from `scheduled_departure` and `scheduled_arrival` (UTC).

    `scheduled_hour` is local with minutes as a fraction, 0 to 24; `weekday` is 1 (Monday) to 7;
    `scheduled_minutes` is the planned block time.
    """
    local = pl.col("scheduled_departure").dt.convert_time_zone(NEW_YORK)
    block = pl.col("scheduled_arrival") - pl.col("scheduled_departure")
    # Not divided by 60: polars rounds that otherwise for one row than for many.
    return [
        (local.dt.hour() + local.dt.minute() * (1 / 60)).alias("scheduled_hour"),
        local.dt.weekday().cast(pl.Int8).alias("weekday"),
        block.dt.total_minutes().alias("scheduled_minutes"),
    ]


def two_hours_before_departure() -> list[pl.Expr]:
    """What follows from a scheduled flight alone, to be asked two hours before it leaves.

    From `scheduled_departure` and `scheduled_arrival` (UTC): `date` (local), `prediction_time` and
    `departure_hour` (UTC), and the features of `calendar_features`.
    """
    departure = pl.col("scheduled_departure")
    return [
        local_date("scheduled_departure").alias("date"),
        (departure - LEAD).alias("prediction_time"),
        departure.dt.truncate("1h").alias("departure_hour"),
        *calendar_features(),
    ]
