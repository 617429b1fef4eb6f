"""`mlops doctor`'s checks, each with something bad to find."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.components import health
from mlops_assets.components.health import Environment, Finding, examine
from mlops_assets.components.ml_product.incumbent import PROMOTED
from mlops_assets.components.run_workers import abandoned
from mlops_assets.components.watchdog import Signs
from mlops_assets.local import prepare
from mlops_assets.ml.gates import REQUIRED
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.online_store import open_store

SLEEPING = """
import time, dagster as dg
@dg.asset
def slow(): time.sleep(300)
with dg.DagsterInstance.get() as instance:
    dg.materialize([slow], instance=instance)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path / "home"


@pytest.fixture
def environment(home: Path) -> Iterator[Environment]:
    """A new one, in which nothing has run."""
    prepare()
    with dg.DagsterInstance.get() as instance:
        yield Environment(
            home, instance, Lakehouse(home / "lake"),
            ModelRegistry(os.environ["MLFLOW_TRACKING_URI"]),
            [SimpleNamespace(name="flight_delays")],  # type: ignore[list-item]  # all that is used
            open_store(f"lmdb://{home / 'online'}"),
            due=lambda: 3, limit_seconds=60,
        )  # fmt: skip


def find(environment: Environment, check: str) -> Finding:
    (found,) = examine(environment, [check])
    return found


def doctor(*checks: str) -> tuple[int, dict[str, dict[str, object]]]:
    named = [part for check in checks for part in ("--only", check)]
    result = CliRunner().invoke(app, ["doctor", "--json", *named])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    line = next(line for line in result.output.splitlines() if line.startswith("["))
    return result.exit_code, {found["check"]: found for found in json.loads(line)}


def test_the_command_ends_with_0_where_all_is_well_and_else_with_1(home):
    code, found = doctor("daemon", "lake", "dagster", "disk", "runs", "notifications")
    assert [name for name, finding in found.items() if not finding["passed"]] == ["daemon"]
    assert code == 1
    assert "mlops ui" in str(found["daemon"]["advice"])
    assert list((home / "lake").iterdir()) == []
    assert doctor("lake", "disk")[0] == 0


def test_automation_that_never_looked_is_found(environment):
    assert "last good look never" in find(environment, "automation").detail


@pytest.mark.parametrize(("due", "hours", "passed"), [(3, 25, False), (3, 1, True), (0, 25, True)])
def test_automation_that_a_person_holds_is_found_when_something_is_due_for_long(
    environment, monkeypatch, due, hours, passed
):
    held = Signs(time.time() - hours * 3600, True, None)
    monkeypatch.setattr(health, "signs", lambda instance: held)
    found = find(replace(environment, due=lambda: due), "automation")
    assert found.passed is passed
    assert f"{due} partitions are due" in found.detail


@pytest.mark.parametrize("passed", [False, True])
def test_a_champion_that_did_not_pass_is_found(environment, passed):
    now = datetime.now(UTC)
    gates = [
        {"gate": gate, "digest": "d", "passed": passed or gate != "leak_suspect",
         "detail": "AUC 0.99", "judged_at": now}
        for gate in REQUIRED
    ]  # fmt: skip
    promoted = {"model_version": 3, "digest": "d", "status": PROMOTED, "decided_at": now}
    environment.lake.append("flight_delays/gate_results", pl.DataFrame(gates), Commit())
    environment.lake.append("flight_delays/promotions", pl.DataFrame([promoted]), Commit())
    product = SimpleNamespace(name="flight_delays", table=lambda name: f"flight_delays/{name}")
    # Fitting and registering a model takes a minute; all that is used of it is its digest.
    champion = SimpleNamespace(version=3, digest="d")
    models = SimpleNamespace(champion=lambda name: champion)
    found = find(replace(environment, products=[product], models=models), "champion")
    assert found.passed is passed
    assert passed or "version 3 did not pass leak_suspect: AUC 0.99" in found.detail


def test_a_lake_that_cannot_be_written_is_found(environment, home):
    assert find(environment, "lake").passed
    shutil.rmtree(home / "lake")
    (home / "lake").write_text("a file, no folder")
    assert "cannot be looked at" in find(environment, "lake").detail


def test_an_online_store_that_lost_what_was_published_is_found(environment, home):
    assert find(environment, "online").passed
    generation = environment.online.publish("flight_delays", {}, datetime.now(UTC))
    for published, passed in ((generation, True), ("0" * 32, False)):
        told = dg.AssetMaterialization(
            ["flight_delays", "online_features"], tags={"dagster/data_version": published}
        )
        environment.instance.report_runless_asset_event(told)
        assert find(environment, "online").passed is passed
    shutil.rmtree(home / "online")
    lost = find(environment, "online")
    assert not lost.passed
    assert "has nothing in the online store" in lost.detail
    assert "materialize flight_delays/online_features" in lost.advice


def test_a_full_disk_is_found(environment, monkeypatch):
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 2**60)
    assert not find(environment, "disk").passed


def test_a_registry_that_does_not_answer_is_found(environment):
    nowhere = ModelRegistry("sqlite:////dev/null/mlflow.db")
    assert not find(replace(environment, models=nowhere), "registry").passed


def test_a_bad_address_is_found_and_its_secret_is_not_shown(environment, monkeypatch):
    monkeypatch.setenv("MLOPS_NOTIFY", "json://127.0.0.1/x carrier-pigeon://s3cret@loft")
    found = find(environment, "notifications")
    assert not found.passed
    assert "address 2 of 2" in found.detail
    assert "s3cret" not in str(found)


def test_an_unknown_check_names_those_there_are(environment):
    with pytest.raises(ValueError, match="no check luck; there are daemon, automation"):
        list(examine(environment, ["luck"]))


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_found(environment):
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SLEEPING], env=os.environ)
    try:
        instance = environment.instance
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        deadline = time.monotonic() + 60
        while not instance.get_runs(started):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(1)
        assert list(abandoned(instance)) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        ((run, _),) = abandoned(instance)
        assert run.run_id[:8] in find(environment, "runs").detail
    finally:
        process.kill()
        process.wait()
