"""One measurement in a process of its own, so that its peak of memory is its own.

    python -m benchmarks.measure benchmarks.join ours '{"folder": "…"}' 3

A contender is a function of JSON arguments that gets ready and returns what is timed and how its
result is checked. The last line printed is JSON: the fields of `Measured`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from statistics import median
from typing import Any

import psutil

THREADS = 2
ENVIRONMENT = {
    "POLARS_MAX_THREADS": str(THREADS),
    "OMP_NUM_THREADS": str(THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "TOKIO_WORKER_THREADS": str(THREADS),
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
}
"""The same for every contender."""

Check = str | list[float] | None


@dataclass(frozen=True)
class Work:
    """What a contender does.

    Attributes:
        run: timed; gives the result.
        check: of the result, not timed: text, or numbers that are compared with a tolerance.
        parts: filled by `run`: seconds of its parts.
    """

    run: Callable[[], Any]
    check: Callable[[Any], Check] = lambda result: None
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """Who is measured: a function of the comparison's module.

    Attributes:
        name: shown in the table.
        function: its name in the module.
        needs_gb: memory below which it is left out.
    """

    name: str
    function: str
    needs_gb: float = 0.0


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        benchmark: what is compared.
        size: rows, columns.
        contenders: ours, the floor, then others.
        arguments: of each contender's function, beside `folder`.
        rounds: how often the contenders take turns.
        repeats: runs in one process.
        rows: how many are worked through, where their rate is of interest; else 0.
    """

    benchmark: str
    size: str
    contenders: tuple[Contender, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 2
    repeats: int = 3
    rows: int = 0


@dataclass
class Measured:
    """What became of one contender; `note` says why there are no seconds.

    Attributes:
        seconds: of each run, by the clock.
        cpu_seconds: of each run, all threads together; hardly moved by what else the machine does.
        peak_mb: greatest resident memory of any of its processes.
        checksum: of the result.
        parts: seconds of its parts.
        note: why it was left out.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: int = 0
    checksum: Check = None
    parts: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def best(self) -> float | None:
        """Least seconds."""
        return min(self.seconds, default=None)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        middle = median(self.seconds) if self.seconds else None
        cpu = min(self.cpu_seconds, default=None)
        return vars(self) | {"best": self.best, "median": middle, "best_cpu": cpu}

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Measured:
        """What `as_json` gave."""
        return cls(**{name: figures[name] for name in cls.__dataclass_fields__})


def measure(case: Case, module: str, folder: str) -> dict[str, Measured]:
    """Let the contenders of a case take turns."""
    found = {contender.name: Measured() for contender in case.contenders}
    for _ in range(case.rounds):
        for contender in case.contenders:
            there = found[contender.name]
            if (free := psutil.virtual_memory().available / 2**30) < contender.needs_gb:
                there.note = f"would need {contender.needs_gb:.0f} GB, {free:.0f} are free"
                continue
            arguments = {"folder": folder, **case.arguments}
            new = in_own_process(module, contender.function, arguments, case.repeats)
            there.seconds += new["seconds"]
            there.cpu_seconds += new["cpu_seconds"]
            there.peak_mb = max(there.peak_mb, new["peak_mb"])
            there.checksum, there.parts = new["checksum"], new["parts"]
    return found


def in_own_process(
    module: str, function: str, arguments: Mapping[str, Any], repeats: int
) -> dict[str, Any]:
    """Run a contender in a new process.

    Raises:
        RuntimeError: with what it printed, where it failed.
    """
    command = [sys.executable, "-m", "benchmarks.measure", module, function]
    done = subprocess.run(
        [*command, json.dumps(arguments), str(repeats)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{function} {arguments}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_mb() -> int:
    """Greatest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _main(module: str, function: str, arguments: str, repeats: str) -> None:
    work: Work = getattr(import_module(module), function)(**json.loads(arguments))
    seconds, cpu_seconds, result = [], [], None
    for _ in range(int(repeats)):
        result = None  # freed before the next
        started, busy = time.perf_counter(), time.process_time()
        result = work.run()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - busy)
    # The check may need more memory than the work.
    peak = peak_mb()
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak}
    print(json.dumps(found | {"checksum": work.check(result), "parts": work.parts}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
