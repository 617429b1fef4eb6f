"""Which rows can be asked for online: those of the newest days, or all where there are no days."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from mlops_assets.components.ml_product.online_features import newest_days
from mlops_assets.ml.blocks import block_day
from mlops_assets.ml.periods import DAYS
from mlops_assets.stores.lakehouse import Commit, Lakehouse

ROWS, BLOCKS, ONLINE_DAYS = 200, 20, 7
FIRST = date(2000, 1, 1)


@pytest.mark.parametrize("time", ["", "at"])
def test_rows_without_a_time_are_all_there(tmp_path, time):
    lake = Lakehouse(tmp_path)
    rows = pl.DataFrame({"key": range(ROWS), "x": range(ROWS)})
    rows = rows.with_columns(block_day(["key"], FIRST, BLOCKS).alias("date"))
    lake.append("d/rows", rows, Commit(), by="date")
    field = {"key": SimpleNamespace(required=True), "x": SimpleNamespace(required=False)}
    # All that is read of a product.
    product = SimpleNamespace(
        name="p", problem="", definitions={}, request=field, lead=timedelta(0),
        spine=SimpleNamespace(table="d/rows", time=time),
        serving=SimpleNamespace(online_days=ONLINE_DAYS),
        days=SimpleNamespace(timezone="UTC"), features=SimpleNamespace(tables=[]), partitions=DAYS,
    )  # fmt: skip
    held = newest_days(lake, product)["d/rows"]
    newest = rows.filter(pl.col("date") > rows["date"].max() - timedelta(days=ONLINE_DAYS))
    assert held.packed.keys == (newest if time else rows).height
    assert newest.height < ROWS
