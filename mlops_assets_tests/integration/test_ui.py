"""`mlops ui` without a browser: ports, the daemon at work, kill -9 of a run, and the end."""

import json
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets_tests.integration.served import Served, free_port, served

WITHOUT_INPUTS = ["airlines", "airports", "planes", "routes"]
STARTED, FAILURE, SUCCESS = (
    getattr(dg.DagsterRunStatus, status) for status in ("STARTED", "FAILURE", "SUCCESS")
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    return tmp_path / "home"


@pytest.mark.parametrize(("option", "name"), [("--port", "Dagster"), ("--mlflow-port", "MLflow")])
def test_a_taken_port_is_named_with_the_option_that_chooses_another(
    home: Path, option: str, name: str
) -> None:
    other = "--mlflow-port" if option == "--port" else "--port"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["ui", option, port, other, str(free_port())])
    assert result.exit_code == 1
    assert f"port {port}" in result.output
    assert name in result.output
    assert option in result.output


def test_two_servers_cannot_share_a_port(home: Path) -> None:
    port = str(free_port())
    result = CliRunner().invoke(app, ["ui", "--port", port, "--mlflow-port", port])
    assert result.exit_code == 1
    assert f"both {port}" in result.output


@pytest.mark.slow
def test_the_daemon_makes_what_is_missing_and_a_killed_run_anew_and_nothing_outlives_the_end(
    home: Path,
) -> None:
    with served(home) as ui, dg.DagsterInstance.get() as instance:
        killed = wait_for(lambda: _kill_a_worker(instance), pause=0.02)
        wait_for(lambda: instance.get_run_by_id(killed).status == FAILURE)
        wait_for(lambda: not _missing(instance))
        (again,) = instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": killed}))
        wait_for(lambda: instance.get_run_by_id(again.run_id).status == SUCCESS)

        assert {s for s in _states(ui, "sensors") if s[0] == "automation"} == {
            ("automation", "RUNNING")
        }
        assert ("nyc_flights_next_day", "STOPPED") in _states(ui, "schedules")
        wait_for(lambda: len(_looks(ui)) == 3)
        waiting = f"no closed segment waits in {home / 'requests'}"
        assert _looks(ui) == {
            "flight_delays_requests": ("SKIPPED", waiting),
            "flight_delays_watch": ("SKIPPED", "no day has come yet"),
            "flight_delays_retrain": ("SKIPPED", "no decision waits for its training set"),
        }
        processes = ui.processes
    assert not [p.cmdline() for p in processes if psutil.pid_exists(p.pid) and p.is_running()]


def wait_for(found: Callable[[], Any], pause: float = 0.5) -> Any:
    """What `found` returns as soon as it is something."""
    deadline = time.monotonic() + 150
    while not (answer := found()):
        assert time.monotonic() < deadline
        time.sleep(pause)
    return answer


def _kill_a_worker(instance: dg.DagsterInstance) -> str | None:
    """Kill the process of a run that is in progress; return the run's id, if one could be met."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[STARTED])):
        logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        for data in (entry.get_dagster_event().event_specific_data for entry in logs):
            if data and "pid" in data.metadata:
                psutil.Process(int(data.metadata["pid"].value)).kill()
                return run.run_id
    return None


def _missing(instance: dg.DagsterInstance) -> list[str]:
    keys = {name: dg.AssetKey(["nyc_flights", name]) for name in WITHOUT_INPUTS}
    return [n for n, k in keys.items() if not instance.get_latest_materialization_event(k)]


def _looks(ui: Served) -> dict[str, tuple[str, str]]:
    """Sensors of the loop that have looked: how the first ended, and why they asked for nothing."""
    found = _asked(ui, "sensors { name sensorState { ticks(limit: 500) { status skipReason } } }")
    ticks = {item["name"]: item["sensorState"]["ticks"] for item in found["sensors"]}
    return {
        name: (looks[-1]["status"], looks[-1]["skipReason"])
        for name, looks in ticks.items()
        if name.startswith("flight_delays") and looks and looks[-1]["status"] != "STARTED"
    }


def _states(ui: Served, kind: str) -> set[tuple[str, str]]:
    state = {"sensors": "sensorState", "schedules": "scheduleState"}[kind]
    found = _asked(ui, f"{kind} {{ name {state} {{ status }} }}")[kind]
    return {(item["name"], item[state]["status"]) for item in found}


def _asked(ui: Served, fields: str) -> dict[str, list[dict[str, Any]]]:
    query = f"""{{ repositoryOrError(repositorySelector: {{repositoryName: "__repository__",
        repositoryLocationName: "mlops_assets"}}) {{ ... on Repository {{ {fields} }} }} }}"""
    request = urllib.request.Request(
        f"{ui.dagster}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, list[dict[str, Any]]] = json.load(response)["data"]["repositoryOrError"]
    return found
