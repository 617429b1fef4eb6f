"""`mlops backtest` on three weeks of real flights: killed and gone on with, against undisturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets_tests.integration.small_backtest import DAILY

pytestmark = pytest.mark.year

FIRST, OPENING, LAST = date(2013, 1, 27), date(2013, 1, 31), date(2013, 2, 9)
NAME = "flight_delays"
KEYS = ["date", "carrier", "flight", "origin"]


def start(home: Path, last: date, *options: str, first: date = FIRST) -> subprocess.Popen[str]:
    module = "mlops_assets_tests.integration.small_backtest"
    asked = ["--from", str(first), "--to", str(last), "--home", str(home), "--json", f"{home}.json"]
    command = [sys.executable, "-W", "ignore", "-m", module, *options, NAME, *asked]
    elsewhere = {"MLOPS_LAKE_URI": "s3://not/ours", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    return subprocess.Popen(
        command, env=os.environ | elsewhere | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(home: Path, last: date, *options: str) -> str:
    walk = start(home, last, *options)
    output, _ = walk.communicate(timeout=800)
    assert walk.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Two walks from the same beginning; the output of the first.

    One is undisturbed; quiet days arrive together. In the other each day arrives alone, and it is
    killed on its way.
    """
    folder = tmp_path_factory.mktemp("backtest")
    whole, killed = folder / "whole", folder / "killed"
    finished(whole, OPENING)
    shutil.copytree(whole, killed, symlinks=True)
    output = finished(whole, LAST)
    walk = start(killed, LAST, DAILY)
    for line in walk.stdout:
        if line.startswith("2013-02-0"):
            break
    time.sleep(4)  # into the days that follow, whatever they do
    walk.kill()
    assert walk.wait() == -signal.SIGKILL
    walk.stdout.close()
    finished(killed, LAST, DAILY)
    return whole, killed, output


def tables(home: Path) -> dict[str, pl.DataFrame]:
    lake = Lakehouse(home / "lake")
    said = ["probability", "model_version", "revision"]
    decided = ["decision_id", "verdict", "cutoff", "probe_gain", "new_labels"]
    return {
        "predictions": lake.scan(f"{NAME}/predictions").select(*KEYS, *said).sort(KEYS).collect(),
        "decisions": lake.scan(f"{NAME}/retrain_decisions").select(decided).sort(decided).collect(),
        "figures": lake.scan(f"{NAME}/backtest").collect(),
        "gains": lake.scan(f"{NAME}/backtest_gains").collect(),
    }


def test_a_walk_that_was_killed_ends_as_one_that_nobody_disturbed(homes):
    """And days that come alone are as those that come together."""
    whole, killed, _ = homes
    for name, expected in tables(whole).items():
        assert tables(killed)[name].equals(expected), name


def test_it_retrains_by_the_sensors_and_says_what_came_of_it(homes):
    whole, _, output = homes
    found, there = json.loads(Path(f"{whole}.json").read_text()), tables(whole)
    assert ModelRegistry(f"sqlite:///{whole / 'mlflow.db'}").champion(NAME).version > 1
    assert "retrain" in there["decisions"]["verdict"]
    assert there["predictions"]["date"].min() == date(2013, 1, 25)
    assert "declared for the walk: training.first_cutoff = 2013-01-24" in output
    assert (whole / "backtest.png").read_bytes().startswith(b"\x89PNG")
    served = found["served"]
    assert [model["cutoff"] for model in served["frozen"]] == ["2013-01-24"]
    assert len(served["loop"]) > 1
    rows = there["figures"].filter(period="all")
    assert set(rows["policy"]) == {"frozen", "monthly", "fresh", "loop"}
    assert rows["rows"].n_unique() == 1
    # January and February alone: each month is once chosen on and once the test.
    assert {"2013-01", "2013-02", "chosen on", "test", "all"} == set(there["figures"]["period"])


def test_the_model_of_a_cut_off_is_the_one_that_the_walk_trained(homes):
    """Before its first retrain the loop is the frozen champion, which was fitted apart."""
    whole, _, _ = homes
    rows = tables(whole)["figures"].filter(period="2013-01").sort("policy")
    _, frozen, loop, _ = rows["log_loss"]
    assert loop == pytest.approx(frozen, abs=1e-9)


def test_another_walk_does_not_go_on_in_its_home(homes):
    whole, _, _ = homes
    walk = start(whole, LAST, first=date(2013, 1, 29))
    output, _ = walk.communicate(timeout=100)
    assert walk.returncode == 1
    assert "holds a walk of flight_delays from 2013-01-27" in " ".join(output.split())
