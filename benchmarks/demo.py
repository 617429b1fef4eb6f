"""The demo against the same functions called plainly, without Dagster and MLflow.

    python -m benchmarks.demo

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
import time
from datetime import date
from pathlib import Path
from typing import Any

FIRST, LAST = date(2013, 1, 1), date(2013, 11, 30)


def main() -> None:
    """Run both in processes of their own, and print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        demo = _demo(Path(folder) / "demo")
        params = json.dumps(demo["params"])
        plain = json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.demo", "--plain", f"{folder}/plain", params],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()[-1]
        )
    print(f"{'stage':<34}{'plain s':>9}{'demo s':>9}")
    for stage, seconds in plain["stages"].items():
        print(f"{stage:<34}{seconds:>9.2f}{demo['stages'].get(stage, 0.0):>9.2f}")
    print(f"{'all, search left out':<34}{plain['seconds']:>9.1f}{demo['seconds']:>9.1f}")
    print(f"ratio {demo['seconds'] / plain['seconds']:.2f}")
    print(f"peak MB: plain {plain['peak_mb']}, demo {demo['peak_mb']}")


def _demo(home: Path) -> dict[str, Any]:
    summary = home.parent / "demo.json"
    environment = os.environ | {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    command = [str(Path(sys.executable).with_name("mlops")), "demo", "--json", str(summary)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    found = json.loads(summary.read_text())
    from mlops_assets.stores.lakehouse import Lakehouse

    board = Lakehouse(home / "lake").scan("flight_delays/leaderboard").collect()
    searched = dict(board.select("family", "search_seconds").iter_rows())
    stages = {
        name.split("/")[-1]: seconds - searched.get(name.split("/fit_")[-1], 0.0)
        for name, seconds in found["seconds_by_asset"].items()
    }
    return {
        "seconds": found["seconds"] - sum(searched.values()),
        "stages": stages,
        "params": {f: json.loads(p) for f, p in board.select("family", "params").iter_rows()},
        "peak_mb": found["peak_mb"],
    }


def _plain(home: Path, params: dict[str, Any]) -> None:
    """The same work as a script: functions of ml/, stores/ and the domain, one after the other."""
    started = time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import resource

    from benchmarks.plain_flow import run

    stages = run(home, FIRST, LAST, params)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "stages": stages, "peak_mb": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        _plain(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main()
