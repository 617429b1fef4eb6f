"""`mlops ui` as a process of its own, on free ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_SECONDS = 180


@dataclass(frozen=True)
class Served:
    """A running `mlops ui`."""

    home: Path
    dagster: str
    mlflow: str
    processes: list[psutil.Process]


@contextmanager
def served(home: Path, *options: str, status: int = 0) -> Iterator[Served]:
    """Run `mlops ui` on a home until the block ends; then ask it to end, as Ctrl-C does.

    It must end with `status`, by itself or because it was asked.
    """
    port, mlflow_port = free_port(), free_port()
    log = home.parent / f"{home.name}-ui.log"
    with log.open("w") as output:
        ui = subprocess.Popen(
            [Path(sys.executable).with_name("mlops"), "ui", "--port", str(port),
             "--mlflow-port", str(mlflow_port), *options],
            env=os.environ | {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_SECONDS
        while "Ready" not in log.read_text():
            assert ui.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        processes = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
        yield Served(home, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}", processes)
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=60) == status, log.read_text()
    finally:
        ui.terminate()
        ui.wait(timeout=60)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
