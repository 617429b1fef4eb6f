"""The demo against the same functions called plainly, without Dagster and MLflow.

Both fill a lake of their own with the same tables and fit the same families with the same
parameters; the search is left out on both sides (its seconds are taken off the demo's). What
remains above the plain functions is the price of runs, events, checks, lineage and tracking.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Measured, in_own_process

FIRST, LAST = date(2013, 1, 1), date(2013, 11, 30)
QUICK = date(2013, 1, 10)


def cases(quick: bool) -> list[Case]:
    """One; `measure` is its own, since the plain side takes the demo's parameters."""
    size = "10 days, tables" if quick else "334 days"
    return [Case("demo", size, (), {"last": (QUICK if quick else LAST).isoformat()})]


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """Nothing: both start from the source."""
    return []


def measure(case: Case, folder: str) -> dict[str, Measured]:
    """The demo, then the plain functions with the parameters that it found."""
    last = case.arguments["last"]
    with tempfile.TemporaryDirectory(dir=folder) as home:
        made = demo(Path(home) / "demo", last)
        plain = in_own_process(
            "benchmarks.plain_flow",
            "plain",
            {"folder": f"{home}/plain", "last": last, "params": made["params"]},
            1,
        )
    ours = Measured([made["seconds"]], peak_mb=made["peak_mb"], parts=made["stages"])
    return {"ours": ours, "plain": Measured(**plain)}


def demo(home: Path, last: str) -> dict[str, Any]:
    """Run `mlops demo` on a new home; its seconds and parameters, the search left out."""
    summary = home.parent / "demo.json"
    environment = os.environ | {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    command = [str(Path(sys.executable).with_name("mlops")), "demo", "--through", last]
    done = subprocess.run(
        [*command, "--json", str(summary)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"mlops demo: {done.stderr[-3000:]}")
    found = json.loads(summary.read_text())
    from mlops_assets.stores.lakehouse import Lakehouse

    store = Lakehouse(home / "lake")
    searched, params = {}, {}
    if store.exists("flight_delays/leaderboard"):
        board = store.scan("flight_delays/leaderboard").collect()
        searched = dict(board.select("family", "search_seconds").iter_rows())
        params = {f: json.loads(p) for f, p in board.select("family", "params").iter_rows()}
    stages = {
        name.split("/")[-1]: seconds - searched.get(name.split("/fit_")[-1], 0.0)
        for name, seconds in found["seconds_by_asset"].items()
    }
    return {
        "seconds": found["seconds"] - sum(searched.values()),
        "stages": stages,
        "params": params,
        "peak_mb": found["peak_mb"],
    }
