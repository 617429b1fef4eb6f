"""Which periods an asset's partitions are: hours, days, weeks, months, as Dagster declares them."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import dagster as dg

from mlops_assets.components.code_version import Registry
from mlops_assets.ml.periods import DAYS, HOUR_NAME, Periods, name_of, named

Calendar = (
    dg.HourlyPartitionsDefinition
    | dg.DailyPartitionsDefinition
    | dg.WeeklyPartitionsDefinition
    | dg.MonthlyPartitionsDefinition
)

PERIODS_OF: dict[dg.AssetKey, Periods] = Registry()
"""Each declared asset to what its partitions are; days, where it has none."""


def periods_of(calendar: dg.PartitionsDefinition[str] | None) -> Periods:
    """The periods of a partitions definition; days of None.

    Raises:
        ValueError: its partitions are no hours of UTC, and no local days, weeks or months from
            midnight to midnight.
    """
    if calendar is None:
        return DAYS
    wanted = "hourly partitions of UTC, or daily, weekly or monthly ones that begin at midnight"
    if not isinstance(calendar, Calendar):
        raise ValueError(f"{calendar!r} is not what rows can come in: {wanted}")
    if isinstance(calendar, dg.HourlyPartitionsDefinition):
        if calendar.minute_offset or calendar.timezone != "UTC":
            at = f"minute {calendar.minute_offset} of {calendar.timezone}"
            raise ValueError(f"its hours begin at {at}; expected {wanted}")
        return Periods("hour")
    if calendar.minute_offset or calendar.hour_offset:
        at = f"{calendar.hour_offset:02}:{calendar.minute_offset:02}"
        raise ValueError(f"its partitions begin at {at}; expected {wanted}")
    if isinstance(calendar, dg.WeeklyPartitionsDefinition):
        # Cron counts from Sunday, Python from Monday.
        return Periods("week", (calendar.day_offset - 1) % 7)
    if isinstance(calendar, dg.MonthlyPartitionsDefinition):
        if calendar.day_offset != 1:
            raise ValueError(f"its months begin on day {calendar.day_offset}; expected the first")
        return Periods("month")
    return DAYS


def beginning(calendar: Calendar, first: date) -> Calendar:
    """The same calendar from a later period on."""
    if isinstance(calendar, dg.HourlyPartitionsDefinition):
        end = f"{calendar.end:{HOUR_NAME}}" if calendar.end else None
        return dg.HourlyPartitionsDefinition(name_of(first), end_date=end, timezone="UTC")
    ends = f"{calendar.end:%Y-%m-%d}" if calendar.end else None
    if isinstance(calendar, dg.WeeklyPartitionsDefinition):
        return dg.WeeklyPartitionsDefinition(
            first.isoformat(), end_date=ends, timezone=calendar.timezone,
            day_offset=calendar.day_offset,
        )  # fmt: skip
    kind = type(calendar)
    return kind(first.isoformat(), end_date=ends, timezone=calendar.timezone)


def declare(key: dg.AssetKey, calendar: dg.PartitionsDefinition[str] | None) -> None:
    """Remember which periods an asset's partitions are."""
    PERIODS_OF[key] = periods_of(calendar)


def periods_of_asset(key: dg.AssetKey) -> Periods:
    """Which periods an asset's partitions are; days where nothing is declared of it."""
    return PERIODS_OF.get(key, DAYS)


def partitions_around(
    reader: dg.AssetKey, read: dg.AssetKey, partition: str, first: int, last: int
) -> tuple[str, ...]:
    """Partitions of an input that touch those of its reader from `first` to `last` periods off."""
    return _around(periods_of_asset(reader), periods_of_asset(read), partition, first, last)


@lru_cache(maxsize=100_000)
def _around(own: Periods, its: Periods, partition: str, first: int, last: int) -> tuple[str, ...]:
    period = named(partition)
    end = its.at_end(own.read_through(own.step(period, last)))
    return tuple(name_of(each) for each in its.between(its.of(own.step(period, first)), end))
