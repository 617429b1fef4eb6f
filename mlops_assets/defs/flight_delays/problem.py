"""The problem: which flights to predict, when, and what being late means. Pure polars."""

from __future__ import annotations

import polars as pl

from mlops_assets.defs.nyc_flights.days import DAYS
from mlops_assets.defs.nyc_flights.expressions import (
    LATE_MINUTES,
    LEAD,
    two_hours_before_departure,
)

__all__ = ["DAYS", "LEAD", "label", "spine"]


def spine(flight_schedule: pl.LazyFrame) -> pl.LazyFrame:
    """One row a scheduled flight, asked two hours before it is scheduled to leave."""
    return flight_schedule.with_columns(two_hours_before_departure())


def label(flight_events: pl.LazyFrame) -> pl.LazyFrame:
    """1 where a flight arrived 15 minutes late or more; cancelled and diverted ones have none."""
    return flight_events.filter(pl.col("event") == "arrival").select(
        pl.col("flight_date").alias("date"),
        "carrier",
        "flight",
        "origin",
        (pl.col("delay") >= LATE_MINUTES).cast(pl.Int8).alias("label"),
    )
