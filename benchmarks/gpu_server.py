"""What a GPU gains a server: each Bento of a home, served on the CPU and on the GPU, asked alike.

    python -m benchmarks.gpu_server pack HOME FOLDER
    python -m benchmarks.gpu_server measure FOLDER [--seconds 3] [--json FILE]

`pack` takes from a home what a server needs of it: of each product the champion's Bento, the
promotions, the online store, and requests of its newest days with the scores of the batch path.
`measure` needs that folder alone, and the packages that the Bento's image holds. Each server is a
real one, that a client on another core asks; a GPU's must say that its model runs there, and one
that is told to use a GPU and is shown none must refuse to start. Without a GPU the CPU's figures
alone are printed, and it says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu import gpu
from benchmarks.processes import cpu_seconds
from mlops_assets.stores.bento_store import BentoError, BentoStore, RunningBento

CONCURRENCY = (1, 16, 64)
BATCH = 1024
"""Rows of a request to `/predict_batch`, as many as a server answers with one call of the model."""
REFUSES = "finds no GPU"
NO_LIMIT = 10**9


# --- pack ------------------------------------------------------------------------------------


def pack(home: Path, folder: Path) -> list[str]:
    """Copy what servers need of a home into a new folder; gives the products.

    Raises:
        MayNotServe: a product was promoted once, and has no champion that may serve now.
        FileExistsError: the folder is there.
    """
    from mlops_assets.stores.lakehouse import Lakehouse
    from mlops_assets.stores.model_registry import ModelRegistry
    from mlops_assets.stores.serving_truth import GATE_RESULTS, PROMOTIONS, serving_version

    lake, models = Lakehouse(home / "lake"), ModelRegistry(f"sqlite:///{home / 'mlflow.db'}")
    products = sorted(path.parent.name for path in (home / "lake").glob(f"*/{PROMOTIONS}"))
    (folder / "asked").mkdir(parents=True)
    shutil.copytree(home / "online", folder / "online")
    for product in products:
        version = serving_version(lake, models, product)
        bento = BentoStore(home / "bentos").path(version.tags["bento"])
        shutil.copytree(bento, BentoStore(folder / "bentos").path(version.tags["bento"]))
        for table in (PROMOTIONS, GATE_RESULTS):
            shutil.copytree(home / "lake" / product / table, folder / "lake" / product / table)
        said = _asked(lake, product, version.tags["bento"], bento)
        (folder / "asked" / f"{product}.json").write_text(json.dumps(said))
    return products


def _asked(lake: Any, product: str, tag: str, bento: Path) -> dict[str, Any]:
    """Requests for the newest rows that can be asked for online, and their scores."""
    from mlops_assets.components.ml_product.trial import requests_of
    from mlops_assets.ml.families import load_model
    from mlops_assets.ml.serving_contract import Contract

    code = bento / "src/bentos/tabular"
    contract, model = Contract.read(code / "contract.json"), load_model(code / "model")
    view = f"{product}/feature_view"
    rows = lake.scan(view, first=lake.partitions(view)[-7:][0]).collect().tail(BATCH)
    return {
        "tag": tag,
        "family": model.family,
        "answer": model.target.answer,
        "requests": requests_of(lake, contract, rows),
        "expected": model.predict(rows).tolist(),
    }


# --- measure ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A product of a packed folder, and what its server is asked."""

    folder: Path
    product: str
    said: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> list[Asked]:
        """The products of a folder.

        Raises:
            FileNotFoundError: `pack` did not make it.
        """
        found = sorted((folder / "asked").glob("*.json"))
        if not found:
            raise FileNotFoundError(f"{folder} has no asked/*.json: make it with `pack`")
        return [cls(folder, path.stem, json.loads(path.read_text())) for path in found]

    @contextmanager
    def served(self, device: str, **more: str) -> Iterator[RunningBento]:
        """Its Bento on a device, with a log of its own.

        Raises:
            BentoError: it does not start.
        """
        with tempfile.TemporaryDirectory() as log:
            settings = {
                "MLOPS_HOME": str(self.folder), "MLOPS_REQUEST_LOG": log, "MLOPS_DEVICE": device,
                "MLOPS_LAKE_URI": "", "MLOPS_ONLINE_STORE": "", "MLOPS_API_TOKENS": "",
                "MLOPS_BESIDE": "", "MLFLOW_TRACKING_URI": "", **more,
            }  # fmt: skip
            with BentoStore(self.folder / "bentos").serve(self.said["tag"], settings) as bento:
                yield bento

    def scores(self, bento: RunningBento) -> list[Any]:
        """The answers to all requests at once."""
        answers = bento.predict_batch(self.said["requests"])
        return [answer[self.said["answer"]] for answer in answers]

    def measure(self, device: str, seconds: float) -> tuple[dict[str, Any], list[Any]]:
        """The figures of a server on a device, and its answers.

        Raises:
            BentoError: it does not start.
            RuntimeError: the model is not where it was asked to be, or a request failed.
        """
        idle = gpu_mb()
        with self.served(device) as bento:
            require(bento, device)
            first = _seconds(lambda: bento.predict(self.said["requests"][0]))
            first_batch = _seconds(lambda: self.scores(bento))
            figures: dict[str, Any] = {
                "product": self.product,
                "family": self.said["family"],
                "device": device,
                "start s": round(bento.startup_seconds, 1),
                "first row ms": round(1e3 * first, 1),
                "first batch ms": round(1e3 * first_batch, 1),
            }
            rows = [json.dumps(request) for request in self.said["requests"]]
            _load(bento, "/predict", rows, 16, min(1.0, seconds))
            for concurrency in CONCURRENCY:
                figures |= {
                    f"{name}, {concurrency} at once": figure
                    for name, figure in _load(bento, "/predict", rows, concurrency, seconds).items()
                }
            batch = json.dumps({"rows": list(islice(cycle(self.said["requests"]), BATCH))})
            found = _load(bento, "/predict_batch", [batch], 1, seconds)
            figures |= {
                "rows/s in batches": round(BATCH * found["requests/s"]),
                "CPU µs a row": round(found["CPU µs"] / BATCH, 1),
                "MB": round(bento.memory_bytes() / 2**20),
                "GPU MB": gpu_mb() - idle,
            }
            return figures, self.scores(bento)

    def refusal(self) -> str:
        """What a server says that is told to use a GPU, and is shown none.

        Raises:
            RuntimeError: it starts, or says something else.
        """
        try:
            with self.served("cuda", CUDA_VISIBLE_DEVICES=""):
                said = "it started"
        except BentoError as error:
            said = str(error)
        lines = [line.strip() for line in said.splitlines() if REFUSES in line]
        if not lines:
            raise RuntimeError(f"{self.product} without a GPU did not refuse to start: {said}")
        return lines[-1]


