"""A Bento served by `bentoml serve` as a real process on this machine, and ended with its workers.

It listens on 127.0.0.1 alone, on a free port, and runs the code inside the Bento. The server's
scratch files (metrics of its workers, its log) live in a temporary folder as long as it does.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlops_assets.stores.bento_process import (
    BentoError,
    bentoml_command,
    bentoml_environment,
    log_tail,
)

_HOST = "127.0.0.1"
_POLL = 0.05
_GRACE = 5
_REQUEST_LIMIT = 60.0
# The port is open before a worker takes requests from it; a probe may not wait for that one.
_PROBE_LIMIT = 0.5


class RequestRefused(ValueError):
    """The server answered with another status than 200; the message holds its answer."""

    def __init__(self, status: int, answer: str) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.answer = answer


@dataclass(frozen=True)
class RunningBento:
    """A Bento that is ready to answer at `url`."""

    url: str
    port: int
    startup_seconds: float
    pids: tuple[int, ...]

    def predict(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one row, whose values are ready for JSON.

        Raises:
            RequestRefused: if the server does not answer with 200.
        """
        return self.post("/predict", row)

    def predict_batch(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers to some rows. Errors as in `predict`."""
        predictions: list[dict[str, Any]] = self.post("/predict_batch", {"rows": rows})[
            "predictions"
        ]
        return predictions

    def post(self, path: str, content: Any) -> Any:
        """Return the answer to JSON `content`. Errors as in `predict`."""
        status, answer = _request(self.port, "POST", path, json.dumps(content))
        if status != http.client.OK:
            raise RequestRefused(status, answer)
        return json.loads(answer)

    def memory_bytes(self) -> int:
        """Return the resident memory of the server and its workers, shared pages in each."""
        processes = [psutil.Process(self.pids[0])]
        processes += processes[0].children(recursive=True)
        found = 0
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                found += process.memory_info().rss
        return found


@contextmanager
def running(
    bento: Path, environment: Mapping[str, str], *, ready_within: float
) -> Iterator[RunningBento]:
    """Serve the Bento in the folder `bento`; on leaving, every process of the server is gone.

    `environment` comes on top of this process's own.

    Raises:
        BentoError: if it dies or is not ready within `ready_within` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="bento-") as scratch:
        log = Path(scratch, "log")
        port = _free_port()
        started = time.perf_counter()
        with log.open("wb") as output:
            server = psutil.Popen(
                bentoml_command(
                    "serve", str(bento), "--host", _HOST, "--port", str(port),
                    "--timeout-graceful-shutdown", str(_GRACE),
                ),
                cwd=bento / "src",
                env={**bentoml_environment(Path(scratch)), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        workers: list[psutil.Process] = []
        try:
            if problem := _wait_until_ready(server, workers, port, started + ready_within):
                raise BentoError(f"{bento}: {problem}\n{log_tail(log.read_bytes())}")
            yield RunningBento(
                url=f"http://{_HOST}:{port}",
                port=port,
                startup_seconds=time.perf_counter() - started,
                pids=(server.pid, *(worker.pid for worker in workers)),
            )
        finally:
            _end(server, workers)


def _wait_until_ready(
    server: psutil.Popen, workers: list[psutil.Process], port: int, deadline: float
) -> str | None:
    """Wait for readiness, noting the server's workers; return what went wrong, if anything.

    A worker that cannot load its model dies and is started anew for ever: the first death counts.
    """
    while time.perf_counter() < deadline:
        if server.poll() is not None:
            return f"the server ended with status {server.returncode}"
        if any(not _is_alive(worker) for worker in workers):
            return "a worker died before it was ready"
        workers += [child for child in server.children(recursive=True) if child not in workers]
        if workers and _is_ready(port):
            return None
        time.sleep(_POLL)
    return "not ready in time"


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_ready(port: int) -> bool:
    try:
        status, _ = _request(port, "GET", "/readyz", limit=_PROBE_LIMIT)
    except (OSError, http.client.HTTPException):
        return False
    return status == http.client.OK


def _request(
    port: int, method: str, path: str, body: str | None = None, limit: float = _REQUEST_LIMIT
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(_HOST, port, timeout=limit)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _end(server: psutil.Popen, workers: list[psutil.Process]) -> None:
    """Ask the server to stop, then kill what is left of it.

    Workers are in sessions of their own, out of reach of a signal to the server's group, and
    outlive a server that is killed: they are ended one by one. While it is suspended, the server
    starts no other.
    """
    with suppress(psutil.NoSuchProcess):
        server.suspend()
        workers = [*workers, *server.children(recursive=True)]
        server.terminate()
        server.resume()
    _, alive = psutil.wait_procs([server, *workers], timeout=_GRACE)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_GRACE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]
