"""The demo against the same functions called plainly, without Dagster and MLflow.

Both fill a lake of their own with the same tables and fit the same families with the same
parameters; the search is left out on both sides (the demo's is timed, and taken off). What remains
above the plain functions is the price of runs, events, checks, lineage and tracking.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Measured, Work, in_own_process

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
        ran = in_own_process("benchmarks.demo", "demo", {"folder": f"{home}/demo", "last": last}, 1)
        said = json.loads(ran["checksum"])
        arguments = {"folder": f"{home}/plain", "last": last, "params": said["params"]}
        plain = in_own_process("benchmarks.plain_flow", "plain", arguments, 1)
    ours = Measured(
        [ran["seconds"][0] - said["search"][0]], [ran["cpu_seconds"][0] - said["search"][1]],
        said["peak_mb"], parts=ran["parts"],
    )  # fmt: skip
    return {"ours": ours, "plain": Measured(**plain)}


def demo(folder: str, last: str) -> Work:
    """`mlops demo`; what is checked says which parameters it found, and what the search took."""
    home, parts, search = Path(folder), dict[str, float](), [0.0, 0.0]
    summary = home.with_name("demo.json")
    os.environ |= {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    from mlops_assets.cli import app
    from mlops_assets.components.ml_product import training

    def timed(*args: Any, **options: Any) -> Any:
        before = time.perf_counter(), time.process_time()
        try:
            return own(*args, **options)
        finally:
            search[0] += time.perf_counter() - before[0]
            search[1] += time.process_time() - before[1]

    own, training.search = training.search, timed

    def run() -> None:
        arguments = ["demo", "--through", last, "--json", str(summary)]
        if status := app(arguments, standalone_mode=False):
            raise RuntimeError(f"mlops demo ended with {status}")

    def said(_: None) -> str:
        found, (searched, params) = json.loads(summary.read_text()), _trainings(home)
        for name, seconds in found["seconds_by_asset"].items():
            short = name.split("/")[-1]
            parts[short] = seconds - searched.get(short.removeprefix("fit_"), 0.0)
        return json.dumps({"params": params, "search": search, "peak_mb": found["peak_mb"]})

    return Work(run, said, parts)


def _trainings(home: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of the search, and parameters, by family."""
    from mlops_assets.stores.lakehouse import Lakehouse

    store, board = Lakehouse(home / "lake"), "flight_delays/leaderboard"
    if not store.exists(board):
        return {}, {}
    rows = store.scan(board).select("family", "search_seconds", "params").collect().rows()
    return {f: s for f, s, _ in rows}, {f: json.loads(p) for f, _, p in rows}
