"""Alerts end to end on a small graph: events and rows in, messages at a real HTTP receiver out."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from mlops_assets.components import outbox
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.defs.platform.alerts import alerts
from mlops_assets.local import prepare
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.notifications import VARIABLE
from mlops_assets_tests.integration.served import free_port
from mlops_assets_tests.receiver import Receiver

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-20")
NAME = "flight_delays"


@dg.asset(
    key=["nyc_flights", "weather"],
    partitions_def=DAYS,
    output_required=False,
    check_specs=[
        dg.AssetCheckSpec("volume", asset=["nyc_flights", "weather"], blocking=True),
        dg.AssetCheckSpec("outliers", asset=["nyc_flights", "weather"]),
    ],
)
def weather(context):
    """Fails both checks, of which one blocks."""
    yield dg.AssetCheckResult(check_name="volume", passed=False, description="0 rows, of 700.")
    yield dg.AssetCheckResult(check_name="outliers", passed=False)


DEFINITIONS = dg.Definitions([weather])


class World:
    """An instance, a lake, a receiver, and the sensor that is looked with."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lakehouse) -> None:
        self.instance, self.lake = instance, lake
        self.cursor: str | None = None

    def look(self, cursor: str | None = None) -> str:
        """One evaluation, from the newest cursor or the one that is given."""
        with dg.build_sensor_context(
            self.instance,
            cursor=cursor or self.cursor,
            repository_def=DEFINITIONS.get_repository_def(),
            resources={"lakehouse": LakehouseResource(uri=self.lake.uri)},
        ) as context:
            said = alerts(context)
            self.cursor = context.cursor
        return said.skip_message

    def promote(self, version: int, status: str = "promoted", by: str = "automation") -> None:
        row = {"model_version": version, "digest": f"d{version}", "status": status, "by": by,
               "reason": "passed", "decided_at": datetime.now(UTC), "run_id": "r"}  # fmt: skip
        self.lake.append(f"{NAME}/promotions", pl.DataFrame([row]), Commit())

    def decide(self, number: int, verdict: str, mode: str = "auto") -> None:
        row = {"decision_id": f"c.{number}", "review": number, "day": date(2013, 6, 1),
               "opened_by": "automation", "verdict": verdict, "reason": "the probe gains",
               "fired": "loss", "mode": mode, "cutoff": date(2013, 5, 1),
               "decided_at": datetime.now(UTC)}  # fmt: skip
        self.lake.append(f"{NAME}/retrain_decisions", pl.DataFrame([row]), Commit())


