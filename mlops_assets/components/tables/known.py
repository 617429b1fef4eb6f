"""What is published of a table already, as far as a day that comes is compared with it."""

from __future__ import annotations

from datetime import date

import polars as pl

from mlops_assets.components.tables.examine import Table
from mlops_assets.components.tables.measures import Known
from mlops_assets.components.tables.quality import DAY
from mlops_assets.components.tables.table_asset import table_periods
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME
from mlops_assets.stores.lakehouse import Lakehouse


def known(lakehouse: Lakehouse, table: Table, days: list[date] | None) -> Known:
    """What the table's checks compare `days` with; None stands for a table without days."""
    if not (table.arrives or table.order_by) or not lakehouse.exists(table.name):
        return Known()
    if days is None:
        return Known({None: lakehouse.rows(table.name)})
    periods = table_periods(table.name)
    before, after = periods.step(days[0], -1), periods.step(days[-1])
    rows = lakehouse.scan(table.name, first=before, last=after)
    if not table.order_by:
        counted = rows.filter(pl.col(DAY).is_in(days)).group_by(DAY).len().collect()
        return Known(dict(counted.iter_rows()))
    columns = [DAY, *table.order_by, EVENT_TIME, AVAILABLE_AT]
    return Known(around=rows.filter(~pl.col(DAY).is_in(days)).select(columns).collect())
