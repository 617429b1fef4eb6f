"""Upkeep of a lake on which the flow has run: what models and predictions refer to always reads."""

from datetime import date

import polars as pl
import pytest

from mlops_assets.components.ml_product.pins import pins
from mlops_assets.components.ml_product.training_set import made_of
from mlops_assets.components.upkeep import as_table, tend
from mlops_assets.stores.content import content_hash
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.upkeep import VersionPinned, vacuum
from mlops_assets_tests.integration.conftest import copied

pytestmark = pytest.mark.slow

NOW_WITHOUT_RETENTION = 0
DAY = date(2013, 1, 30)


@pytest.fixture(scope="module")
def flow(settled, tmp_path_factory):
    """A second model, and a day that was scored on features which are others now."""
    with copied(settled, tmp_path_factory.mktemp("upkeep") / "home") as flow:
        view = flow.product.table("feature_view")
        before = flow.lakehouse.scan(view, first=DAY, last=DAY).collect()
        changed = before.with_columns(pl.col(flow.product.columns.numeric[0]) + 1)
        for content in (changed, before.head(100)):
            hashes = {DAY.isoformat(): content_hash(content)}
            flow.lakehouse.overwrite_partitions(
                view, content, by="date", partitions=[DAY.isoformat()],
                commit=Commit(data_versions=hashes),
            )  # fmt: skip
        yield flow


def pinned(flow):
    return pins(flow.lakehouse, flow.registry, [flow.product])


def contents(flow, found):
    return {
        (table, version): content_hash(flow.lakehouse.scan(table, version=version).collect())
        for table, versions in found.items()
        for version in versions
    }


def test_a_model_pins_its_training_set_and_all_that_it_was_made_of(flow):
    found = pinned(flow)
    version = flow.registry.champion(flow.product.name)
    expected = made_of(flow.lakehouse, flow.product, int(version.tags["training_set_version"]))
    for table, at in expected.items():
        assert f"flight_delays model {version.version} was trained on it" in found[table][at]


def test_a_prediction_pins_a_version_with_the_content_that_it_was_made_from(flow):
    view = flow.product.table("feature_view")
    reasons = {v: why for v, why in pinned(flow)[view].items() if "predictions" in str(why)}
    ((version, _),) = reasons.items()
    row = flow.table("predictions").filter(pl.col("date") == DAY).row(0, named=True)
    then = flow.lakehouse.scan(view, version=version, first=DAY, last=DAY).collect()
    now = flow.lakehouse.scan(view, first=DAY, last=DAY).collect()
    assert content_hash(then) == row["features_version"] != content_hash(now)


def test_the_report_that_a_gate_result_rests_on_is_pinned(flow):
    table = flow.product.table("evaluation")
    (why,) = pinned(flow)[table].values()
    assert why == ["the report on flight_delays model 1"]


def test_predictions_of_a_model_that_is_gone_keep_every_training_set(flow):
    class Forgetful:
        """A registry from which all versions were deleted."""

        def versions(self, product):
            return []

    found = pins(flow.lakehouse, Forgetful(), [flow.product])
    assert "the registry does not have it" in str(found[flow.product.table("training_set")])


def test_a_registry_of_another_lake_is_refused(flow, tmp_path):
    from mlops_assets.stores.lakehouse import Lakehouse

    other = Lakehouse(tmp_path)
    rows = flow.table("training_set").head(1)
    other.overwrite(flow.product.table("training_set"), rows, Commit(note='{"made_of": {}}'))
    other.overwrite(flow.product.table("feature_view"), rows, Commit())
    registry = flow.registry.versions(flow.product.name)
    assert int(registry[0].tags["training_set_version"]) == 0
    registry[0].tags["training_set_version"] = "7"

    class Belongs:
        def versions(self, product):
            return registry

    with pytest.raises(LookupError, match="do the lake and the registry belong together"):
        pins(other, Belongs(), [flow.product])


def test_removing_what_a_model_was_trained_on_is_refused(flow):
    table = flow.product.table("training_set")
    rows = flow.table("training_set")
    flow.lakehouse.overwrite(table, rows.head(10), Commit())
    with pytest.raises(VersionPinned, match="version 0: flight_delays model 1 was trained on it"):
        vacuum(flow.lakehouse, table, pinned(flow)[table], remove=[0], apply=True)


def test_after_upkeep_all_that_is_pinned_reads_as_before_and_the_rest_is_gone(flow):
    view, found = flow.product.table("feature_view"), pinned(flow)
    before = contents(flow, found)
    current = {name: content_hash(flow.table(name)) for name in flow.lakehouse.tables()}
    newest = flow.lakehouse.version(view)

    def run(apply):
        return list(
            tend(
                flow.lakehouse, flow.registry, [flow.product], flow.lakehouse.tables(),
                keep_days=NOW_WITHOUT_RETENTION, apply=apply,
            )
        )  # fmt: skip

    foreseen = as_table(run(apply=False))
    assert foreseen["go"].sum() > 0
    assert contents(flow, found) == before
    done = as_table(run(apply=True))

    assert contents(flow, found) == before
    assert {name: content_hash(flow.table(name)) for name in current} == current
    assert done["error"].to_list() == [""] * done.height
    assert "predictions of 2013-01-30" in done.filter(table=view)["kept"][0]
    with pytest.raises(FileNotFoundError):  # the changed day, which nobody ever read
        flow.lakehouse.scan(view, version=newest - 1).collect()
    assert flow.engine.settle().errors == []
