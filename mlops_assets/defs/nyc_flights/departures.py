"""Feature tables of departures by the hour: how many left an airport, and how many of them late.

All are sums at the full hour by which they were known; a product takes windows of them where it
reads them. A flight is late to leave from LATE_MINUTES on, and a cancelled one never leaves.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from mlops_assets.components.tables import feature_table
from mlops_assets.defs.nyc_flights.days import DAYS
from mlops_assets.defs.nyc_flights.expressions import LATE_MINUTES, NEW_YORK
from mlops_assets.defs.nyc_flights.features import OWNERS
from mlops_assets.ml.point_in_time import Trailing

HOURS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
"""Lengths of the windows that make up the recent sequence: an hour each at first, then longer."""

LEFT = pl.col("event") == "departure"
LATE = pl.col("delay") >= LATE_MINUTES


@feature_table(
    days=DAYS,
    definition=Trailing(
        keys=("origin",),
        prefix="origin",
        ratios={
            "planned": ("planned", None),
            "departed": ("departed", None),
            "departed_late": ("departed_late", None),
        },
        windows={f"{n}h": timedelta(hours=n) for n in HOURS} | {"7d": timedelta(days=7)},
    ),
    owners=OWNERS,
)
def departure_counts(flight_schedule: pl.LazyFrame, flight_events: pl.LazyFrame) -> pl.LazyFrame:
    """How many departures were planned by then, how many flights left, and how many late.

    Planned less departed are those that still wait, or were cancelled.
    """
    planned = flight_schedule.select(
        "date",
        "origin",
        _known_by_the_hour(pl.col("scheduled_departure")).alias("available_at"),
        pl.lit(1).alias("planned"),
    )
    departed = flight_events.filter(LEFT).select(
        "date",
        "origin",
        _known_by_the_hour(pl.col("available_at")).alias("available_at"),
        pl.lit(1).alias("departed"),
        LATE.cast(pl.Int32).alias("departed_late"),
    )
    sums = ["planned", "departed", "departed_late"]
    return (
        pl.concat([planned, departed], how="diagonal")
        .group_by("date", "origin", "available_at")
        .agg(pl.col(sums).sum().cast(pl.Int64))
        .with_columns(pl.col("available_at").alias("event_time"))
        .sort("date", "origin", "available_at")
    )


@feature_table(
    days=DAYS,
    definition=Trailing(
        keys=("origin", "departure_hour"),
        prefix="same_hour",
        ratios={"departed": ("departed", None), "departed_late": ("departed_late", None)},
        # Up to a day passes until the last flight of an hour has left.
        windows={"last_week": timedelta(days=8)},
    ),
    owners=OWNERS,
)
def same_hour_last_week(flight_events: pl.LazyFrame) -> pl.LazyFrame:
    """How the flights left that were planned for an hour, under the same local hour a week later.

    It is a sum and no latest value, because flights of one hour leave on two local days, which are
    two partitions.
    """
    planned = pl.col("departed_at") - pl.duration(minutes="delay")
    return (
        flight_events.filter(LEFT)
        .select(
            "date",
            "origin",
            _a_week_later(planned.dt.truncate("1h")).alias("departure_hour"),
            _known_by_the_hour(pl.col("available_at")).alias("available_at"),
            LATE.alias("late"),
        )
        .group_by("date", "origin", "departure_hour", "available_at")
        .agg(
            pl.len().cast(pl.Int64).alias("departed"),
            pl.col("late").sum().cast(pl.Int64).alias("departed_late"),
        )
        .with_columns(pl.col("available_at").alias("event_time"))
        .sort("date", "origin", "departure_hour", "available_at")
    )


def _known_by_the_hour(time: pl.Expr) -> pl.Expr:
    """The first full hour (UTC) at or after a time: what happened is reported once an hour."""
    return (time - pl.duration(microseconds=1)).dt.truncate("1h") + pl.duration(hours=1)


def _a_week_later(time: pl.Expr) -> pl.Expr:
    """The same local time in New York seven days later, in UTC; null where there is no such."""
    local = time.dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None) + pl.duration(days=7)
    # A clock time that occurs twice, when summer time ends, is read as the first.
    return local.dt.replace_time_zone(
        NEW_YORK, ambiguous="earliest", non_existent="null"
    ).dt.convert_time_zone("UTC")
