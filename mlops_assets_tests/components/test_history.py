"""The label's history and other feature tables: nothing is known early, every kind is looked up."""

from datetime import UTC, date, datetime, timedelta
from types import ModuleType

import dagster as dg
import dataframely as dy
import polars as pl
import pytest

from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.io_manager import DeltaIOManager
from mlops_assets.components.ml_product import feature_view
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables import history, raw_table, register_feature_table
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.ml.point_in_time import Latest, look_up

BERLIN = "Europe/Berlin"
DAYS = dg.DailyPartitionsDefinition("2024-03-28", end_date="2024-04-04", timezone=BERLIN)
KNOWN_AFTER = 1


class Rides(dy.Schema):
    date = dy.Date(nullable=False)
    station = dy.String(primary_key=True)
    starts_at = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    count = dy.Int64(nullable=True)


def a_ride(day: date, station: str) -> dict[str, object]:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    none = day == date(2024, 3, 30) and station == "b"
    return {"date": day, "station": station, "starts_at": at, "count": None if none else day.day}


@raw_table(days=DAYS, contract=Rides)
def rides(first, last):
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    rows = [a_ride(day, station) for day in days for station in "ab"]
    return pl.DataFrame(rows, schema=Rides.create_empty().schema)


by_station = history(
    "components/by_station", table="components/rides", by=["station"], of="count", days=DAYS,
    known_after_days=KNOWN_AFTER, windows=[2],
)  # fmt: skip


of_classes = history(
    "components/of_classes", table="components/rides", by=["station"], of="count", days=DAYS,
    shares={"grüner_veltliner": 29, "never": 7}, known_after_days=KNOWN_AFTER, windows=[2],
)  # fmt: skip


