"""Servers on one listening socket, one after the other: what serves is replaced without a gap.

The socket is this process's; workers accept from it. A new Bento's worker starts beside the old one
and accepts when its model is loaded and tried; only then is the old one asked to end. A worker that
dies is started again, and callers wait in the socket's queue meanwhile.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from mlops_assets.stores.bento_process import BentoError, bentoml_environment, log_tail
from mlops_assets.stores.bento_store import BentoStore
from mlops_assets.stores.bound_process import bound

HOST = "127.0.0.1"
READY_SECONDS = 120.0
END_SECONDS = 20.0
"""Time that a worker has to answer what it has, after which it is killed."""
_BACKLOG = 2048
_LONGEST_PAUSE = 30.0


@dataclass
class Worker:
    """A server process of the Bento `tag`."""

    tag: str
    contract: str
    process: psutil.Popen
    log: Path

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        return log_tail(self.log.read_bytes())


class Rollout:
    """Serves one Bento at a time on `port` of loopback, for as long as the `with` block runs.

    Args:
        bentos: where Bentos are.
        port: 0 chooses a free one.
        environment: variables for the workers, on top of this process's own.
        logs: folder of `serve-<version>.log`.

    Raises:
        OSError: on entry, if the port is taken.
    """

    def __init__(
        self, bentos: BentoStore, port: int, environment: Mapping[str, str], logs: Path
    ) -> None:
        self._bentos, self._environment, self._logs = bentos, dict(environment), logs
        self._socket = socket.socket()
        self._wanted_port = port
        self.worker: Worker | None = None
        self._old: list[tuple[Worker, float]] = []
        self._pause, self._not_before = 1.0, 0.0

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, self._wanted_port))
        self._socket.listen(_BACKLOG)
        return self

    def __exit__(self, *_: object) -> None:
        workers = [worker for worker, _ in self._old] + ([self.worker] if self.worker else [])
        for worker in workers:
            _ask_to_end(worker)
        _, alive = psutil.wait_procs([w.process for w in workers], timeout=END_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=END_SECONDS)
        self._socket.close()

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self._socket.getsockname()[1])

    def roll_out(self, tag: str) -> None:
        """Serve the Bento `tag` from now on; what served goes on until that one is ready.

        Raises:
            LookupError: there is no such Bento.
            BentoError: it is not ready in time; what served still does.
        """
        started = self._start(tag)
        if self.worker is not None:
            _ask_to_end(self.worker)
            self._old.append((self.worker, time.monotonic() + END_SECONDS))
        self.worker, self._pause = started, 1.0

    def look(self) -> str | None:
        """Start a worker that died anew, and end old ones; a sentence where there was something.

        Call it every second or so.
        """
        self._end_old()
        worker = self.worker
        if worker is None or worker.alive() or time.monotonic() < self._not_before:
            return None
        status = worker.process.returncode
        try:
            self.worker = self._start(worker.tag)
        except BentoError as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._not_before = time.monotonic() + self._pause
            return f"{worker.tag} does not start again: {error}"
        self._pause = 1.0
        return f"{worker.tag} ended with status {status} and was started again"

    def _end_old(self) -> None:
        for worker, deadline in self._old:
            if worker.alive() and time.monotonic() > deadline:
                with suppress(psutil.NoSuchProcess):
                    worker.process.kill()
        self._old = [(worker, end) for worker, end in self._old if worker.alive()]

    def _start(self, tag: str) -> Worker:
        contract = self._bentos.contract(tag).hash
        log = self._logs / f"serve-{tag.partition(':')[2][:8]}.log"
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                process = psutil.Popen(
                    bound(
                        [
                            sys.executable, "-m", "bentos.tabular.worker",
                            "--fd", str(self._socket.fileno()), "--ready", str(writing),
                        ]
                    ),
                    cwd=self._bentos.path(tag) / "src",
                    env={**bentoml_environment(self._bentos.home), **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(self._socket.fileno(), writing),
                    start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(writing)
        worker = Worker(tag, contract, process, log)
        with os.fdopen(reading, "rb") as pipe:
            told, _, _ = select.select([pipe], [], [], READY_SECONDS)
            if told and pipe.readline():
                return worker
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()
        raise BentoError(f"{tag} is not ready; {log} ends with\n{worker.last_words()}")


def _ask_to_end(worker: Worker) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.process.send_signal(signal.SIGTERM)
