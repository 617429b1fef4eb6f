"""What a row of each table of the flights domain must be; a row that is not goes to quarantine.

A rule looks at one row, or at the rows of one day (`over("date", ...)`), never further: what a day
contains must not depend on which other days are read with it.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from mlops_assets.defs.nyc_flights.expressions import local_date


def _utc(*, primary_key: bool = False) -> dy.Datetime:
    return dy.Datetime(nullable=False, primary_key=primary_key, time_zone="UTC", time_unit="us")


class FlightSchedule(dy.Schema):
    """A flight as planned: known long before it leaves."""

    date = dy.Date(primary_key=True)
    carrier = dy.String(primary_key=True, regex="^[0-9A-Z]{2}$")
    flight = dy.Int64(primary_key=True, min=1, max=9999)
    origin = dy.String(primary_key=True, regex="^(EWR|JFK|LGA)$")
    dest = dy.String(nullable=False, regex="^[A-Z]{3}$")
    distance = dy.Int64(nullable=False, min=10, max=6000)
    scheduled_departure = _utc()
    scheduled_arrival = _utc()

    @dy.rule()
    def block_time_is_plausible(cls) -> pl.Expr:
        """A flight is planned to take 20 minutes to 20 hours."""
        block = pl.col("scheduled_arrival") - pl.col("scheduled_departure")
        return block.is_between(pl.duration(minutes=20), pl.duration(hours=20))


class FlightEvents(dy.Schema):
    """A departure or an arrival, in the partition of the New York day on which it happened."""

    date = dy.Date(nullable=False)
    flight_date = dy.Date(primary_key=True)
    carrier = dy.String(primary_key=True)
    flight = dy.Int64(primary_key=True, min=1, max=9999)
    origin = dy.String(primary_key=True, regex="^(EWR|JFK|LGA)$")
    event = dy.String(primary_key=True, regex="^(arrival|departure)$")
    dest = dy.String(nullable=False, regex="^[A-Z]{3}$")
    tailnum = dy.String(nullable=True)
    delay = dy.Int64(nullable=False, min=-120, max=2880)
    departed_at = _utc()
    event_time = _utc()
    available_at = _utc()

    @dy.rule()
    def not_available_before_it_happened(cls) -> pl.Expr:
        """Nothing is known before it happens."""
        return pl.col("available_at") >= pl.col("event_time")

    @dy.rule()
    def lands_before_its_aircraft_departs_again(cls) -> pl.Expr:
        """The same tail number cannot be in the air twice at once."""
        again = (
            pl.col("departed_at").shift(-1).over("date", "tailnum", "event", order_by="departed_at")
        )
        in_order = (pl.col("event") == "departure") | (pl.col("event_time") <= again)
        return in_order.fill_null(True) | pl.col("tailnum").is_null()

    @dy.rule()
    def one_arrival_of_an_aircraft_at_a_time(cls) -> pl.Expr:
        """An as-of join on (tail number, time) would be ambiguous on such a pair."""
        alone = pl.len().over("date", "tailnum", "event", "event_time") == 1
        return alone | (pl.col("event") == "departure") | pl.col("tailnum").is_null()


class Weather(dy.Schema):
    """An hourly reading at an airport; a gauge may be missing, but not absurd."""

    date = dy.Date(nullable=False)
    origin = dy.String(primary_key=True, regex="^(EWR|JFK|LGA)$")
    event_time = _utc(primary_key=True)
    available_at = _utc()
    temperature_f = dy.Float64(nullable=True, min=-40, max=130)
    dew_point_f = dy.Float64(nullable=True, min=-60, max=100)
    humidity = dy.Float64(nullable=True, min=0, max=100)
    wind_direction = dy.Int64(nullable=True, min=0, max=360)
    wind_speed_mph = dy.Float64(nullable=True, min=0, max=200)
    wind_gust_mph = dy.Float64(nullable=True, min=0, max=250)
    precipitation_in = dy.Float64(nullable=True, min=0, max=10)
    pressure_mb = dy.Float64(nullable=True, min=870, max=1085)
    visibility_mi = dy.Float64(nullable=True, min=0, max=10)


class ScheduledCongestion(dy.Schema):
    """An hour in which flights are planned to leave an airport; known a day before."""

    date = dy.Date(nullable=False)
    origin = dy.String(primary_key=True, regex="^(EWR|JFK|LGA)$")
    departure_hour = _utc(primary_key=True)
    departures = dy.Int64(nullable=False, min=1, max=100)
    carriers = dy.Int64(nullable=False, min=1, max=30)
    departures_before = dy.Int64(nullable=False, min=0, max=300)
    event_time = _utc()
    available_at = _utc()

    @dy.rule()
    def is_a_whole_hour_of_its_day(cls) -> pl.Expr:
        """An hour begins at its first minute, and is one of the local day."""
        hour = pl.col("departure_hour")
        return (hour.dt.truncate("1h") == hour) & (local_date("departure_hour") == pl.col("date"))


class Planes(dy.Schema):
    """An aircraft by its tail number."""

    tailnum = dy.String(primary_key=True, regex="^N[0-9A-Z]{1,5}$")
    year = dy.Int64(nullable=True, min=1930, max=2013)
    manufacturer = dy.String(nullable=False)
    model = dy.String(nullable=False)
    engines = dy.Int64(nullable=False, min=1, max=4)
    seats = dy.Int64(nullable=False, min=1, max=600)


class Airports(dy.Schema):
    """An airport, with the time zone that its clock times are in."""

    airport = dy.String(primary_key=True, regex="^[0-9A-Z]{3}$")
    name = dy.String(nullable=False)
    latitude = dy.Float64(nullable=False, min=-90, max=90)
    longitude = dy.Float64(nullable=False, min=-180, max=180)
    time_zone = dy.String(nullable=True)


class Airlines(dy.Schema):
    """A carrier's code and name."""

    carrier = dy.String(primary_key=True, regex="^[0-9A-Z]{2}$")
    name = dy.String(nullable=False)


class Routes(dy.Schema):
    """A route has one distance; the source gives two for some, which this key refuses."""

    origin = dy.String(primary_key=True)
    dest = dy.String(primary_key=True)
    distance_mi = dy.Int64(nullable=False, min=10, max=6000)
