"""The watchdog on ticks as the daemon writes them: alive, silent, failing, held, and clocks."""

from __future__ import annotations

import time

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from mlops_assets.components.watchdog import RUN_TAG, AutomationStopped, Watchdog, signs

LIMIT = 100.0
LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(module_name="mlops_assets.definitions"), location_name="mlops_assets"
)
ORIGIN = RemoteInstigatorOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), "automation")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Daemon:
    """Writes what Dagster's daemon writes of the sensor."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.clock = Clock()
        self.state(InstigatorStatus.DECLARED_IN_CODE)

    def state(self, status: InstigatorStatus) -> None:
        state = InstigatorState(
            ORIGIN, InstigatorType.SENSOR, status, SensorInstigatorData(min_interval=5)
        )
        if self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
            self.instance.update_instigator_state(state)
        else:
            self.instance.add_instigator_state(state)
        self.id, self.selector = state.instigator_origin_id, state.selector_id

    def tick(self, status: TickStatus = TickStatus.SKIPPED, at: float | None = None) -> None:
        error = SerializableErrorInfo("no such column", [], "Error")
        self.instance.create_tick(
            TickData(
                self.id, "automation", InstigatorType.SENSOR, status, at or time.time(),
                selector_id=self.selector,
                error=error if status == TickStatus.FAILURE else None,
            )
        )  # fmt: skip

    def watchdog(self) -> Watchdog:
        return Watchdog(self.instance, LIMIT, self.clock)


@pytest.fixture
def daemon():
    with dg.instance_for_test() as instance:
        yield Daemon(instance)


def test_it_is_quiet_while_looks_follow_each_other(daemon):
    dog = daemon.watchdog()
    for _ in range(5):
        daemon.tick()
        daemon.clock.now += LIMIT
        dog.look()


def test_it_barks_when_no_look_came_for_longer_than_the_limit(daemon):
    daemon.tick()
    dog = daemon.watchdog()
    dog.look()
    daemon.clock.now = LIMIT
    dog.look()
    daemon.clock.now = LIMIT + 1
    with pytest.raises(AutomationStopped, match="not evaluated the graph for 101 s"):
        dog.look()


def test_it_barks_when_no_look_ever_came(daemon):
    dog = daemon.watchdog()
    daemon.clock.now = LIMIT + 1
    with pytest.raises(AutomationStopped):
        dog.look()


def test_looks_that_fail_are_no_sign_of_life_and_it_says_why(daemon):
    dog = daemon.watchdog()
    for now in (0.0, LIMIT):
        daemon.clock.now = now
        daemon.tick(TickStatus.FAILURE)
        dog.look()
    daemon.clock.now += 1
    daemon.tick(TickStatus.FAILURE)
    with pytest.raises(AutomationStopped, match="its last look failed: no such column"):
        dog.look()


def test_a_long_look_that_launches_runs_is_alive(daemon):
    dog = daemon.watchdog()
    for _ in range(3):
        create_run_for_test(daemon.instance, tags=RUN_TAG)
        daemon.clock.now += LIMIT
        dog.look()


def test_a_sensor_that_a_person_stopped_is_held_and_not_dead(daemon):
    dog = daemon.watchdog()
    daemon.state(InstigatorStatus.STOPPED)
    daemon.clock.now = 10 * LIMIT
    dog.look()
    assert signs(daemon.instance).held


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_on_the_wall_that_jumps_is_no_reason_to_bark(daemon, jump):
    dog = daemon.watchdog()
    daemon.tick()
    dog.look()
    daemon.tick(at=time.time() + jump)
    daemon.clock.now += LIMIT / 2
    dog.look()
