"""`make demo` from nothing: the figures that the product promises; a second run is free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.local import repository
from mlops_assets.stores.lakehouse import Lakehouse

pytestmark = [pytest.mark.year, pytest.mark.timeout(3600)]

SECOND_RUN_SECONDS = 30
PEAK_MB = 4096


def mlops(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command in a process of its own; what it writes as JSON."""
    summary = home / "summary.json"
    done = subprocess.run(
        [Path(sys.executable).with_name("mlops"), *arguments, "--json", summary],
        env=os.environ | {"MLOPS_HOME": str(home)},
        cwd=repository(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return json.loads(summary.read_text())


def flights(summary: dict[str, Any]) -> dict[str, Any]:
    """What a summary says of the flights."""
    return summary["products"]["flight_delays"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def demo(home: Path) -> dict[str, Any]:
    return mlops(home, "demo")


def test_the_champion_is_as_good_as_promised(demo):
    champion = flights(demo)["champion"]
    assert champion["auc"] >= 0.735
    assert champion["log_loss"] <= 0.419
    assert champion["brier"] <= 0.130


def test_it_surely_gains_over_the_baseline(demo):
    assert flights(demo)["gain_over_baseline"]["low"] > 0


def test_it_fits_a_small_machine(demo):
    assert demo["errors"] == []
    assert demo["peak_mb"] <= PEAK_MB


def test_a_second_run_recomputes_nothing(home, demo):
    again = mlops(home, "demo")
    assert again["recomputed"] == {}
    assert again["seconds"] < SECOND_RUN_SECONDS
    assert flights(again)["champion"] == flights(demo)["champion"]


def test_a_new_day_brings_its_predictions(home, demo):
    advanced = mlops(home, "advance", "--days", "1")
    assert advanced["recomputed"]["flight_delays/predictions"] == 1
    new = date(2013, 12, 1)
    lake = Lakehouse(home / "lake")
    predictions = lake.scan("flight_delays/predictions", first=new, last=new).collect()
    schedule = lake.scan("nyc_flights/flight_schedule", first=new, last=new).collect()
    assert predictions.height == schedule.height > 500