def require(bento: RunningBento, device: str) -> None:
    """Ask a server where its model runs.

    Raises:
        RuntimeError: it is not the device that was asked for.
    """
    with urllib.request.urlopen(f"{bento.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = f"mlops_on_gpu {float(device == 'cuda')}"
    if wanted not in lines:
        said = [line for line in lines if line.startswith("mlops_on_gpu")]
        raise RuntimeError(f"a server on {device} says {said}, expected {wanted!r}")


def difference(one: list[Any], other: list[Any]) -> float:
    """The greatest difference of two servers' scores."""
    import numpy as np

    return float(np.abs(np.array(one) - np.array(other)).max())


def gpu_mb() -> int:
    """Memory of the first GPU that is in use, by whichever process (MiB); 0 without one."""
    with suppress(OSError, subprocess.CalledProcessError):
        asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        return int(done.stdout.splitlines()[0])
    return 0


def _load(
    bento: RunningBento, path: str, bodies: list[str], concurrency: int, seconds: float
) -> dict[str, float]:
    """Ask for so many seconds; what came of it.

    Raises:
        RuntimeError: a request failed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(bodies, file)
        file.flush()
        asked = {
            "port": bento.port, "path": path, "bodies": file.name, "concurrency": concurrency,
            "requests": NO_LIMIT, "seconds": seconds, "first": 0,
        }  # fmt: skip
        server = psutil.Process(bento.pids[0])
        before = cpu_seconds(server)
        command = [sys.executable, "-m", "benchmarks.load", json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cpu = cpu_seconds(server) - before
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["answered"]:
        raise RuntimeError(
            f"{path}: {found['failed']} requests failed, {found['answered']} did not"
        )
    return {
        "p50 ms": round(found["p50_ms"], 2),
        "p95 ms": round(found["p95_ms"], 2),
        "CPU µs": round(1e6 * cpu / found["answered"]),
        "requests/s": round(found["answered"] / found["seconds"], 1),
    }


def _seconds(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(folder: Path, seconds: float) -> dict[str, Any]:
    """Measure each product of a folder on each device there is, printing as it goes."""
    found = gpu()
    print(found or "no GPU is found: the CPU alone", f"and {os.cpu_count()} CPU cores", flush=True)
    figures: list[Mapping[str, Any]] = []
    for asked in Asked.read(folder.absolute()):
        answers = {"batch path": asked.said["expected"]}
        for device in ("cpu", "cuda") if found else ("cpu",):
            measured, answers[device] = asked.measure(device, seconds)
            measured["from the batch path"] = difference(answers[device], answers["batch path"])
            if device == "cuda":
                measured["from the CPU"] = difference(answers[device], answers["cpu"])
            figures.append(measured)
            for name, figure in measured.items():
                print(f"{name:>28}  {figure}", flush=True)
        print(f"{asked.product}, told to use a GPU and shown none: {asked.refusal()}", flush=True)
    return {"gpu": found, "cores": os.cpu_count(), "figures": figures}


def main() -> None:
    """Pack or measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_server", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="copy what servers need of a home")
    packing.add_argument("home", type=Path)
    packing.add_argument("folder", type=Path)
    measuring = commands.add_parser("measure", help="serve and ask what was packed")
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--seconds", type=float, default=3.0, help="of each load")
    measuring.add_argument("--json", type=Path, help="write every figure here")
    asked = parser.parse_args()
    if asked.command == "pack":
        print(f"{asked.folder}: {', '.join(pack(asked.home.absolute(), asked.folder))}")
        return
    figures = compare(asked.folder, asked.seconds)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
