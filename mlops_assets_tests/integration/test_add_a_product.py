"""docs/add-a-product.md, followed word for word in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import pytest

from mlops_assets.components.periods import periods_of
from mlops_assets.local import repository
from mlops_assets_tests.components.test_periods import HOURS, MONTHS, WEEKS

PAGE = repository() / "docs" / "add-a-product.md"
PARTS = (
    "mlops_assets", "bentos", "mlops_assets_tests/__init__.py", "mlops_assets_tests/conftest.py",
    "mlops_assets_tests/defs", "pyproject.toml", "dagster.yaml", "workspace.yaml",
    "constraints.txt",
)  # fmt: skip
SERVES = "mlops serve"


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the walk-through, as (language, text)."""
    walk = PAGE.read_text().partition("\n## 6. ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", walk, re.MULTILINE | re.DOTALL)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A copy of the repository, without the products that others added to it."""
    return copy_repository(tmp_path)


def copy_repository(folder: Path) -> Path:
    """Copy what a product needs, to add another there."""
    for part in PARTS:
        source, target = repository() / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def environment(there: Path) -> dict[str, str]:
    """That of a person who stands in the copy, with the environment's commands on their path."""
    commands = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(there),
        "PYTHONWARNINGS": "ignore",
        "MLOPS_HOME": str(there / "home"),
        "DAGSTER_HOME": str(there / "home" / "dagster"),
        "NO_COLOR": "1",
        "COLUMNS": "150",
    }


def ran(command: str, there: Path) -> str:
    done = subprocess.run(
        ["bash", "-ec", command], cwd=there, env=environment(there), text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def edit(diff: str, there: Path) -> None:
    """Do what a diff of the page shows: each run of lines with - becomes those with +."""
    file, *lines = diff.splitlines()
    path = there / file.removeprefix("--- ")
    text = path.read_text()
    for old, new in re.findall(
        r"((?:^-.*\n)+)((?:^\+.*\n)+)", "\n".join(lines) + "\n", re.MULTILINE
    ):
        before, after = (re.sub(r"^[-+]", "", part, flags=re.MULTILINE) for part in (old, new))
        assert text.count(before) == 1, f"{before!r} is not in {path.name}:\n{text}"
        text = text.replace(before, after)
    path.write_text(text)


@contextmanager
def serving(command: str, there: Path) -> Iterator[None]:
    """The server, until the block ends; it is asked once it says how."""
    started = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=there, env=environment(there), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        said = []
        for line in started.stdout:
            said.append(line)
            if "Ctrl-C ends it" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield
    finally:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=60)


@pytest.mark.year
def test_the_page_is_followed_word_for_word(there):
    said, server = "", None
    try:
        for language, text in blocks():
            if language == "diff":
                edit(text, there)
            elif language == "text":
                flat = " ".join(said.split())
                for line in text.splitlines():
                    assert " ".join(line.split()) in flat, f"the page shows {line!r}, not\n{said}"
            elif text.startswith(SERVES):
                server = serving(text.strip(), there)
                server.__enter__()
            else:
                said = ran(text, there)
        ran("python -m pytest -q -p no:cacheprovider mlops_assets_tests/defs/test_rides.py", there)
    finally:
        if server is not None:
            server.__exit__(None, None, None)


DIGITS = """
import polars as pl
from sklearn.datasets import load_digits

found = load_digits()
words = "zero one two three four five six seven eight nine½".split()
pixels = pl.DataFrame(found.data.astype("int16"), schema=[f"pixel {i}" for i in range(64)])
shown = pixels.with_columns(pl.Series("digit", [words[i] for i in found.target]))
shown.with_row_index("select").write_parquet("digits.parquet")
"""
"""Images of handwritten digits that scikit-learn carries: ten classes, no clock, awkward names."""

NEW_DIGITS = (
    "mlops new digits --from digits.parquet --label digit --keys select --licence BSD-3-Clause"
)


