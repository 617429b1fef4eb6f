"""The periods that rows come in: days, weeks or months, each named by its first local day.

A table's `date` is its row's period, and a partition of the table holds one. All lengths that a
declaration gives are calendar days; here stands how many periods those are. Pure, and of dates
only: a period begins at the local midnight of its first day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import polars as pl

Every = Literal["day", "week", "month"]
_DAY = timedelta(days=1)
_LENGTH = {"day": 1, "week": 7, "month": 30}
_SHORTEST = {"day": 1, "week": 7, "month": 28}


@dataclass(frozen=True)
class Periods:
    """Days, weeks or months.

    Attributes:
        every: how long one is.
        weekday: of weeks, the weekday on which they begin, Monday is 0; else 0.
    """

    every: Every = "day"
    weekday: int = 0

    def of(self, day: date) -> date:
        """The period that a day lies in."""
        if self.every == "month":
            return day.replace(day=1)
        if self.every == "week":
            return day - (day.weekday() - self.weekday) % 7 * _DAY
        return day

    def step(self, period: date, count: int = 1) -> date:
        """The period so many after this one, or before it where the count is negative."""
        if self.every == "month":
            months = period.year * 12 + period.month - 1 + count
            return date(months // 12, months % 12 + 1, 1)
        return period + count * _LENGTH[self.every] * _DAY

    def last_day(self, period: date) -> date:
        """The last day of a period."""
        return self.step(period) - _DAY

    def ended_by(self, day: date) -> date:
        """The newest period all days of which are before or on a day."""
        return self.step(self.of(day + _DAY), -1)

    def reached(self, days: int) -> int:
        """How many periods beside one's own so many days to one side of it touch at most."""
        return -(-days // _SHORTEST[self.every])

    def within(self, days: int) -> int:
        """How many periods so many days make, at least one."""
        return max(1, days // _LENGTH[self.every])

    def column(self, day: pl.Expr) -> pl.Expr:
        """The period of a column of local days."""
        if self.every == "month":
            return day.dt.month_start()
        if self.every == "week":
            since = (day.dt.weekday().cast(pl.Int32) - 1 - self.weekday) % 7
            return day - pl.duration(days=since)
        return day

    def __str__(self) -> str:
        return f"{self.every}s"


DAYS = Periods()
