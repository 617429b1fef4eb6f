"""Which day of the source is next: after a good day, a refused one, a killed one, and the last."""

from datetime import date

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from mlops_assets.components.arrival import Source, sources
from mlops_assets.components.arrival_schedule import with_arrival
from mlops_assets.components.tables.publish import WITHHELD

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-05")
REFUSED, UNREADABLE = "2013-01-02", "2013-01-03"


@dg.asset(key_prefix="toy", partitions_def=DAYS, tags={"arrives": "daily"})
def schedule() -> None:
    """Has every day."""


@dg.asset(key_prefix="toy", partitions_def=DAYS, tags={"arrives": "daily"})
def events(context: dg.AssetExecutionContext) -> None:
    """Withholds one day, and cannot read another."""
    if context.partition_key == REFUSED:
        raise dg.Failure("too few rows", metadata={WITHHELD: REFUSED})
    if context.partition_key == UNREADABLE:
        raise dg.Failure("the file is cut off")


@dg.asset
def airlines() -> None:
    """Has no days."""


@dg.asset(
    key_prefix="blocks",
    partitions_def=dg.DailyPartitionsDefinition("2000-01-01", end_date="2000-02-10"),
    tags={"arrives": "daily"},
)
def rows() -> None:
    """Of another domain, with another calendar."""


DEFINITIONS = with_arrival(dg.Definitions([schedule, events, airlines, rows]))


def next_day(context):
    return DEFINITIONS.get_repository_def().get_schedule_def("toy_next_day").evaluate_tick(context)


@pytest.fixture
def source():
    with dg.instance_for_test() as instance:
        yield Source(DEFINITIONS.resolve_asset_graph(), instance, "toy")


def arrive(source: Source, *days: str, assets=(schedule, events)) -> None:
    for day in days:
        dg.materialize(
            list(assets), instance=source.instance, partition_key=day, raise_on_error=False
        )


def test_only_daily_tables_are_the_clock(source):
    assert {t.to_user_string() for t in source.tables} == {"toy/schedule", "toy/events"}
    assert source.days == [date(2013, 1, d) for d in range(1, 5)]


def test_the_first_day_is_next_on_an_empty_lake(source):
    assert source.days_there() == set()
    assert source.next_days(2) == [date(2013, 1, 1), date(2013, 1, 2)]


def test_a_refused_day_does_not_stop_the_clock(source):
    arrive(source, "2013-01-01", REFUSED)
    assert source.days_there() == {date(2013, 1, 1)}
    assert source.next_days(1) == [date(2013, 1, 3)]


def test_a_day_that_could_not_be_read_is_next_again(source):
    arrive(source, "2013-01-01", REFUSED, UNREADABLE)
    assert source.next_days(1) == [date(2013, 1, 3)]


def test_a_day_that_came_halfway_is_next_again(source):
    arrive(source, "2013-01-01")
    arrive(source, "2013-01-02", assets=[schedule])
    assert source.next_days(1) == [date(2013, 1, 2)]


def test_a_day_whose_process_was_killed_is_next_again(source):
    """The daemon marks its run as failed, as it does one whose step has failed."""
    arrive(source, "2013-01-01")
    job = dg.define_asset_job("day", [schedule, events]).resolve(
        asset_graph=DEFINITIONS.resolve_asset_graph()
    )
    run = source.instance.create_run_for_job(job, tags={"dagster/partition": "2013-01-02"})
    assert source.next_days(1) == [date(2013, 1, 2)]
    source.instance.report_run_failed(run, "its process is gone")
    assert source.next_days(1) == [date(2013, 1, 2)]


def test_the_end_of_the_source_is_said(source):
    arrive(source, "2013-01-04")
    with pytest.raises(LookupError, match="toy: the source ends with 2013-01-04"):
        source.next_days(1)


def test_the_schedule_asks_for_the_next_day_and_stops_at_the_end(source):
    repository = DEFINITIONS.get_repository_def()
    context = dg.build_schedule_context(instance=source.instance, repository_def=repository)
    assert next_day(context).run_requests[0].partition_key == "2013-01-01"
    arrive(source, "2013-01-04")
    assert "no further day" in next_day(context).skip_message


def test_the_schedule_waits_for_a_day_that_still_comes(source):
    going = create_run_for_test(
        source.instance, job_name="toy_arrival", status=dg.DagsterRunStatus.STARTED
    )
    repository = DEFINITIONS.get_repository_def()
    context = dg.build_schedule_context(instance=source.instance, repository_def=repository)
    assert going.run_id in next_day(context).skip_message


def test_each_domain_has_its_own_clock(source):
    other = next(s for s in sources(source.graph, source.instance) if s.domain == "blocks")
    arrive(source, "2013-01-01")
    assert other.days_there() == set()
    assert other.next_days(1) == [date(2000, 1, 1)]
    # A tenth of forty days stays to come, and of five none.
    assert (other.usual[-1], source.usual[-1]) == (date(2000, 2, 5), date(2013, 1, 4))
