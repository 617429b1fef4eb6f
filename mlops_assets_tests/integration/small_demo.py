"""`mlops` as a process of its own, on five weeks of real flights: to be killed, starved, rivalled.

    python -m mlops_assets_tests.integration.small_demo demo

It is the command itself, with the small settings of conftest.py, or after `--whole` with its own.
It also prints a line as each run begins, by which a harness knows where it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mlops_assets_tests.integration.conftest import TODAY, opened

BEGINS = "begins "
WHOLE = "--whole"


def command(*arguments: str) -> list[str]:
    """The command line of `mlops …` with small settings, or after `WHOLE` with its own."""
    return [sys.executable, "-W", "ignore", "-m", __name__, *arguments]


def environment(home: Path) -> dict[str, str]:
    """The variables of such a process on `home`."""
    return os.environ | {
        "MLOPS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "150",
    }


def run(home: Path, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `mlops …` to its end; its output is one text."""
    return subprocess.run(
        command(*arguments),
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def main(arguments: Sequence[str]) -> None:
    """Run the command on `$MLOPS_HOME`."""
    from mlops_assets import definitions
    from mlops_assets.cli import app, flow
    from mlops_assets.cli.console import Progress

    class Telling(Progress):
        def begin(self, assets: tuple[str, ...], partitions: tuple[str, ...]) -> None:
            print(BEGINS + assets[0], flush=True)
            super().begin(assets, partitions)

    flow.Progress = Telling
    if arguments[0] == WHOLE:
        app(list(arguments[1:]))
    definitions.defs = small
    app([*arguments, "--through", str(TODAY)] if arguments[0] == "demo" else list(arguments))


def small():
    """The definitions with small settings, bound to `$MLOPS_HOME`."""
    with opened(Path(os.environ["MLOPS_HOME"])) as there:
        return there.engine.definitions


if __name__ == "__main__":
    main(sys.argv[1:])
