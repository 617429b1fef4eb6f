"""The problem: which hours to predict, when, and what is counted in them. Pure polars."""

from __future__ import annotations

import polars as pl

from mlops_assets.defs.departure_demand.expressions import LEAD, six_hours_before
from mlops_assets.defs.nyc_flights.days import DAYS
from mlops_assets.defs.nyc_flights.expressions import LATE_MINUTES

__all__ = ["DAYS", "LEAD", "label", "spine"]


def spine(scheduled_congestion: pl.LazyFrame) -> pl.LazyFrame:
    """One row an airport and hour with planned departures, asked six hours before it begins."""
    return scheduled_congestion.with_columns(six_hours_before())


def label(flight_events: pl.LazyFrame) -> pl.LazyFrame:
    """How many flights that were planned to leave in the hour left 15 minutes late or more.

    Cancelled flights never left and are not counted; an hour of which none left has no label.
    """
    planned = pl.col("departed_at") - pl.duration(minutes="delay")
    return (
        flight_events.filter(pl.col("event") == "departure")
        .group_by(
            pl.col("flight_date").alias("date"),
            "origin",
            planned.dt.truncate("1h").alias("departure_hour"),
        )
        .agg((pl.col("delay") >= LATE_MINUTES).sum().cast(pl.Float64).alias("label"))
    )
