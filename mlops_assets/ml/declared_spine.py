"""The spine and the label of a product that declares them by columns alone, without code.

Pure polars. Training, batch scoring and the endpoint call `expressions` with the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

DAY = "date"
PREDICTION_TIME = "prediction_time"


def expressions(time: str, lead: timedelta, zone: str) -> list[pl.Expr]:
    """A row's `date` (local, in `zone`) and `prediction_time` (UTC), by the column of its time.

    Of a table without a clock, whose `time` is empty, the day is there already, and its first
    moment is when a row is asked for.
    """
    if not time:
        start = pl.col(DAY).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return [(start - lead).alias(PREDICTION_TIME)]
    moment = pl.col(time)
    return [
        moment.dt.convert_time_zone(zone).dt.date().alias(DAY),
        (moment - lead).alias(PREDICTION_TIME),
    ]


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
