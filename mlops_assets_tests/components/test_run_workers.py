"""Runs of killed processes, on the instance that the local environment has."""

import os
import shutil
import signal
import subprocess
import sys

import dagster as dg
import pytest

from mlops_assets.components.automation import content_changed
from mlops_assets.components.engine import Engine
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets.local import repository

A = dg.AssetKey("a")
KILLED_IN_A_RUN = """
import sys
from pathlib import Path
import dagster as dg
from mlops_assets_tests.components.test_run_workers import graph
from mlops_assets.components.engine import Engine
with dg.DagsterInstance.get() as instance:
    Engine(graph(sys.argv[1]), instance).run([dg.AssetKey("b")])
"""
RUNNING = [dg.DagsterRunStatus.STARTED]


def graph(content: str, then: str = "") -> dg.Definitions:
    """a ─▶ b; b waits for a line of input, or kills its process."""

    @dg.asset
    def a():
        return dg.MaterializeResult(data_version=dg.DataVersion(content))

    @dg.asset(deps=[a], automation_condition=content_changed())
    def b():
        if content == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if content == "wait":
            print("running", flush=True)
            sys.stdin.readline()

    return dg.Definitions([a, b])


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(repository() / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.get() as instance:
        yield instance


def run_b(content):
    command = [sys.executable, "-W", "ignore", "-c", KILLED_IN_A_RUN, content]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def recomputed(instance, content):
    engine = Engine(graph(content), instance)
    engine.run([A])
    return engine.settle().recomputed


def test_a_killed_run_does_not_hold_up_its_assets(instance):
    assert recomputed(instance, "1") == {"b": 1}
    with run_b("kill") as killed:
        assert killed.wait() == -signal.SIGKILL
    assert recomputed(instance, "2") == {}, "without help it is held up"
    (ended,) = end_abandoned(instance)
    run = instance.get_run_by_id(ended)
    assert run.status == dg.DagsterRunStatus.CANCELED
    said = [entry.message for entry in instance.all_logs(ended)]
    assert any(f"process {killed.pid}, which did this run, is gone" in text for text in said)
    assert recomputed(instance, "2") == {"b": 1}
    assert end_abandoned(instance) == []


def test_a_run_that_is_at_work_is_left_alone(instance):
    with run_b("wait") as working:
        while "running" not in working.stdout.readline():
            assert working.poll() is None
        (run,) = instance.get_runs(dg.RunsFilter(statuses=RUNNING))
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run).status.value == "RUNNING"
        assert end_abandoned(instance) == []
        working.kill()
        working.wait()
        health = launcher.check_run_worker_health(run)
        assert (health.status.value, str(working.pid) in health.msg) == ("FAILED", True)
    assert end_abandoned(instance) == [run.run_id]


def test_a_run_that_nothing_took_up_is_ended_unless_a_server_was_asked(instance):
    job = graph("1").resolve_implicit_global_asset_job_def()
    alone = instance.create_run_for_job(job)
    tags = {".dagster/grpc_info": '{"host": "localhost", "socket": "/nowhere"}'}
    instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTING)
    assert end_abandoned(instance) == [alone.run_id]