@dg.asset(key=["others", "weather"], partitions_def=DAYS)
def weather(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """As another team would write it: a frame, stored by the IO manager."""
    day = date.fromisoformat(context.partition_key)
    at = datetime(day.year, day.month, day.day, 6, tzinfo=UTC)
    return pl.DataFrame(
        {"date": [day], "station": "a", "event_time": at, "available_at": at, "rain": day.day / 2}
    ).with_columns(pl.col("event_time", "available_at").cast(pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    lakehouse = LakehouseResource(uri=str(tmp_path_factory.mktemp("lake")))
    resources = {"lakehouse": lakehouse, "io_manager": DeltaIOManager(lakehouse=lakehouse)}
    definitions = dg.Definitions([rides, by_station, of_classes, weather], resources=resources)
    with dg.DagsterInstance.ephemeral() as instance:
        engine = Engine(definitions, instance)
        # Before anything came: what is known of the first days is nothing.
        first = engine.settle()
        assert first.recomputed == dict.fromkeys(
            ("components/by_station", "components/of_classes"), KNOWN_AFTER + 1
        )
        report = Report()
        engine.arrive(engine.sources[0].days, report)
        engine.settle(report)
        for key in engine.partition_keys(weather.key):
            report.runs.append(engine.run([weather.key], [key]))
        assert report.errors == []
        yield engine


def store(engine):
    return engine.definitions.resources["lakehouse"].store


def test_a_label_counts_from_the_midnight_after_it_is_known(engine):
    rows = store(engine).scan("components/by_station").collect()
    assert rows["date"].min() == date(2024, 3, 30)
    april = rows.filter(pl.col("date") == date(2024, 4, 1), pl.col("station") == "b")
    # The rides of 30 March; summer time began on the 31st, so midnight is 22:00 in UTC.
    assert april.select("label_sum", "rows", "available_at").row(0) == (
        0, 0, datetime(2024, 3, 31, 22, tzinfo=UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "mean"), [(-1, (28 + 29) / 2), (1, (29 + 30) / 2), (23, (29 + 30) / 2)]
)
def test_the_window_holds_what_was_known_and_nothing_later(engine, hours, mean):
    at = datetime(2024, 3, 31, 22, tzinfo=UTC) + timedelta(hours=hours)
    spine = pl.DataFrame({"station": ["a"], "prediction_time": [at]}).with_columns(
        pl.col("prediction_time").cast(pl.Datetime("us", "UTC"))
    )
    table = store(engine).scan("components/by_station")
    found = look_up(spine, table, DEFINITIONS["components/by_station"])
    assert found["station_count_2d"].item() == mean


@pytest.mark.parametrize(
    ("station", "hours", "share"), [("a", -1, 1 / 2), ("b", 1, 1.0), ("a", 25, 0.0), ("b", 25, 0)]
)
def test_the_share_of_a_class_is_of_the_rows_whose_label_is_known(engine, station, hours, share):
    """Both have 28 and 29 by the 31st at midnight; then the 30th, of which b has no label."""
    at = datetime(2024, 3, 31, 22, tzinfo=UTC) + timedelta(hours=hours)
    spine = pl.DataFrame({"station": [station], "prediction_time": [at]}).with_columns(
        pl.col("prediction_time").cast(pl.Datetime("us", "UTC"))
    )
    table = store(engine).scan("components/of_classes")
    found = look_up(spine, table, DEFINITIONS["components/of_classes"])
    assert found["station_grüner_veltliner_2d"].item() == share
    assert found["station_never_2d"].item() == 0


def test_the_table_of_a_frame_that_any_asset_returns_is_looked_up(engine, a_product):
    name = register_feature_table(
        weather, Latest(("station",), {"rain_before": "rain"}, ttl=timedelta(days=1))
    )
    assert name == "others/weather"
    product = a_product([name, "components/by_station"])
    # Asked at the midnight after summer time began, two days and an hour after that of the 30th.
    found = feature_view.compute(store(engine), product, date(2024, 4, 2), date(2024, 4, 2))
    assert found.select("station", "rain_before", "station_count_2d").sort("station").rows() == [
        ("a", 0.5, (29 + 30 + 31) / 3), ("b", None, (29 + 31) / 2),
    ]  # fmt: skip
    asset = feature_view.feature_view(product)
    resources = engine.definitions.resources
    graph = dg.Definitions(
        [rides, by_station, weather, asset], resources=resources
    ).resolve_asset_graph()
    assert {k.to_user_string() for k in graph.get(asset.key).parent_keys} == {
        "components/rides", "components/by_station", "others/weather",
    }  # fmt: skip


def test_what_cannot_be_looked_up_is_refused():
    with pytest.raises(ValueError, match="others/rain: the look-up reaches back for ever; give"):
        register_feature_table("others/rain", Latest(("station",), {"rain": "rain"}))
    looked_up = Latest(("station",), {"rain": "rain"}, ttl=timedelta(days=1))
    with pytest.raises(ValueError, match="Rides has no available_at, event_time, rain; a feature"):
        register_feature_table("others/rain", looked_up, Rides)


def asked_before(rides):
    return rides.with_columns(
        (pl.col("starts_at") - pl.duration(hours=14)).alias("prediction_time")
    )


@pytest.fixture
def a_product(monkeypatch):
    """A product over the rides, asked six hours before each."""
    import sys

    from mlops_assets.components.ml_product import declaration as d
    from mlops_assets.components.ml_product.product import Product

    module = ModuleType("rides_problem")
    module.DAYS, module.spine, module.label = DAYS, asked_before, asked_before
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(tables):
        return Product(
            name="demand", description="", owners=(), problem=module.__name__,
            spine=d.Spine(table="components/rides", entity_keys=["date", "station"], lead_hours=14),
            label=d.Label(table="components/rides", known_after_days=KNOWN_AFTER),
            features=d.Features(declared_in=__name__, tables=tables),
            training=d.Training(first_cutoff="2024-04-01"), gates=d.Gates(),
            promotion=d.Promotion(), monitoring=d.Monitoring(),
        )  # fmt: skip

    return make
