"""LocalEventLog beside Dagster's own: the same answers, from several processes, after a kill."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log import (
    ConsolidatedSqliteEventLogStorage,
)

from mlops_assets.components.event_log import LocalEventLog

DAYS = dg.DailyPartitionsDefinition("2013-03-01", end_date="2013-03-31")
READINGS = dg.AssetKey("readings")
CHECK = dg.AssetCheckKey(READINGS, "complete")
HALVES = ["2013-03-01", "2013-03-02"], ["2013-03-03", "2013-03-04"]
MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION


def opened(home, log=LocalEventLog):
    """An instance on `home` that keeps its events in this kind of log."""
    overrides = {
        "telemetry": {"enabled": False},
        "event_log_storage": {
            "module": log.__module__,
            "class": log.__name__,
            "config": {"base_dir": str(home / "events")},
        },
    }
    return dg.DagsterInstance.local_temp(str(home), overrides=overrides)


def graph():
    spec = dg.AssetCheckSpec(CHECK.name, asset=READINGS, partitions_def=DAYS)

    @dg.asset(partitions_def=DAYS, check_specs=[spec])
    def readings(context):
        day = context.partition_key
        check = dg.AssetCheckResult(passed=not day.endswith("3"), check_name=CHECK.name)
        return dg.MaterializeResult(data_version=dg.DataVersion(day), check_results=[check])

    return readings


def fill(home, days, log=LocalEventLog):
    """Materialize the days one after the other, as a process of its own may do."""
    with opened(home, log) as instance:
        for day in days:
            assert dg.materialize([graph()], instance=instance, partition_key=day).success


def seen(instance):
    """What the instance answers, without what differs from run to run."""
    storage = instance.event_log_storage
    logs = [storage.get_logs_for_run(run.run_id) for run in instance.get_runs()]
    checks = storage.get_asset_check_execution_history(CHECK, 100)
    evaluations = [r.event.dagster_event.asset_check_evaluation_data for r in checks]
    tags = storage.get_latest_tags_by_partition(
        READINGS, MATERIALIZATION, tag_keys=["dagster/data_version"]
    )
    return {
        "runs": Counter(run.status for run in instance.get_runs()),
        "events": Counter(tuple(e.dagster_event_type for e in log) for log in logs),
        "partitions": storage.get_materialized_partitions(READINGS),
        "data versions": tags,
        "checks": sorted((e.partition, e.passed) for e in evaluations),
        "assets": storage.all_asset_keys(),
        "latest": instance.get_latest_materialization_event(READINGS) is not None,
    }


def test_two_processes_at_once_leave_what_dagsters_own_log_has(tmp_path):
    own, local = tmp_path / "own", tmp_path / "local"
    own.mkdir(), local.mkdir()
    for days in HALVES:
        fill(own, days, ConsolidatedSqliteEventLogStorage)
    opened(local).dispose()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=fill, args=(local, days)) for days in HALVES]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with opened(own, ConsolidatedSqliteEventLogStorage) as theirs, opened(local) as ours:
        assert seen(ours) == seen(theirs)
        assert seen(ours)["partitions"] == {day for half in HALVES for day in half}


def test_dagsters_own_log_reads_the_file(tmp_path):
    fill(tmp_path, HALVES[0])
    with opened(tmp_path) as ours, opened(tmp_path, ConsolidatedSqliteEventLogStorage) as theirs:
        assert seen(ours) == seen(theirs)


def report(instance, number):
    event = dg.AssetMaterialization(READINGS, partition=str(number))
    instance.report_runless_asset_event(event)


def test_a_forked_child_has_connections_of_its_own(tmp_path):
    with opened(tmp_path) as instance:
        report(instance, 0)
        child = os.fork()
        if not child:
            report(instance, 1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        report(instance, 2)
        assert instance.get_materialized_partitions(READINGS) == {"0", "1", "2"}


def report_and_fail(instance):
    with instance.event_log_storage.index_connection():
        report(instance, 0)
        raise ZeroDivisionError


def test_a_call_that_fails_leaves_nothing_and_the_log_goes_on(tmp_path):
    with opened(tmp_path) as instance:
        with pytest.raises(ZeroDivisionError):
            report_and_fail(instance)
        report(instance, 1)
        assert instance.get_materialized_partitions(READINGS) == {"1"}


def entry(number):
    event = dg.DagsterEvent(
        event_type_value=MATERIALIZATION.value,
        job_name="readings",
        event_specific_data=StepMaterializationData(
            dg.AssetMaterialization(READINGS, partition=str(number))
        ),
    )
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="", run_id="1", timestamp=float(number),
        dagster_event=event,
    )  # fmt: skip


def test_a_batch_of_events_is_stored_whole_or_not_at_all(tmp_path):
    """`local.prepare` lets Dagster store the partitions that a run plans as a batch."""
    with opened(tmp_path) as instance:
        storage, batch = instance.event_log_storage, [entry(1), entry(2)]
        with pytest.raises(Exception, match="NoneType"):
            storage.store_event_batch([*batch, None])
        assert instance.get_materialized_partitions(READINGS) == set()
        storage.store_event_batch(batch)
        assert instance.get_materialized_partitions(READINGS) == {"1", "2"}


ENDLESS = """
import sys
from itertools import count
from pathlib import Path
from mlops_assets_tests.components.test_event_log import opened, report
instance = opened(Path(sys.argv[1]))
for number in count():
    report(instance, number)
    print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_had_stored(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", ENDLESS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        stored = [writer.stdout.readline().strip() for _ in range(60)]
        writer.send_signal(signal.SIGKILL)
        stored += writer.stdout.read().split("\n")[:-1]
    with opened(tmp_path) as instance:
        assert set(stored) <= instance.get_materialized_partitions(READINGS)
    (file,) = (tmp_path / "events").glob("*.db")
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
