"""`history`: how the label went lately, by what recurs; nothing before it was known.

A label of a local day is known `known_after_days` later, and counts from the midnight after; where
the table comes in weeks or months, all labels of one count from when the last is known. So the
table of a day holds what became known at its beginning, and look-ups of training, batch and the
endpoint see the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.periods import Calendar, periods_of
from mlops_assets.components.tables.feature_table import feature_table
from mlops_assets.components.tables.quality import DAY
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, Trailing

SUM, ROWS = "label_sum", "rows"


def history(
    name: str,
    *,
    table: str,
    by: Sequence[str],
    of: str | pl.Expr,
    shares: Mapping[str, Any] | None = None,
    days: Calendar,
    known_after_days: int,
    windows: Sequence[int] = (7, 28),
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """A feature table: how the label went over trailing days, as it was known.

    It gives the mean, `<by>_<label>_7d` and so on; of a label with classes the share of each that
    is named, `<by>_<name>_7d`.

    Args:
        name: what the table is called, "domain/table".
        table: the table that the label is read from, "domain/table".
        by: columns by which it is looked up, in the table and in the spine.
        of: the label, or an expression of it: whole numbers or true and false. Of a number with
            a fraction take a smaller unit: `(pl.col("price") * 100).round()`. With `shares`
            anything that has values.
        shares: name, as it stands in the features, to the value of the label whose share it is.
        days: the table's local days, weeks or months.
        known_after_days: local days after a row's own by which its label is known.
        windows: lengths of the windows, in days.
        owners: teams or e-mail addresses.
    """
    label = pl.col(of) if isinstance(of, str) else of
    lengths = {f"{n}d": timedelta(days=n) for n in windows}
    midnight = _midnight(days.timezone)
    # The column that is added up, to what is added: numbers that every row with a label has.
    summed = {f"{name}_rows": label == value for name, value in (shares or {}).items()}
    ratios = {name: (f"{name}_rows", ROWS) for name in shares or {}}
    if not shares:
        summed, ratios = {SUM: label}, {label.meta.output_name(): (SUM, ROWS)}

    @feature_table(
        name=name,
        days=days,
        days_later=periods_of(days).reached(known_after_days) + 1,
        reads={"labelled": table},
        owners=owners,
        definition=Trailing(tuple(by), "_".join(by), ratios, lengths),
    )
    def sums(labelled: pl.LazyFrame) -> pl.LazyFrame:
        """Sums of the label, and rows that have one, at the midnight at which they are known."""
        return (
            labelled.group_by(DAY, *by)
            .agg(
                *(value.cast(pl.Int64).sum().alias(column) for column, value in summed.items()),
                label.is_not_null().sum().cast(pl.Int64).alias(ROWS),
            )
            .with_columns(midnight.alias(EVENT_TIME), midnight.alias(AVAILABLE_AT))
            .sort(DAY, *by)
        )

    return sums


def _midnight(zone: str) -> pl.Expr:
    """The beginning of `date` in UTC; some zones skip a midnight in spring."""
    clock = pl.col(DAY).cast(pl.Datetime("us"))
    at = [
        (clock + pl.duration(hours=hour)).dt.replace_time_zone(
            zone, ambiguous="earliest", non_existent="null"
        )
        for hour in (0, 1)
    ]
    return pl.coalesce(*at).dt.convert_time_zone("UTC")
