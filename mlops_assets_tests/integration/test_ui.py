"""`mlops ui` without a browser: ports, the daemon, a killed run, switches, a backfill, the end."""

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets_tests.integration.served import Served, free_port, served

WITHOUT_INPUTS = ["airlines", "airports", "planes", "routes"]
BACKFILLED, DAYS = ["weather", "weather_known"], ["2013-01-01", "2013-01-02"]
STARTED, FAILURE, SUCCESS = (
    getattr(dg.DagsterRunStatus, status) for status in ("STARTED", "FAILURE", "SUCCESS")
)
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "mlops_assets"}
# As the UI itself sends them.
LAUNCH = """mutation ($asked: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $asked) {
        ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
SWITCHES = {
    "sensors": (
        """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
            ... on Sensor { name } ... on Error { message } } }""",
        """mutation ($id: String!) { stopSensor(id: $id) {
            ... on StopSensorMutationResult { instigationState { status } }
            ... on Error { message } } }""",
    ),
    "schedules": (
        """mutation ($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) {
            ... on ScheduleStateResult { scheduleState { status } } ... on Error { message } } }""",
        """mutation ($id: String!) { stopRunningSchedule(id: $id) {
            ... on ScheduleStateResult { scheduleState { status } } ... on Error { message } } }""",
    ),
}
"""Kind to how one is started and stopped."""
OTHER = {"RUNNING": "STOPPED", "STOPPED": "RUNNING"}


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


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Served with its daemon on an empty home; nothing of it outlives its end."""
    home = tmp_path_factory.mktemp("served") / "home"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(home))
        environment.setenv("DAGSTER_HOME", str(home / "dagster"))
        with served(home) as running:
            yield running
    assert not [p for p in running.processes if psutil.pid_exists(p.pid) and p.is_running()]


@pytest.fixture(scope="module")
def instance(ui: Served) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture(scope="module")
def killed(instance: dg.DagsterInstance) -> str:
    """A run whose process was killed."""
    return str(wait_for(lambda: _kill_a_worker(instance), pause=0.02))


@pytest.fixture(scope="module")
def backfill(ui: Served, killed: str) -> str:
    """Asked for in the UI: two days of a source, and what follows from it day by day."""
    assets = [{"path": ["nyc_flights", name]} for name in BACKFILLED]
    asked = {"assetSelection": assets, "partitionNames": DAYS}
    return str(_sent(ui, LAUNCH, asked=asked)["launchPartitionBackfill"]["backfillId"])


@pytest.mark.slow
def test_the_daemon_makes_what_is_missing_and_a_killed_run_anew(
    ui: Served, instance: dg.DagsterInstance, killed: str, backfill: str
) -> None:
    wait_for(lambda: instance.get_run_by_id(killed).status == FAILURE)
    wait_for(lambda: not _missing(instance))
    (again,) = instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": killed}))
    wait_for(lambda: instance.get_run_by_id(again.run_id).status == SUCCESS)


@pytest.mark.slow
def test_what_looks_for_work_is_on_and_says_why_it_finds_none(ui: Served) -> None:
    assert _states(ui, "sensors")["automation"] == "RUNNING"
    assert _states(ui, "schedules")["nyc_flights_next_day"] == "STOPPED"
    wait_for(lambda: len(_looks(ui)) == 3)
    waiting = f"no closed segment waits in {ui.home / 'requests'}"
    assert _looks(ui) == {
        "flight_delays_requests": ("SKIPPED", waiting),
        "flight_delays_watch": ("SKIPPED", "no day has come yet"),
        "flight_delays_retrain": ("SKIPPED", "no decision waits for its training set"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", SWITCHES)
def test_every_sensor_and_schedule_can_be_started_and_stopped(ui: Served, kind: str) -> None:
    at_first = _states(ui, kind)
    assert len(at_first) >= 3
    _switch(ui, kind, at_first)
    assert _states(ui, kind) == {name: OTHER[state] for name, state in at_first.items()}
    _switch(ui, kind, _states(ui, kind))
    assert _states(ui, kind) == at_first


@pytest.mark.slow
def test_days_can_be_backfilled(ui: Served, instance: dg.DagsterInstance, backfill: str) -> None:
    wait_for(lambda: instance.get_backfill(backfill).status == BulkActionStatus.COMPLETED_SUCCESS)
    for name in BACKFILLED:
        key = dg.AssetKey(["nyc_flights", name])
        assert instance.get_materialized_partitions(key) == set(DAYS)


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


def _states(ui: Served, kind: str) -> dict[str, str]:
    return {name: state["status"] for name, state in _instigators(ui, kind).items()}


def _instigators(ui: Served, kind: str) -> dict[str, dict[str, str]]:
    """Sensors or schedules by name: the id and status of each."""
    state = {"sensors": "sensorState", "schedules": "scheduleState"}[kind]
    found = _asked(ui, f"{kind} {{ name {state} {{ id status }} }}")[kind]
    return {item["name"]: item[state] for item in found}


def _switch(ui: Served, kind: str, states: dict[str, str]) -> None:
    """Stop those that run, and start the others."""
    start, stop = SWITCHES[kind]
    for name, there in _instigators(ui, kind).items():
        if states[name] == "RUNNING":
            _sent(ui, stop, id=there["id"])
        else:
            _sent(ui, start, selector={**LOCATION, f"{kind[:-1]}Name": name})


def _asked(ui: Served, fields: str) -> dict[str, list[dict[str, Any]]]:
    query = f"""query ($where: RepositorySelector!) {{
        repositoryOrError(repositorySelector: $where) {{ ... on Repository {{ {fields} }} }} }}"""
    found: dict[str, list[dict[str, Any]]] = _sent(ui, query, where=LOCATION)["repositoryOrError"]
    return found


def _sent(ui: Served, query: str, **variables: Any) -> dict[str, Any]:
    """The answer to a query or a mutation, which must not be an error."""
    request = urllib.request.Request(
        f"{ui.dagster}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    assert all("message" not in part for part in found.values()), found
    return found
