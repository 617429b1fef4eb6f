"""Feature tables of the flights domain, shared by its products.

Windows are kept as sums of what became available, per key and moment; the window is taken where
the table is read. Its length is set in WINDOWS below, what is measured in it in RATIOS.

The tail number in the source is the aircraft that flew, perhaps swapped in at the last minute, so
nothing here derives from it (docs/features.md says what it would add).
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import polars as pl

from mlops_assets.components.tables import Quality, feature_table
from mlops_assets.defs.nyc_flights import contracts
from mlops_assets.defs.nyc_flights.days import DAYS
from mlops_assets.defs.nyc_flights.expressions import LATE_MINUTES
from mlops_assets.ml.point_in_time import Latest, Trailing

OWNERS = ["team:data-science"]

WINDOWS = {
    "2h": timedelta(hours=2),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
RATIOS = {
    "late_rate": ("late_arrivals", "arrivals"),
    "arrival_delay": ("arrival_delay", "arrivals"),
    "departure_delay": ("departure_delay", "departures"),
}
"""Feature to (sum, count): share of arrivals late, mean delay of arrivals and departures (min)."""

DELAYS_BY = {
    "origin": (("origin",), ("2h", "6h", "24h")),
    "carrier": (("carrier",), ("6h", "24h", "7d")),
    "carrier_origin": (("carrier", "origin"), ("6h", "24h", "7d")),
    "route": (("origin", "dest"), ("24h", "7d")),
    "destination": (("dest",), ("6h", "24h", "7d")),
    "flight_number": (("carrier", "flight"), ("7d",)),
}
"""Who has a history of delays: name to (entity keys, windows)."""


def _delays(name: str, keys: tuple[str, ...], windows: tuple[str, ...]) -> dg.AssetsDefinition:
    @feature_table(
        name=f"{name}_delays",
        days=DAYS,
        definition=Trailing(keys, name, RATIOS, {w: WINDOWS[w] for w in windows}),
        owners=OWNERS,
    )
    def delays(flight_events: pl.LazyFrame) -> pl.LazyFrame:
        """Sums of arrivals, late arrivals, departures and their delays (minutes) by key, at each
        moment at which any of them became known."""
        arrived = pl.col("event") == "arrival"
        delay = pl.col("delay")
        return (
            flight_events.group_by("date", *keys, "available_at")
            .agg(
                arrived.sum().cast(pl.Int64).alias("arrivals"),
                (arrived & (delay >= LATE_MINUTES)).sum().cast(pl.Int64).alias("late_arrivals"),
                delay.filter(arrived).sum().alias("arrival_delay"),
                (~arrived).sum().cast(pl.Int64).alias("departures"),
                delay.filter(~arrived).sum().alias("departure_delay"),
            )
            .with_columns(pl.col("available_at").alias("event_time"))
            .sort("date", "available_at", *keys)
        )

    return delays


(
    origin_delays,
    carrier_delays,
    carrier_origin_delays,
    route_delays,
    destination_delays,
    flight_number_delays,
) = (_delays(name, keys, windows) for name, (keys, windows) in DELAYS_BY.items())


@feature_table(
    days=DAYS,
    definition=Latest(
        keys=("origin",),
        columns={
            name: name
            for name in (
                "temperature_f", "dew_point_f", "humidity", "wind_direction", "wind_speed_mph",
                "wind_gust_mph", "precipitation_in", "pressure_mb", "visibility_mi",
            )
        },
        ttl=timedelta(hours=6),
    ),
    owners=OWNERS,
)  # fmt: skip
def weather_known(weather: pl.LazyFrame) -> pl.LazyFrame:
    """The newest weather reading at the airport that was available, at most six hours old."""
    return weather


@feature_table(
    days=DAYS,
    definition=Latest(
        keys=("origin", "departure_hour"),
        columns={"departures_in_hour": "departures", "carriers_in_hour": "carriers"},
        ttl=timedelta(hours=1),
    ),
    contract=contracts.ScheduledCongestion,
    quality=Quality(rows=(30, 75)),
    owners=OWNERS,
)
def scheduled_congestion(flight_schedule: pl.LazyFrame) -> pl.LazyFrame:
    """How busy the airport is planned to be in the hour, and in the three hours of the local day
    before it; known a day before."""
    hour = pl.col("departure_hour")
    before = pl.col("departures").rolling_sum_by(hour, window_size="3h", closed="left")
    return (
        flight_schedule.with_columns(
            pl.col("scheduled_departure").dt.truncate("1h").alias("departure_hour")
        )
        .group_by("date", "origin", "departure_hour")
        .agg(
            pl.len().cast(pl.Int64).alias("departures"),
            pl.col("carrier").n_unique().cast(pl.Int64).alias("carriers"),
        )
        .sort("date", "origin", "departure_hour")
        .with_columns(
            before.over("date", "origin").fill_null(0).alias("departures_before"),
            hour.alias("event_time"),
            (hour - pl.duration(days=1)).alias("available_at"),
        )
    )