@pytest.fixture
def receiver(monkeypatch):
    with Receiver() as receiver:
        monkeypatch.setenv(VARIABLE, receiver.url)
        yield receiver


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """The local environment's instance, with its own event log."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(tmp_path_factory.mktemp("home")))
        environment.delenv("DAGSTER_HOME", raising=False)
        environment.setenv("DAGSTER_HOME", str(prepare() / "dagster"))
        with dg.DagsterInstance.get() as instance:
            yield instance


@pytest.fixture
def world(tmp_path, monkeypatch, instance):
    # The two names that a row is told with are all that is used of a product here.
    product = SimpleNamespace(
        name=NAME, table=lambda name: f"{NAME}/{name}", key=lambda name: dg.AssetKey([NAME, name])
    )
    monkeypatch.setattr("mlops_assets.defs.platform.alerts.PRODUCTS", {NAME: product})
    world = World(instance, Lakehouse(tmp_path / "lake"))
    assert world.look() == "from now on"
    return world


def titles(receiver: Receiver) -> list[str]:
    return [message["title"] for message in receiver.received]


def failed_run(instance: dg.DagsterInstance, code_location: bool = True) -> str:
    """A run of the daemon that ended badly; one of a terminal has no code location."""
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="mlops_assets.definitions"), location_name="mlops_assets"
    )
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "arrival")
    run = create_run_for_test(
        instance, "arrival", status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "2013-01-01"},
        remote_job_origin=origin if code_location else None,
    )  # fmt: skip
    instance.report_run_failed(run)
    return run.run_id


def test_what_was_before_the_first_look_is_not_told(tmp_path, monkeypatch, receiver, world):
    world.promote(1)
    world.cursor = None
    world.look()
    world.look()
    assert receiver.received == []


def test_a_failed_blocking_check_is_told_once_a_run_and_one_that_only_shows_is_not(world, receiver):
    for day in ("2013-01-01", "2013-01-02"):
        dg.materialize([weather], instance=world.instance, partition_key=day, raise_on_error=False)
    before = world.cursor
    world.look()
    assert sorted(titles(receiver)) == ["Check failed: nyc_flights/weather, volume"] * 2
    assert "0 rows, of 700." in receiver.received[0]["message"]
    assert "http://127.0.0.1:3000/assets/nyc_flights/weather" in receiver.received[0]["message"]
    world.look(before)  # killed before its cursor was stored, or another daemon's
    world.look()
    assert len(receiver.received) == 2


def test_a_failed_run_is_told_with_its_link_and_one_of_a_terminal_is_not(
    world, receiver, monkeypatch
):
    monkeypatch.setenv("MLOPS_DAGSTER_UI", "http://dagster.example/")
    run_id = failed_run(world.instance)
    failed_run(world.instance, code_location=False)
    before = world.cursor
    world.look()
    world.look(before)
    assert titles(receiver) == ["Run failed: arrival 2013-01-01"]
    assert receiver.received[0]["message"].endswith(f"http://dagster.example/runs/{run_id}")


def test_promotions_and_decisions_are_told_in_order_and_once(world, receiver):
    world.promote(1)
    world.look()
    world.promote(2, "waiting")
    world.promote(2, "rolled_back", by="Ada")
    world.decide(1, "wait")
    world.decide(2, "escalate")
    world.decide(3, "retrain", mode="notify")
    before = world.cursor
    world.look()
    world.look(before)
    assert titles(receiver) == [
        "flight_delays: version 1 serves now",
        "flight_delays: version 2 waits for approval",
        "flight_delays: version 2 rolled back",
        "flight_delays: retrain case opened on 2013-06-01",
        "flight_delays: needs a person, retrain case, look 2 on 2013-06-01",
        "flight_delays: retrain case, look 3 on 2013-06-01",
    ]
    assert "a person launches it" in receiver.received[-1]["message"]
    assert "the probe gains" in receiver.received[-1]["message"]


def test_compaction_is_no_news(world, receiver):
    from mlops_assets.stores.upkeep import compact, vacuum

    for version in range(1, 5):
        world.promote(version)
    world.look()
    compact(world.lake, f"{NAME}/promotions", apply=True)
    vacuum(world.lake, f"{NAME}/promotions", {}, keep_days=0, apply=True)
    world.look()
    assert len(receiver.received) == 4


def test_more_than_one_look_can_send_follows_at_the_next(world, receiver):
    for version in range(12):
        world.promote(version)
    world.look()
    assert len(receiver.received) == outbox.MOST_AT_ONCE
    world.look()
    assert len(set(titles(receiver))) == len(receiver.received) == 12
    assert world.look() == "nothing to tell"


def test_without_an_address_messages_stand_in_the_ui(world, monkeypatch, caplog):
    monkeypatch.delenv(VARIABLE, raising=False)
    caplog.set_level("INFO", "mlops")
    world.promote(1)
    assert "shown here only" in world.look()
    (record,) = world.instance.fetch_observations(outbox.NOTIFICATIONS, limit=1).records
    metadata = record.asset_observation.metadata
    assert metadata["title"].value == "flight_delays: version 1 serves now"
    assert metadata["link"].value.endswith("/assets/flight_delays/champion")
    assert "version 1 serves now" in caplog.text


def test_a_receiver_that_is_down_is_tried_again_so_often_and_no_more(world, monkeypatch, caplog):
    port = free_port()
    monkeypatch.setenv(VARIABLE, f"json://user:s3cret-token@127.0.0.1:{port}")
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.0)
    world.promote(1)
    said = [world.look() for _ in range(outbox.ATTEMPTS + 2)]
    assert "attempt 1 of 5" in said[0]
    assert "given up" in said[outbox.ATTEMPTS - 1]
    assert said[outbox.ATTEMPTS :] == ["nothing to tell"] * 2
    assert "not delivered" in caplog.text
    assert "s3cret" not in caplog.text + "".join(said)


def test_it_is_delivered_once_when_the_receiver_is_back(world, monkeypatch):
    port = free_port()
    monkeypatch.setenv(VARIABLE, f"json://127.0.0.1:{port}")
    world.promote(1)
    world.look()
    assert world.look() == "nothing to tell"  # the pause is not over
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.0)
    with Receiver(port) as receiver:
        assert "sent to 1" in world.look()
        time.sleep(0.01)
        assert world.look() == "nothing to tell"
        assert len(receiver.received) == 1


def test_a_bad_address_ends_no_look(world, monkeypatch):
    monkeypatch.setenv(VARIABLE, "carrier-pigeon://loft")
    world.promote(1)
    assert "no address is configured" in world.look()
