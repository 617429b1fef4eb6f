"""kill -9 during the demo, by kills.py with few kills and with many, and during a daemon's run."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from mlops_assets_tests.integration.kills import STAGES, Campaign, plan
from mlops_assets_tests.integration.served import served

WITHOUT_INPUTS = ["airlines", "airports", "planes", "routes"]
RUNNING = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])


def test_a_plan_follows_from_its_seed_and_hits_each_stage():
    homes = plan(50, 1)
    assert homes == plan(50, 1) != plan(50, 2)
    stages = [moment.stage for home in homes for moment in home]
    assert len(stages) == 50
    assert {stages.count(stage) for stage in STAGES} == {3, 4}
    whole = [moment.whole for home in homes for moment in home]
    assert sum(whole) == 25


@pytest.mark.slow
def test_four_kills_cost_a_further_run_and_nothing_else(tmp_path, settled):
    survived(tmp_path, plan(4, seed=23, a_home=4), control=settled)


@pytest.mark.year
@pytest.mark.timeout(3600)
def test_fifty_kills_cost_a_further_run_and_nothing_else(tmp_path):
    survived(tmp_path, plan(50, seed=1))


@pytest.mark.year
@pytest.mark.timeout(1800)
def test_kills_of_the_whole_demo_cost_a_further_run_and_nothing_else(tmp_path):
    survived(tmp_path, plan(4, seed=2), whole=True)


def survived(folder, homes, **options):
    summary = Campaign(folder, **options).run(homes)
    print(summary)
    assert summary.problems == []
    assert summary.kills.total() >= 0.8 * sum(map(len, homes))


@pytest.mark.slow
def test_a_killed_worker_of_the_daemon_is_noticed_and_its_run_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MLOPS_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    with served(home), dg.DagsterInstance.get() as instance:
        killed = wait_for(lambda: _kill_a_worker(instance))
        wait_for(lambda: instance.get_run_by_id(killed).status == dg.DagsterRunStatus.FAILURE)
        keys = [dg.AssetKey(["nyc_flights", name]) for name in WITHOUT_INPUTS]
        wait_for(lambda: all(instance.get_latest_materialization_event(key) for key in keys))
        (again,) = instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": killed}))
        done = dg.DagsterRunStatus.SUCCESS
        wait_for(lambda: instance.get_run_by_id(again.run_id).status == done)


def _kill_a_worker(instance: dg.DagsterInstance) -> str | None:
    """Kill the process of a run that is in progress; return the run's id, if one could be met."""
    for run in instance.get_runs(RUNNING):
        logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        for data in (entry.get_dagster_event().event_specific_data for entry in logs):
            if data and "pid" in data.metadata:
                psutil.Process(int(data.metadata["pid"].value)).kill()
                return run.run_id
    return None


def wait_for(found, seconds: float = 150):
    """What `found` returns as soon as it is something."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer
