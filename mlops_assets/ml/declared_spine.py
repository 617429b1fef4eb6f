"""The spine and the label of a product that declares them by columns alone, without code.

Pure polars. Training, batch scoring and the endpoint call `Clock.expressions` of the same clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from mlops_assets.ml.blocks import block_day
from mlops_assets.ml.periods import DAYS, Periods
from mlops_assets.ml.point_in_time import PREDICTION_TIME

DAY = "date"


@dataclass(frozen=True)
class Clock:
    """How the day and the prediction time of a row follow from its columns.

    Attributes:
        time: column (UTC) of the moment that the row speaks of; empty for a table without one.
        lead: time between the prediction and that moment.
        zone: of the days.
        keys: of a row without a time: the columns that its day is a hash of.
        first: of a table without a time: its first day.
        blocks: of a table without a time: how many days there are.
        periods: of which its `date` is one.
    """

    time: str
    lead: timedelta
    zone: str
    keys: tuple[str, ...] = ()
    first: date = date(2000, 1, 1)
    blocks: int = 0
    periods: Periods = DAYS

    def expressions(self) -> list[pl.Expr]:
        """A row's `date` (its period, local) and `prediction_time` (UTC), of a row without a time
        by its day's first moment."""
        if self.time:
            moment = pl.col(self.time)
            return [
                self.periods.at(moment, self.zone).alias(DAY),
                (moment - self.lead).alias(PREDICTION_TIME),
            ]
        day = block_day(self.keys, self.first, self.blocks)
        start = day.cast(pl.Datetime("us")).dt.replace_time_zone(self.zone, ambiguous="earliest")
        asked = start.dt.convert_time_zone("UTC") - self.lead
        return [day.alias(DAY), asked.alias(PREDICTION_TIME)]


def label(
    rows: pl.LazyFrame, keys: Sequence[str], column: str, positive: str | float | None
) -> pl.LazyFrame:
    """The entity keys and the `label` of the rows that have one.

    Args:
        rows: the label's table.
        keys: the product's entity keys.
        column: the label's column.
        positive: the value that counts as 1, all others as 0; None keeps the column as it is.
    """
    value = pl.col(column)
    if positive is not None:
        value = (value == positive).cast(pl.Int8)
    elif rows.collect_schema()[column] == pl.Boolean:
        value = value.cast(pl.Int8)
    return rows.select(*keys, value.alias("label")).drop_nulls("label")
