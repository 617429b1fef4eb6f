"""The problem of flight_delays with a feature that is known too late: the delay at departure."""

from __future__ import annotations

import polars as pl

from mlops_assets.defs.flight_delays import problem
from mlops_assets.defs.flight_delays.problem import DAYS, label
from mlops_assets.defs.nyc_flights.source import read_source

__all__ = ["DAYS", "label", "spine"]

KEY = ["date", "carrier", "flight", "origin"]


def spine(flight_schedule: pl.LazyFrame) -> pl.LazyFrame:
    """The rows to predict, each with `dep_delay` (minutes)."""
    left = read_source("flights").select(
        pl.date("year", "month", "day").alias("date"),
        "carrier",
        pl.col("flight").cast(pl.Int64),
        "origin",
        pl.col("dep_delay").cast(pl.Float64),
    )
    rows = problem.spine(flight_schedule)
    return rows.join(left.lazy(), on=KEY, how="left", maintain_order="left")
