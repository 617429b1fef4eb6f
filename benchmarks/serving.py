"""Answering over HTTP, one worker each, all on the same model: ours beside what one would write.

Ours and the floor, an ASGI app written by hand for this product, are asked with flights: they look
up, compute, predict and log each answer before it is sent. FastAPI, BentoML and MLflow, as their
manuals have them, are given the features ready and log nothing. Ours keeps what follows from a row
alone; "unseen rows" are each asked for once, with all that the spine knows given. CPU is that of
the server and all its processes, on a core of its own where there is more than one; the load comes
from another.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Case, Contender, Measured
from benchmarks.processes import cpu_seconds, tree
from benchmarks.served import place
from mlops_assets.stores.bento_store import BentoStore

CONCURRENCY = (1, 16, 64)
HOST = "127.0.0.1"
WARM = 300
READY_SECONDS = 120
MOST_SECONDS = 40.0
"""Of one load, whatever is left of its requests."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1",
    "PYTHONWARNINGS": "ignore", "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_TRACKING_URI": "sqlite://",
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """One of those compared.

    Attributes:
        name: shown in the table.
        command: what starts it on a port.
        bodies: which of the bodies it is asked with.
        path: where it answers.
        ready: where it says that it is ready.
        share: part of the requests that it is asked for; slow ones need fewer to be measured.
        once: whether each body is asked for once.
    """

    name: str
    command: tuple[str, ...]
    bodies: str
    path: str = "/predict"
    ready: str = "/readyz"
    share: float = 1.0
    once: bool = False


_OURS = ("-m", "bentoml", "serve", "{bento}", "--host", HOST, "--port", "{port}")
_UVICORN = ("-m", "uvicorn", "--host", HOST, "--port", "{port}", "--no-access-log", "--log-level",
            "warning")  # fmt: skip
SERVERS = (
    Server("ours", _OURS, "requests"),
    Server("by hand", (*_UVICORN, "benchmarks.rivals.hand_written:app"), "requests"),
    Server("ours, unseen rows", _OURS, "unseen", once=True),
    Server("FastAPI", (*_UVICORN, "benchmarks.rivals.fastapi_app:app"), "features"),
    Server("BentoML default", ("-m", "bentoml", "serve", "benchmarks.rivals.bento_default:Default",
                               "--host", HOST, "--port", "{port}"), "bento", share=0.5),
    Server("mlflow", ("-m", "mlflow", "models", "serve", "-m", "{mlflow}", "--env-manager", "local",
                      "--host", HOST, "--port", "{port}", "--workers", "1"),
           "records", "/invocations", "/ping", 0.1),
)  # fmt: skip


def cases(quick: bool) -> list[Case]:
    """One a concurrency."""
    requests = 200 if quick else 6_000
    contenders = tuple(Contender(server.name, "") for server in SERVERS)
    return [
        Case("serving", f"{each} at once", contenders, {"quick": quick, "concurrency": each},
             rounds=1, repeats=1, rows=requests)
        for each in CONCURRENCY
    ]  # fmt: skip


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    return [(name, {"quick": quick}) for name in ("year", "models", "served")]


def measure(case: Case, folder: str) -> dict[str, Measured]:
    """What the servers needed at one concurrency; each is started once for all of them."""
    found = _all(folder, case.rows)
    return {name: figures[case.arguments["concurrency"]] for name, figures in found.items()}


@cache
def _all(folder: str, requests: int) -> dict[str, dict[int, Measured]]:
    return {server.name: _measured(server, place(folder), requests) for server in SERVERS}


def _measured(server: Server, made: Path, requests: int) -> dict[int, Measured]:
    """Seconds and CPU seconds of `requests` answers, and the answers to check, by concurrency."""
    found = {}
    with _running(server, made) as (process, port):
        answers = [_probability(server, port, body) for body in _bodies(server, made)]
        asked = max(20, int(requests * server.share))
        _load(server, made, port, 16, min(WARM, asked), 0)
        for turn, concurrency in enumerate(CONCURRENCY):
            before = cpu_seconds(process)
            first = WARM + turn * asked if server.once else 0
            load = _load(server, made, port, concurrency, asked, first)
            cpu = cpu_seconds(process) - before
            answered = load["answered"]
            scale = requests / max(answered, 1)
            found[concurrency] = Measured(
                seconds=[load["seconds"] * scale],
                cpu_seconds=[cpu * scale],
                peak_mb=_memory(process),
                checksum=answers,
                note=f"{1e6 * cpu / max(answered, 1):.0f} µs of CPU a request,"
                f" {answered / load['seconds']:,.0f} a second, p50 {load['p50_ms']:.1f} ms,"
                f" p99 {load['p99_ms']:.1f} ms, {answered} answered, {load['failed']} failed",
            )
    return found


@contextmanager
def _running(server: Server, made: Path) -> Iterator[tuple[psutil.Process, int]]:
    port = _free_port()
    said = json.loads((made / "said.json").read_text())
    bento = BentoStore(made / "bentos").path(said["tag"])
    filled = {"port": port, "bento": bento, "mlflow": made / "mlflow"}
    command = [sys.executable, *(part.format(**filled) for part in server.command)]
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | ONE_THREAD | _settings(made, Path(scratch))
        log = Path(scratch, "log")
        with log.open("w") as output:
            process = psutil.Popen(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _on_core(process, 0)
            _wait(server, process, port, log)
            yield process, port
        finally:
            _end(process)


def _settings(made: Path, scratch: Path) -> Mapping[str, str]:
    store = f"lmdb://{made / 'online'}"
    rival = {
        "model": str(made.parent / "models" / "champion"), "store": store,
        "log": str(scratch / "requests"), "contract": str(made / "contract.json"),
    }  # fmt: skip
    return {
        "MLOPS_SERVE": "trial", "MLOPS_ONLINE_STORE": store, "BENTOML_HOME": str(scratch),
        "MLOPS_REQUEST_LOG": str(scratch / "requests"), "MLOPS_API_TOKENS": "", "MLOPS_BESIDE": "",
        "RIVAL": json.dumps(rival),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }  # fmt: skip


def _wait(server: Server, process: psutil.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"http://{HOST}:{port}{server.ready}", timeout=1).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"{server.name} is not ready: {log.read_text()[-3000:]}")


def _bodies(server: Server, made: Path, most: int = 64) -> list[str]:
    bodies: list[str] = json.loads((made / f"{server.bodies}.json").read_text())
    return bodies[:most]


def _probability(server: Server, port: int, body: str) -> float:
    asked = urllib.request.Request(
        f"http://{HOST}:{port}{server.path}", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        said = json.loads(answer.read())
    return float(said["probability"] if "probability" in said else said["predictions"][0])


def _load(
    server: Server, made: Path, port: int, concurrency: int, requests: int, first: int
) -> dict[str, float]:
    asked = {
        "port": port, "path": server.path, "bodies": str(made / f"{server.bodies}.json"),
        "concurrency": concurrency, "requests": requests, "seconds": MOST_SECONDS,
        "first": first,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(asked)]
    with psutil.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        _on_core(client, 1)
        output, _ = client.communicate(timeout=MOST_SECONDS + 30)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _memory(process: psutil.Process) -> int:
    return sum(each.memory_info().rss for each in tree(process)) // 2**20


def _on_core(process: psutil.Process, number: int) -> None:
    cores = sorted(psutil.Process().cpu_affinity())
    if len(cores) > 1:
        process.cpu_affinity([cores[number]])


def _end(process: psutil.Process) -> None:
    ending = tree(process)
    for each in ending:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    _, alive = psutil.wait_procs(ending, timeout=5)
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
