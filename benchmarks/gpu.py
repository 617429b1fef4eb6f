"""What a GPU gains: the families that can use one, fitted and asked on the CPU and on the GPU.

    python -m benchmarks.gpu [--rows 13000 1000000] [--json FILE]

Rows are generated in the shape of departure_demand's: sums over trailing windows, some numbers,
some categories, counts. Each fit runs a fixed number of rounds or epochs. Without a GPU the CPU's
figures alone are printed, and it says so. It needs numpy, polars, and the families' libraries; one
that is not there is left out by name.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.targets import Regression

SERIES, WINDOWS = ["planned", "left", "late"], [f"{n}h" for n in (1, 2, 3, 4, 6, 8, 10, 12, 16, 24)]
NUMBERS = [f"number_{n}" for n in range(20)]
NETWORK = {"epochs": 3, "batch_rows": 4096}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "recent_sequence": ("torch", NETWORK | {"series": SERIES, "windows": WINDOWS, "width": 64}),
    "embedding_mlp": ("torch", NETWORK),
    "xgboost": ("xgboost", {"rounds": 100}),
}
COLUMNS = FeatureColumns(
    (*NUMBERS, *(f"{s}_{w}" for s in SERIES for w in WINDOWS)), ("airport", "hour")
)


def rows(count: int) -> Labelled:
    """Counts whose mean depends on a number, a category, and what came of late."""
    rng = np.random.default_rng(7)
    steps = rng.poisson(rng.gamma(2.0, 2.0, (count, len(SERIES), 1)), (count, 3, len(WINDOWS)))
    sums = steps.cumsum(axis=2)
    airport, numbers = rng.integers(0, 3, count), rng.normal(size=(count, len(NUMBERS)))
    frame = pl.DataFrame(
        {name: numbers[:, n] for n, name in enumerate(NUMBERS)}
        | {f"{s}_{w}": sums[:, i, j] for i, s in enumerate(SERIES) for j, w in enumerate(WINDOWS)}
        | {"airport": airport.astype(str), "hour": rng.integers(0, 24, count).astype(str)}
    )
    mean = np.exp(0.3 * numbers[:, 0] + 0.2 * airport) * (1 + 0.2 * sums[:, 2, 1])
    return Labelled(frame, rng.poisson(mean), Regression("poisson_deviance"))


def measure(name: str, params: dict[str, Any], train: Labelled, device: str) -> dict[str, Any]:
    """Seconds of a second fit and of a second prediction; the first ones set the device up."""
    options = FitOptions(threads=os.cpu_count() or 1, device=device)
    head = train.take(np.arange(min(2_000, train.frame.height)))
    family(name).fit(head, None, COLUMNS, params, options)
    started = time.perf_counter()
    model = family(name).fit(train, None, COLUMNS, params, options)
    fitted = time.perf_counter()
    asked = model.on(device)
    asked.predict(head.frame)
    begun = time.perf_counter()
    scores = asked.predict(train.frame)
    return {
        "family": name,
        "rows": train.frame.height,
        "device": model.description()["device"],
        "fit s": round(fitted - started, 2),
        "predict s": round(time.perf_counter() - begun, 2),
        "deviance": round(train.target.loss(*train.target.check(train.label, scores)), 4),
    }


def gpu() -> str:
    """The name of the GPU that torch finds; empty where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, nargs="+", default=[13_000, 1_000_000])
    parser.add_argument("--json", type=Path, help="write every figure here")
    asked = parser.parse_args()
    there = {name: need for name, need in FAMILIES.items() if find_spec(need[0])}
    for name in sorted(set(FAMILIES) - set(there)):
        print(f"{name}: {FAMILIES[name][0]} is not installed")
    found = gpu()
    print(found or "no GPU is found: the CPU alone", f"and {os.cpu_count()} CPU cores")
    figures = []
    for count in asked.rows:
        train = rows(count)
        for name, (_, params) in there.items():
            for device in ("cpu", "cuda") if found else ("cpu",):
                figures.append(measure(name, params, train, device))
                print(figures[-1], flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"gpu": found, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
