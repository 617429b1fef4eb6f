"""Schedules and sensors as the UI shows them: off or on at first, and what a tick asks for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from mlops_assets.definitions import defs
from mlops_assets.local import prepare

SCHEDULES = {
    "nyc_flights_next_day": "nyc_flights_arrival",
    "weekly_upkeep": "upkeep",
    "flight_delays_calendar_retrain": "flight_delays_retrain",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.RepositoryDefinition]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(tmp_path_factory.mktemp("home")))
        environment.delenv("DAGSTER_HOME", raising=False)
        environment.setenv("DAGSTER_HOME", str(prepare() / "dagster"))
        yield defs().get_repository_def()


@pytest.fixture(scope="module")
def instance(repository: dg.RepositoryDefinition) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_schedules_are_off_until_somebody_starts_them(repository):
    found = {s.name: (s.job_name, s.default_status) for s in repository.schedule_defs}
    assert {status for _, status in found.values()} == {dg.DefaultScheduleStatus.STOPPED}
    # A product that somebody added has schedules of its own.
    assert {name: job for name, (job, _) in found.items()}.items() >= SCHEDULES.items()


def test_each_says_what_it_does(repository):
    launched = [*repository.schedule_defs, *repository.sensor_defs]
    assert [each.name for each in launched if not each.description] == []
    assert {s.name for s in repository.sensor_defs} >= {"automation", "alerts"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_tick_asks_for_a_run_that_its_job_accepts(repository, instance, name):
    schedule = repository.get_schedule_def(name)
    job = repository.get_job(schedule.job_name)
    context = dg.build_schedule_context(
        instance, datetime(2013, 6, 2, 5, tzinfo=UTC), repository_def=repository
    )
    (request,) = schedule.evaluate_tick(context).run_requests
    assert dg.validate_run_config(job, request.run_config)
    if job.partitions_def is not None:
        assert request.partition_key in job.partitions_def.get_partition_keys()


def test_what_they_ask_for(repository, instance):
    asked = {}
    for name in SCHEDULES:
        context = dg.build_schedule_context(instance, datetime.now(UTC), repository_def=repository)
        (asked[name],) = repository.get_schedule_def(name).evaluate_tick(context).run_requests
    assert asked["nyc_flights_next_day"].partition_key == "2013-01-01"
    ops = asked["flight_delays_calendar_retrain"].run_config["ops"]
    assert ops["flight_delays__training_set"]["config"] == {"cutoff": "newest"}
    assert asked["weekly_upkeep"].run_config["ops"]["tend_to_tables"]["config"] == {"apply": True}


def test_a_retraining_that_goes_on_is_not_launched_again(repository, instance):
    run = instance.create_run_for_job(
        repository.get_job("flight_delays_retrain"), status=dg.DagsterRunStatus.STARTED
    )
    context = dg.build_schedule_context(instance, datetime.now(UTC), repository_def=repository)
    schedule = repository.get_schedule_def("flight_delays_calendar_retrain")
    tick = schedule.evaluate_tick(context)
    assert not tick.run_requests
    assert run.run_id in tick.skip_message
    instance.delete_run(run.run_id)


def test_days_of_what_arrives_can_be_backfilled(repository):
    days = repository.get_job("nyc_flights_arrival").partitions_def
    assert days.get_first_partition_key() == "2013-01-01"
    assert date(2013, 12, 31).isoformat() in days.get_partition_keys()
