"""The Delta IO manager: what a plain asset returns, stored and read back."""

from datetime import date

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.io_manager import DeltaIOManager
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.stores.lakehouse import Lakehouse

DAYS = dg.DailyPartitionsDefinition("2013-03-01", end_date="2013-03-11")
DAY, NEXT = date(2013, 3, 1), date(2013, 3, 2)


def a_day(day):
    return pl.DataFrame({"date": [day] * 2, "station": [1, 2], "value": [10.0, 20.0]})


@dg.asset(partitions_def=DAYS)
def daily(context) -> pl.DataFrame:
    return a_day(date.fromisoformat(context.partition_key))


@dg.asset(partitions_def=DAYS)
def sums(daily: pl.DataFrame) -> pl.LazyFrame:
    return daily.lazy().group_by("date").agg(pl.col("value").sum())


@dg.asset(key=["toys", "total"])
def total(sums: pl.LazyFrame):
    return sums.select(pl.col("value").sum())


@dg.asset
def numbers():
    return [1, 2]


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(tmp_path)


@pytest.fixture
def make(lake):
    """Materialize the selected one of all assets, for a day if it is daily."""
    lakehouse = LakehouseResource(uri=lake.uri)

    def made(*only, day=None):
        return dg.materialize(
            [daily, sums, total, numbers],
            selection=only,
            instance=instance,
            partition_key=str(day) if day else None,
            resources={"io_manager": DeltaIOManager(lakehouse=lakehouse)},
        )

    with dg.DagsterInstance.ephemeral() as instance:
        yield made


def test_frames_are_stored_by_day_and_read_back(make, lake):
    for day in (DAY, NEXT, NEXT):
        made = make(daily, sums, day=day)
    stored = lake.scan("daily").collect()
    assert_frame_equal(stored, pl.concat([a_day(DAY), a_day(NEXT)]), check_row_order=False)
    assert lake.partitions("sums") == [str(DAY), str(NEXT)]
    assert lake.history("daily")["run_id"][0] == made.run_id
    shown = made.asset_materializations_for_node("daily")[0].metadata
    assert (shown["rows"].value, shown["delta_version"].value) == (2, 2)
    assert {"sample", "dagster/column_schema"} <= shown.keys()


def test_an_asset_without_days_reads_all_days(make, lake):
    for day in (DAY, NEXT):
        make(daily, sums, day=day)
    make(total)
    assert lake.scan("toys/total").collect()["value"].item() == 60.0


def test_what_is_no_frame_is_refused_with_what_to_do(make):
    with pytest.raises(
        TypeError, match="numbers returned list; the lakehouse stores polars frames"
    ):
        make(numbers)
