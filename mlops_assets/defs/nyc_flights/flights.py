"""From a row of the source to what was planned and what happened, with true UTC times.

Pure polars, no Dagster. `available_at` of a departure or an arrival is the moment itself.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from mlops_assets.defs.nyc_flights.expressions import NEW_YORK, clock, local_date
from mlops_assets.defs.nyc_flights.source import (
    AIRPORTS_WITHOUT_ZONE,
    read_source,
    require_new_york_clock,
)
from mlops_assets.stores.source_files import SourceError

KEY = ("carrier", "flight", "origin")


def planned(first: date, last: date) -> pl.DataFrame:
    """Flights that are scheduled to leave on the local days `first` to `last`, one row each."""
    rows = _with_times(first, last).with_columns(
        pl.col("flight").cast(pl.Int64), pl.col("distance").cast(pl.Int64)
    )
    return rows.select(
        "date", *KEY, "dest", "distance", "scheduled_departure", "scheduled_arrival"
    ).sort("date", *KEY)


def happened(first: date, last: date) -> pl.DataFrame:
    """Departures and arrivals that took place on the local days `first` to `last`.

    The latest arrival in the source is 32.7 hours after its scheduled departure, so flights of
    two days before can still land on `first`.
    """
    flown = _with_times(first - timedelta(days=2), last + timedelta(days=1)).filter(
        pl.col("dep_delay").is_not_null()
    )
    departed_at = pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")
    arrived_at = pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay")
    shared = ["flight_date", *KEY, "dest", "tailnum", "departed_at"]
    flown = flown.rename({"date": "flight_date"}).with_columns(departed_at.alias("departed_at"))
    departures = flown.select(
        *shared,
        pl.lit("departure").alias("event"),
        pl.col("dep_delay").alias("delay"),
        pl.col("departed_at").alias("event_time"),
    )
    arrivals = flown.filter(pl.col("arr_delay").is_not_null()).select(
        *shared,
        pl.lit("arrival").alias("event"),
        pl.col("arr_delay").alias("delay"),
        arrived_at.alias("event_time"),
    )
    return (
        pl.concat([departures, arrivals])
        .with_columns(
            local_date("event_time").alias("date"), pl.col("event_time").alias("available_at")
        )
        .filter(pl.col("date").is_between(first, last))
        .select(
            "date", "flight_date", *KEY, "event", "dest", "tailnum", "delay", "departed_at",
            "event_time", "available_at",
        )
        .sort("date", "event_time", *KEY)
    )  # fmt: skip


def _with_times(first: date, last: date) -> pl.DataFrame:
    """Source rows of flights scheduled on the days, with scheduled times in UTC."""
    day = pl.date("year", "month", "day")
    rows = read_source("flights").filter(day.is_between(first, last))
    require_new_york_clock(rows, "flights", day.cast(pl.Datetime("us")) + clock("sched_dep_time"))
    rows = rows.with_columns(
        day.alias("date"),
        _utc(day, "sched_dep_time", NEW_YORK).alias("scheduled_departure"),
        pl.col("dest").replace_strict(_zones(), default=None).alias("zone"),
    )
    if unknown := rows.filter(pl.col("zone").is_null())["dest"].unique().to_list():
        raise SourceError(
            f"flights: no time zone is known for dest {', '.join(sorted(map(str, unknown)))}; add"
            " it to airports.csv, or to AIRPORTS_WITHOUT_ZONE in source.py"
        )
    parts = rows.partition_by("zone", as_dict=True).items()
    return pl.concat([part.with_columns(_scheduled_arrival(zone)) for (zone,), part in parts])


def _scheduled_arrival(zone: str) -> pl.Expr:
    same_day = _utc(pl.col("date"), "sched_arr_time", zone)
    # A day is added on the local calendar: in UTC it would be an hour off when the clock changes.
    next_day = _utc(pl.col("date") + pl.duration(days=1), "sched_arr_time", zone)
    lands_same_day = same_day > pl.col("scheduled_departure")
    return pl.when(lands_same_day).then(same_day).otherwise(next_day).alias("scheduled_arrival")


def _utc(day: pl.Expr, hhmm: str, zone: str) -> pl.Expr:
    # A clock time that occurs twice, when summer time ends, is read as the first.
    return (
        (day.cast(pl.Datetime("us")) + clock(hhmm))
        .dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
    )


def _zones() -> dict[str, str]:
    zones = read_source("airports").select("faa", "tzone").drop_nulls()
    return dict(zones.iter_rows()) | AIRPORTS_WITHOUT_ZONE
