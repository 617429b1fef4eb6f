"""The periods that rows come in: hours, days, weeks or months, each named by its beginning.

A table's `date` is its row's period, and a partition of the table holds one: a date, of hours a
time in UTC. All lengths that a declaration gives are calendar days; here stands how many periods
those are. Pure. A day, week or month begins at the local midnight of its first day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import polars as pl

Every = Literal["hour", "day", "week", "month"]
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_LENGTH = {"day": 1, "week": 7, "month": 30}
_SHORTEST = {"day": 1, "week": 7, "month": 28}
HOUR_NAME = "%Y-%m-%d-%H:%M"
"""How Dagster names an hour."""


def name_of(period: date) -> str:
    """The name of a period's partition: 2013-03-08, or of an hour 2013-03-08-05:00."""
    return f"{period:{HOUR_NAME}}" if isinstance(period, datetime) else period.isoformat()


def named(name: str) -> date:
    """The period of a name.

    Raises:
        ValueError: it names none.
    """
    if len(name) == len("2013-03-08"):
        return date.fromisoformat(name)
    return datetime.strptime(name, HOUR_NAME).replace(tzinfo=UTC)


def day_of(period: date) -> date:
    """The day on which a period begins."""
    return period.date() if isinstance(period, datetime) else period


@dataclass(frozen=True)
class Periods:
    """Hours, days, weeks or months.

    Attributes:
        every: how long one is.
        weekday: of weeks, the weekday on which they begin, Monday is 0; else 0.
    """

    every: Every = "day"
    weekday: int = 0

    def of(self, day: date) -> date:
        """The period that a day, or a moment in UTC, lies in; of a day its first hour."""
        if self.every == "hour":
            if isinstance(day, datetime):
                return day.replace(minute=0, second=0, microsecond=0)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        day = day_of(day)
        if self.every == "month":
            return day.replace(day=1)
        if self.every == "week":
            return day - (day.weekday() - self.weekday) % 7 * _DAY
        return day

    def step(self, period: date, count: int = 1) -> date:
        """The period so many after this one, or before it where the count is negative."""
        if self.every == "hour":
            return period + count * _HOUR
        if self.every == "month":
            months = period.year * 12 + period.month - 1 + count
            return date(months // 12, months % 12 + 1, 1)
        return period + count * _LENGTH[self.every] * _DAY

    def between(self, first: date, last: date) -> list[date]:
        """The periods from one to another, both included."""
        found = []
        while first <= last:
            found.append(first)
            first = self.step(first)
        return found

    def last_day(self, period: date) -> date:
        """The last day that a period has part in."""
        return day_of(period) if self.every == "hour" else self.step(period) - _DAY

    def read_through(self, period: date) -> date:
        """Up to what a source is read for a period: its last day, of an hour itself."""
        return period if self.every == "hour" else self.last_day(period)

    def opens(self, last: date, days: int) -> date:
        """The earliest beginning in a window of so many days that a period is the last of."""
        if self.every == "hour":
            return self.step(last - days * _DAY)
        return last - (days - 1) * _DAY

    def ended_by(self, day: date) -> date:
        """The newest period all of which is before or on a day."""
        return self.step(self.of(day + _DAY), -1)

    def at_end(self, day: date) -> date:
        """The period that a day ends in, or that a moment in UTC lies in."""
        is_moment = isinstance(day, datetime)
        return self.ended_by(day) if self.every == "hour" and not is_moment else self.of(day)

    def reached(self, days: int) -> int:
        """How many periods beside one's own so many days to one side of it touch at most."""
        return 24 * days if self.every == "hour" else -(-days // _SHORTEST[self.every])

    def within(self, days: int) -> int:
        """How many periods so many days make, at least one."""
        return 24 * days if self.every == "hour" else max(1, days // _LENGTH[self.every])

    def at(self, moment: pl.Expr, zone: str) -> pl.Expr:
        """The period of a column of moments (UTC), by the days of a time zone."""
        if self.every == "hour":
            return self.column(moment.dt.convert_time_zone("UTC"))
        return self.column(moment.dt.convert_time_zone(zone).dt.date())

    def column(self, day: pl.Expr) -> pl.Expr:
        """The period of a column of local days; of hours, of one of moments in UTC."""
        if self.every == "hour":
            return day.dt.truncate("1h")
        if self.every == "month":
            return day.dt.month_start()
        if self.every == "week":
            since = (day.dt.weekday().cast(pl.Int32) - 1 - self.weekday) % 7
            return day - pl.duration(days=since)
        return day

    @property
    def dtype(self) -> pl.DataType:
        """The type of a column of them."""
        return pl.Datetime("us", "UTC") if self.every == "hour" else pl.Date()

    def __str__(self) -> str:
        return f"{self.every}s"


DAYS = Periods()
