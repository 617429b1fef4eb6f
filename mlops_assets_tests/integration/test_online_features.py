"""Real flights: what the endpoint looks up online is what training reads, cell by cell."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.ml_product import feature_view
from mlops_assets.components.ml_product.online_features import (
    NAME,
    newest_days,
    online_features_asset,
    online_spine,
    versions_of,
)
from mlops_assets.components.plan import plan
from mlops_assets.defs.nyc_flights.expressions import two_hours_before_departure
from mlops_assets.local import online_store_uri, prepare, repository
from mlops_assets.stores.online_features import OnlineFeatures
from mlops_assets.stores.online_store import copy, open_store
from mlops_assets_tests.integration.conftest import Flow, span
from mlops_assets_tests.redis_server import redis_server

FIRST, LAST = date(2013, 3, 1), date(2013, 3, 11)
VIEWED = date(2013, 3, 9)
"""The first day that has all the days which its look-ups reach; the clocks change on the next."""
PRODUCT = "flight_delays"


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Eleven days of flights, their features, and the online store; no model."""
    home = tmp_path_factory.mktemp("online")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(home))
        environment.setenv("DAGSTER_HOME", str(home / "dagster"))
        prepare()
        tree = dg.ComponentTree.for_project(repository())
        product = tree.load_component(PRODUCT).product(PRODUCT)
        definitions = dg.Definitions.merge(
            tree.build_defs_at_path("nyc_flights"),
            tree.build_defs_at_path("platform"),
            dg.Definitions([feature_view.feature_view(product), online_features_asset(product)]),
        )
        with dg.DagsterInstance.get() as instance:
            resources = definitions.resources
            engine = Engine(definitions, instance)
            yield Flow(
                home, instance, engine, product, resources["lakehouse"].store, resources["registry"]
            )


@pytest.fixture(scope="module")
def arrived(flow):
    """The flow when all days have come, and what ran for it, as a plan had foreseen."""
    report = Report()
    flow.engine.arrive(span(FIRST, LAST), report)
    assert plan(flow.engine).counts("rebuild")[f"{PRODUCT}/{NAME}"] == 1
    flow.engine.settle(report)
    assert report.errors == []
    return flow, report


def made(report):
    return report.recomputed.get(f"{PRODUCT}/{NAME}", 0)


def requests(flow, first, last):
    """What a caller knows of each flight of some days."""
    asked = [n for n, field in flow.product.request.items() if field.required]
    planned = flow.lakehouse.scan(flow.product.spine.table, first=first, last=last)
    return planned.select("date", *asked).collect()


def looked_up(flow, store, rows):
    """The whole way of a request: the spine, what follows from it, the look-ups."""
    online = OnlineFeatures(store, PRODUCT, flow.product.definitions, online_spine(flow.product))
    completed = online.complete(rows.drop("date").to_dicts())
    planned = flow.lakehouse.schema(flow.product.spine.table)
    frame = pl.DataFrame(completed, {name: planned[name] for name in completed[0]})
    derived = frame.with_columns(two_hours_before_departure())
    looked = online.look_up(derived.to_dicts())
    features = [f for d in flow.product.definitions.values() for f in d.features]
    types = flow.lakehouse.schema(flow.product.table(feature_view.NAME))
    found = pl.DataFrame([each.values for each in looked], {f: types[f] for f in features})
    return derived.hstack(found), looked


def offline(flow, rows):
    """The same rows of the feature view, in the order of the requests."""
    view = flow.table(feature_view.NAME)
    keys = flow.product.spine.entity_keys
    found = rows.select(keys).join(view, on=keys, how="left", maintain_order="left")
    assert found.height == rows.height
    return found


def test_every_cell_of_all_rows_is_what_training_reads(arrived):
    flow, _ = arrived
    rows = requests(flow, VIEWED, LAST)
    found, looked = looked_up(flow, open_store(online_store_uri(), read_only=True), rows)
    expected = offline(flow, rows)
    assert_frame_equal(found.select(expected.columns), expected, check_exact=True)
    assert found.height > 2500
    assert not any(each.stale for each in looked)
    missing = sum(len(each.missing) for each in looked)
    assert missing == sum(expected.null_count().row(0)) > 0


def test_every_cell_read_from_redis_is_too(arrived, tmp_path):
    flow, _ = arrived
    rows = requests(flow, date(2013, 3, 10), date(2013, 3, 10))
    with redis_server(tmp_path) as server:
        store = open_store(server.uri, timeout=30)
        copy(open_store(online_store_uri(), read_only=True), store, PRODUCT)
        found, _ = looked_up(flow, store, rows)
    expected = offline(flow, rows)
    assert_frame_equal(found.select(expected.columns), expected, check_exact=True)


def test_a_row_before_the_published_days_lacks_what_is_not_there(arrived):
    flow, _ = arrived
    rows = requests(flow, FIRST, FIRST).head(20)
    _, looked = looked_up(flow, open_store(online_store_uri(), read_only=True), rows)
    assert all(len(each.missing) == len(each.values) for each in looked)


def test_the_asset_says_what_it_published(arrived):
    flow, report = arrived
    assert made(report) == 1
    metadata = {name: value.value for name, value in flow.metadata(NAME).items()}
    snapshot = open_store(online_store_uri(), read_only=True).snapshot(PRODUCT)
    assert metadata["generation"] == snapshot.generation
    assert metadata["keys"] > 5000
    assert metadata["bytes"] > 1_000_000
    assert 0 < metadata["seconds"] < 60
    event = flow.instance.get_latest_materialization_event(flow.product.key(NAME))
    tags = event.asset_materialization.tags
    assert tags["dagster/data_version"] == snapshot.generation


def test_the_lake_knows_what_a_generation_is_made_of(arrived):
    flow, _ = arrived
    snapshot = open_store(online_store_uri(), read_only=True).snapshot(PRODUCT)
    rows = versions_of(flow.lakehouse, flow.product, snapshot.generation)
    assert sorted(rows["table"]) == sorted(
        [flow.product.spine.table, *flow.product.features.tables]
    )
    versions = dict(rows.select("table", "delta_version").rows())
    assert versions == {name: flow.lakehouse.version(name) for name in versions}
    midnight = datetime(2013, 3, 12, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
    assert set(rows["known_through"]) == {midnight}


def test_the_same_content_is_not_published_again_and_a_new_day_is(arrived):
    flow, _ = arrived
    store = open_store(online_store_uri(), read_only=True)
    before = store.snapshot(PRODUCT)
    again = Report()
    key = dg.AssetKey(["nyc_flights", "carrier_delays"])
    flow.engine.run([key], [LAST.isoformat()])
    flow.engine.settle(again)
    assert made(again) == 0
    tables = newest_days(flow.lakehouse, flow.product)
    assert (
        open_store(online_store_uri()).publish(PRODUCT, tables, datetime.now(UTC))
        == before.generation
    )
    assert store.snapshot(PRODUCT) == before

    report = flow.arrive(LAST + timedelta(days=1), LAST + timedelta(days=1))
    assert report.errors == []
    assert made(report) == 1
    after = store.snapshot(PRODUCT)
    assert after.generation != before.generation
    table = flow.product.spine.table
    assert after.tables[table].first_day == before.tables[table].first_day + timedelta(days=1)
