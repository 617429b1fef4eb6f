"""Tables in weeks and months: what Dagster says of partitions, provenance says too."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import dataframely as dy
import polars as pl
import pytest

from mlops_assets.components.arrival import sources
from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.signals import _means_of_days, _newest_of_days
from mlops_assets.components.ml_product.usual import with_usual
from mlops_assets.components.periods import (
    PERIODS_OF,
    beginning,
    declare,
    partitions_around,
    periods_of,
)
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables import feature_table, history, raw_table
from mlops_assets.components.tables.table_asset import DAYS_OF, TABLES
from mlops_assets.ml.periods import DAYS, Periods, name_of, named
from mlops_assets.ml.point_in_time import Latest

WEEKS = dg.WeeklyPartitionsDefinition("2024-01-01", end_date="2024-07-01", day_offset=1)
SUNDAYS = dg.WeeklyPartitionsDefinition("2024-01-01", end_date="2024-07-01")
MONTHS = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2025-01-01")
CALENDAR = dg.DailyPartitionsDefinition("2024-01-01", end_date="2025-01-01")
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-02-01-00:00")
ALL = [CALENDAR, WEEKS, SUNDAYS, MONTHS, HOURS]


def test_what_is_declared_is_understood():
    assert [periods_of(calendar) for calendar in [None, *ALL]] == [
        DAYS, DAYS, Periods("week", 0), Periods("week", 6), Periods("month"), Periods("hour"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("calendar", "says"),
    [
        (dg.HourlyPartitionsDefinition("2024-01-01-00:00", minute_offset=5), "at minute 5 of UTC"),
        (dg.HourlyPartitionsDefinition("2024-01-01-00:00", timezone="Asia/Kolkata"), "of Asia/Kol"),
        (dg.StaticPartitionsDefinition(["a"]), "is not what rows can come in: hourly partitions"),
        (dg.DailyPartitionsDefinition("2024-01-01", hour_offset=3), "begin at 03:00; expected"),
        (dg.MonthlyPartitionsDefinition("2024-01-01", day_offset=5), "begin on day 5; expected"),
    ],
    ids=["from five past", "of India", "names", "from three o'clock", "from the fifth"],
)
def test_other_partitions_are_refused(calendar, says):
    with pytest.raises(ValueError, match=says):
        periods_of(calendar)


@pytest.mark.parametrize("calendar", ALL, ids=lambda c: str(periods_of(c)))
def test_a_calendar_that_begins_later_is_the_same_from_there(calendar):
    keys = calendar.get_partition_keys()
    assert beginning(calendar, named(keys[9])).get_partition_keys() == keys[9:]
    endless = type(calendar)(keys[0])
    assert beginning(endless, periods_of(calendar).of(date(2024, 3, 1))).end is None


@pytest.mark.parametrize("read", ALL, ids=lambda c: str(periods_of(c)))
@pytest.mark.parametrize("reader", ALL, ids=lambda c: str(periods_of(c)))
@pytest.mark.parametrize(("first", "last"), [(0, 0), (-2, 0), (-1, 2)])
def test_provenance_reads_the_partitions_that_dagster_maps(reader, read, first, last):
    own, its = dg.AssetKey("reader_of_periods"), dg.AssetKey("read_by_periods")
    for key, calendar in ((own, reader), (its, read)):
        declare(key, calendar)
    partition = reader.get_partition_keys()[4]
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
    )
    mapped = mapping.get_upstream_mapped_partitions_result_for_partitions(
        reader.subset_with_partition_keys([partition]), reader, read
    )
    there = set(read.get_partition_keys())
    found = [p for p in partitions_around(own, its, partition, first, last) if p in there]
    assert found == sorted(mapped.partitions_subset.get_partition_keys())


def test_what_is_left_out_of_a_declaration_is_usual_for_its_periods():
    said = d.Training(first_cutoff="2024-03-04", holdout_days=21, search=d.Search(trials=2))
    weekly = with_usual(said, "week")
    assert (weekly.holdout_days, weekly.validation_days) == (21, 56)
    assert (weekly.search.trials, weekly.search.fold_days) == (2, 56)
    assert with_usual(said, "day") == said
    monthly = with_usual(d.Retraining(fired_days=60), "month")
    assert (monthly.fired_days, monthly.of_days) == (60, 60)


# --- tables -----------------------------------------------------------------------------------


class Sales(dy.Schema):
    date = dy.Date(nullable=False)
    day = dy.Date(primary_key=True)
    sold = dy.Bool(nullable=False)
    shop = dy.String(primary_key=True)


def sales(first: date, last: date) -> pl.DataFrame:
    """A row a day, whose `date` is that day."""
    days = pl.date_range(first, last, "1d", eager=True)
    sold = days.dt.day() % 2 == 0
    return pl.DataFrame({"date": days, "day": days, "sold": sold}).with_columns(shop=pl.lit("a"))


@pytest.fixture
def _forgotten():
    registries = DAYS_OF, TABLES, PERIODS_OF
    before = [dict(registry) for registry in registries]
    for registry in registries:
        registry.clear()
    yield
    for registry, held in zip(registries, before, strict=True):
        registry.clear()
        registry.update(held)


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize(("calendar", "later"), [(WEEKS, 2), (MONTHS, 2), (CALENDAR, 3)])
def test_a_table_holds_its_periods_and_its_history_what_was_known_when_one_began(
    tmp_path, calendar, later
):
    periods = periods_of(calendar)
    raw = raw_table(days=calendar, contract=Sales)(sales)
    lately = history(
        "components/shop_sales", table=f"{raw.key.path[0]}/sales", by=["shop"], of="sold",
        days=calendar, known_after_days=2, windows=[7],
    )  # fmt: skip
    lake = LakehouseResource(uri=str(tmp_path))
    definitions = dg.Definitions([raw, lately], resources={"lakehouse": lake})
    engine = Engine(definitions, dg.DagsterInstance.ephemeral())
    come = [date.fromisoformat(name) for name in calendar.get_partition_keys()[:4]]
    report = Report()
    engine.arrive(come, report)
    engine.settle(report)
    assert report.errors == []
    rows = lake.store.scan(f"{raw.key.path[0]}/sales").collect()
    assert rows["date"].unique().sort().to_list() == come
    assert rows["day"].max() == periods.last_day(come[-1])
    assert (rows["date"] == rows.select(periods.column(pl.col("day")))["day"]).all()
    known = lake.store.scan("components/shop_sales").collect().sort("date")
    first = known.row(0, named=True)
    # All labels of the first period are known two days after its end, and count from the next on.
    assert first["date"] == periods.step(come[0], later)
    assert periods.last_day(come[0]) < first["date"]
    assert first["rows"] == (periods.last_day(come[0]) - come[0]).days + 1
    assert first["available_at"].date() == first["date"]


@pytest.mark.usefixtures("_forgotten")
def test_the_raw_tables_of_a_domain_have_one_clock():
    raw_table(days=WEEKS, contract=Sales)(sales)

    def readings(first, last):
        return sales(first, last)

    with pytest.raises(ValueError, match="components/readings comes in months, components/sales"):
        raw_table(days=MONTHS, contract=Sales)(readings)


@pytest.mark.usefixtures("_forgotten")
def test_a_feature_table_reads_tables_of_its_own_periods():
    raw_table(days=WEEKS, contract=Sales)(sales)

    def lately(sales: pl.LazyFrame) -> pl.LazyFrame:
        return sales

    with pytest.raises(ValueError, match="lately comes in months, and components/sales, which it"):
        feature_table(definition=Latest(("shop",), {"x": "sold"}), days=MONTHS)(lately)


# --- hours ------------------------------------------------------------------------------------


class Readings(dy.Schema):
    date = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    at = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    high = dy.Bool(nullable=False)
    gauge = dy.String(primary_key=True)


def readings(first: datetime, last: datetime) -> pl.DataFrame:
    """Two an hour, each with its own moment as `date`."""
    at = pl.datetime_range(first, last + timedelta(minutes=30), "30m", eager=True, time_unit="us")
    rows = pl.DataFrame({"date": at, "at": at, "high": at.dt.hour() % 2 == 0})
    return rows.with_columns(gauge=pl.lit("a"))


@pytest.mark.usefixtures("_forgotten")
def test_a_table_in_hours_holds_its_hours_and_a_corrected_one_goes_no_further(tmp_path):
    raw = raw_table(days=HOURS, contract=Readings)(readings)
    lately = history(
        "components/gauge_readings", table="components/readings", by=["gauge"], of="high",
        days=HOURS, known_after_days=1, windows=[2],
    )  # fmt: skip
    lake = LakehouseResource(uri=str(tmp_path))
    definitions = dg.Definitions([raw, lately], resources={"lakehouse": lake})
    instance = dg.DagsterInstance.ephemeral()
    engine = Engine(definitions, instance)
    come = [named(name) for name in HOURS.get_partition_keys()[:30]]
    report = Report()
    engine.arrive(come, report)
    engine.settle(report)
    assert report.errors == []
    store = lake.store
    assert store.partitions("components/readings") == HOURS.get_partition_keys()[:30]
    rows = store.scan("components/readings", first=come[3], last=come[4]).collect()
    assert rows["date"].unique().sort().to_list() == come[3:5]
    assert rows.height == 4
    day = date(2024, 1, 1)
    assert store.scan("components/readings", last=day).collect().height == 48
    assert store.scan("components/readings", first=day + timedelta(days=1)).collect().height == 12
    known = store.scan("components/gauge_readings").sort("date").collect()
    # Known a day later, and counted from the next hour on.
    assert known["date"][0] == come[0] + timedelta(hours=25)
    assert known["rows"].to_list() == [2] * 30
    again = engine.settle(Report())
    assert again.runs == []
    assert sources(engine.graph, instance)[0].next_days(2) == [
        come[-1] + timedelta(hours=n) for n in (1, 2)
    ]


def test_the_end_of_a_day_is_the_end_of_its_hours():
    hours = Periods("hour")
    day, moment = date(2024, 2, 29), datetime(2024, 2, 29, 5, 40, tzinfo=UTC)
    assert (hours.of(moment), name_of(hours.of(moment))) == (
        datetime(2024, 2, 29, 5, tzinfo=UTC), "2024-02-29-05:00",
    )  # fmt: skip
    assert named(name_of(hours.of(moment))) == hours.of(moment)
    assert (hours.of(day).hour, hours.at_end(day).hour) == (0, 23)
    assert hours.ended_by(day) == hours.at_end(day)
    assert hours.last_day(hours.of(moment)) == day
    assert hours.opens(hours.of(moment), 1) == datetime(2024, 2, 28, 6, tzinfo=UTC)
    assert (hours.reached(2), hours.within(2)) == (48, 48)
    with pytest.raises(ValueError, match="does not match format"):
        named("2024-02-29 05")


def test_the_loop_sees_hours_as_days():
    at = [datetime(2024, 2, 28, hour, tzinfo=UTC) for hour in (0, 1, 23)]
    at.append(datetime(2024, 2, 29, tzinfo=UTC))
    hour = Periods("hour").dtype
    rows = pl.DataFrame(
        {
            "date": at, "model_version": [3] * 4, "rows": [5] * 4, "labelled": [1, 3, 0, 2],
            "log_loss": [0.2, 0.6, None, 0.4], "auc": [None, 0.7, None, None],
        },
        schema_overrides={"date": hour},
    )  # fmt: skip
    first, second = _means_of_days(rows.lazy()).collect().rows(named=True)
    assert (first["date"], first["rows"], first["labelled"]) == (date(2024, 2, 28), 15, 4)
    assert first["log_loss"] == pytest.approx((0.2 + 3 * 0.6) / 4)
    assert first["auc"] == pytest.approx(0.7)  # of the hours that have one
    assert (second["date"], second["log_loss"]) == (date(2024, 2, 29), pytest.approx(0.4))
    moved = pl.DataFrame(
        {"date": at, "column": ["x"] * 4, "kind": ["numeric"] * 4, "value": [0.1, 0.2, 0.3, 0.4]},
        schema_overrides={"date": hour},
    )
    newest = _newest_of_days(moved.lazy()).collect()
    assert newest["date"].to_list() == [date(2024, 2, 28), date(2024, 2, 29)]
    assert newest["value"].to_list() == [0.3, 0.4]
