"""The benchmarks at a small size: each contender runs, and all get the same result. No seconds."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import Book, _same
from benchmarks.measure import Case, Measured
from mlops_assets.local import repository

CONTENDERS = {
    "join": {"ours", "polars", "DuckDB", "pandas"},
    "delta": {"ours", "deltalake"},
    "training": {"ours", "library"},
    "scoring": {"ours", "predict", "by hand"},
    "drift": {"ours", "scipy", "Evidently"},
    "serving": {"ours", "by hand", "ours, unseen rows", "FastAPI", "BentoML default", "mlflow"},
}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["join", "delta"], marks=pytest.mark.slow),
        pytest.param(["training", "scoring", "drift", "serving"], marks=pytest.mark.year),
    ],
    ids=" ".join,
)
def test_each_contender_runs_and_all_get_the_same_result(tmp_path, names):
    command = [sys.executable, "-m", "benchmarks", "--quick", *names]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [*command, "--json", str(figures)], capture_output=True, text=True, cwd=repository()
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    rows = json.loads(figures.read_text())["rows"]
    assert {row["benchmark"].split()[0] for row in rows} == set(names)
    for row in rows:
        measured = row["figures"]
        assert measured.keys() == CONTENDERS[row["benchmark"].split()[0]]
        assert all(m["seconds"] and m["peak_mb"] > 50 and m["checksum"] for m in measured.values())
        assert row["same"] is True


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("abc", "abc", True),
        ("abc", "abd", False),
        ([0.1, 2.0], [0.1 + 1e-8, 2.0], True),
        ([0.1, 2.0], [0.1, 2.001], False),
        ("abc", None, None),
    ],
)
def test_a_result_that_differs_is_seen(one, other, same):
    found = {"ours": Measured(checksum=one), "rival": Measured(checksum=other)}
    assert _same(found) is same


def test_an_unknown_name_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "joins"],
        capture_output=True,
        text=True,
        cwd=repository(),
    )
    assert done.returncode == 2
    assert "no benchmark joins; there are join, delta" in done.stderr


def test_a_row_that_stands_in_the_file_is_not_measured_again(tmp_path):
    file, case = tmp_path / "rows.json", Case("join", "21k rows", ())
    found = {
        "ours": Measured([1.5, 1.4], [2.5, 2.4], 300, [0.25, 1.0], {"sort": 0.5}),
        "rival": Measured(note="would need 5 GB, 3 are free"),
    }
    Book(file, quick=True).add(case, found)
    assert Book(file, quick=True).get(case) == found
    assert Book(file, quick=True).get(Case("join", "0.34M rows", ())) is None
    with pytest.raises(SystemExit, match="holds rows of quick size: name another file"):
        Book(file, quick=False)