@pytest.mark.year
def test_several_classes_without_a_clock_from_a_file_to_predictions(there):
    ran(f"python -c '{DIGITS}'", there)
    said = ran(NEW_DIGITS, there)
    assert "digits is a multiclass task" in said
    declared = there / "mlops_assets" / "defs" / "digits" / "defs.yaml"
    # The images are easy and few: near certainty is no leak, and a linear model is hard to beat.
    text = re.sub(r"  gates: .*", "  gates: {min_rows: 125, leak_auc: 1, min_gain_over_baseline: "
                  "-0.05}", declared.read_text())  # fmt: skip
    declared.write_text(re.sub(
        r"  training: .*", '  training: {first_cutoff: "2000-05-09", search: {trials: 1},'
        " families: [hist_gradient_boosting]}", text
    ))  # fmt: skip
    ran("dg check defs", there)
    ran("mlops demo digits", there)
    figures = json.loads(ran('mlops sql --json "select accuracy from digits.evaluation"', there))
    assert min(row["accuracy"] for row in figures) > 0.9
    said = json.loads(ran(
        'mlops sql --json "select predicted, probability, probabilities, classes'
        ' from digits.predictions limit 1"', there
    ))  # fmt: skip
    (row,) = said
    assert row["predicted"] == row["classes"][row["probabilities"].index(row["probability"])]


VISITS = """
from datetime import datetime, timedelta

import numpy as np
import polars as pl

days, a_day = {days}, {a_day}
rng = np.random.default_rng(1)
n = a_day * days
customer, spend = rng.integers(0, 40, n), rng.gamma(2, 20, n).round(2)
# What a plan makes of what is spent is nothing that a linear model sees.
slope = np.array([0.05, -0.05, 0.0])[customer % 3]
odds = -0.4 + 0.6 * rng.normal(size=40)[customer] + slope * (spend - 40)
start = datetime(2018, 1, 3)
at = [start + timedelta(days=i // a_day, minutes=i % a_day * 1440 // a_day) for i in range(n)]
pl.DataFrame(dict(
    at=at, customer=np.char.add("c", customer.astype(str)),
    plan=np.array(["basic", "plus", "pro"])[customer % 3], spend=spend,
    came=rng.random(n) < 1 / (1 + np.exp(-odds)),
)).write_csv("visits.csv")
"""
"""Generated visits of some customers, so many a day."""


def period(text: str) -> date:
    """As JSON has it."""
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


@pytest.mark.year
@pytest.mark.parametrize(
    ("partitioning", "days", "a_day", "calendar", "least"),
    [
        ("hourly", 50, 240, HOURS, 10), ("weekly", 3 * 365, 10, WEEKS, 70),
        ("monthly", 5 * 365, 10, MONTHS, 280),
    ],
)  # fmt: skip
def test_rows_in_other_periods_from_a_file_to_one_that_follows(
    there, partitioning, days, a_day, calendar, least
):
    script = there / "visits.py"
    script.write_text(VISITS.format(days=days, a_day=a_day))
    ran("python visits.py", there)
    ran(
        "mlops new visits --from visits.csv --label came --time at --keys customer,at"
        f" --licence CC0-1.0 --partitioning {partitioning}", there,
    )  # fmt: skip
    declared = there / "mlops_assets" / "defs" / "visits" / "defs.yaml"
    quick = ", families: [hist_gradient_boosting]}"
    text = re.sub(r"(  training: .*)}", rf"\1{quick}", declared.read_text())
    # A retraining that a gate refuses would end the command with status 1.
    declared.write_text(f'{text}  retraining: {{mode: "off"}}\n')
    ran("dg check defs", there)
    ran("mlops demo visits", there)
    asked = "select date, rows, labelled from visits.performance order by date"
    before = json.loads(ran(f'mlops sql --json "{asked}"', there))
    every = periods_of(calendar)
    come = [period(row["date"]) for row in before]
    assert come == [every.step(come[0], n) for n in range(len(come))]
    assert min(row["labelled"] for row in before) >= least
    ran("mlops advance visits", there)
    after = json.loads(ran(f'mlops sql --json "{asked}"', there))
    assert [period(row["date"]) for row in after] == [*come, every.step(come[-1])]
    assert json.loads(ran("mlops plan --json", there))["empty"]
