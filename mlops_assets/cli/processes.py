"""Long-running child processes of a command: started, watched, and stopped with no orphan."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from mlops_assets.stores.bound_process import bound

HOST = "127.0.0.1"
GRACE_SECONDS = 10.0
"""Time that processes have to end by themselves before they are killed."""
_POLL_SECONDS = 0.2
_LOG_LINES = 15


class ProcessError(Exception):
    """A process ended, or does not answer; the message ends with the last lines of its log."""


def require_free(port: int, name: str, option: str) -> None:
    """Make sure that nothing listens on the port.

    Raises:
        ProcessError: naming the port and the option that chooses another.
    """
    with socket.socket() as probe:
        # A port that was closed a moment ago counts as free, one that is listened on does not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ProcessError(
                f"port {port} for {name} cannot be used ({error.strerror}); stop what uses it, or"
                f" choose another with {option}"
            ) from None


class Processes:
    """A group of processes that live as long as the `with` block.

    Each writes to `NAME.log` in the folder `logs` and leads a session of its own: a Ctrl-C in the
    terminal reaches this process alone, which then stops the others, the last started first. Where
    this process is killed, they are asked to end as well.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, psutil.Popen] = {}

    def __enter__(self) -> Processes:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not leave half of them running.
        previous = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], folder: Path) -> None:
        """Start a process in a folder."""
        with self._log(name).open("wb") as log:
            self._running[name] = psutil.Popen(
                bound(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Make sure that all are alive.

        Raises:
            ProcessError: naming the one that is not, with its last words.
        """
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise ProcessError(f"{name} ended with status {status}{self._last_words(name)}")

    def wait_for_file(self, name: str, path: Path, seconds: float) -> None:
        """Wait until a process has made a file, a socket say."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            self._wait(name, deadline, f"{name} is not ready")

    def wait_for_answer(self, name: str, url: str, seconds: float) -> None:
        """Wait until a URL answers 200."""
        deadline = time.monotonic() + seconds
        while not _answers(url):
            self._wait(name, deadline, f"{name} does not answer at {url}")

    def watch(self, also: Callable[[], None] | None = None) -> None:
        """Return never; raise `ProcessError` when one ends, KeyboardInterrupt at Ctrl-C.

        `also` is called in between, often; what it raises ends the watch.
        """
        while True:
            self.check()
            if also is not None:
                also()
            time.sleep(_POLL_SECONDS)

    def _wait(self, name: str, deadline: float, problem: str) -> None:
        self.check()
        if time.monotonic() > deadline:
            raise ProcessError(f"{problem}{self._last_words(name)}")
        time.sleep(_POLL_SECONDS)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return f"; {self._log(name)} ends with\n" + "\n".join(lines)

    def _stop(self) -> None:
        leaders = list(reversed(self._running.values()))
        members = list(leaders)
        for leader in leaders:
            with suppress(psutil.NoSuchProcess):
                members += leader.children(recursive=True)
        for leader in leaders:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(members, timeout=GRACE_SECONDS)
        # What a process started after it was asked to stop is in its group as well.
        for leader in leaders:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False
