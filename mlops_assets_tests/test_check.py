"""What `make check` runs, each as a test of its own: format, lint, types, import contracts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.local import repository

CHECKS = ["ruff format --check .", "ruff check .", "mypy", "lint-imports"]


@pytest.mark.slow
@pytest.mark.parametrize("command", CHECKS)
def test_check(command):
    tool, *arguments = command.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(tool), *arguments],
        cwd=repository(),
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_these_are_the_checks_of_make():
    recipes = (repository() / "Makefile").read_text()
    check = recipes.partition("\ncheck:")[2].partition("\n\n")[0]
    assert [line.strip().removeprefix("$(BIN)/") for line in check.splitlines()[1:]] == CHECKS
