"""`mlops serve` on the lake of the whole flow: what it answers is what the batch path predicted."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.request_log import closed_segments, read_segment
from mlops_assets_tests.integration.conftest import TODAY

pytestmark = pytest.mark.slow

KEY = ["date", "carrier", "flight", "origin"]
READY_SECONDS = 120


@pytest.fixture(scope="module")
def served(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A copy of the settled home, and what `mlops serve` says on it; it ends as by Ctrl-C."""
    home = tmp_path_factory.mktemp("serve") / "home"
    shutil.copytree(settled, home, symlinks=True)
    log = home.parent / "serve.log"
    with log.open("w") as output:
        serve = subprocess.Popen(
            [Path(sys.executable).with_name("mlops"), "serve", "flight_delays", "--port", "0"],
            env=os.environ | {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + READY_SECONDS
        while "Ctrl-C" not in log.read_text():
            assert serve.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        children = psutil.Process(serve.pid).children(recursive=True)
        yield home, log.read_text()
        serve.send_signal(signal.SIGINT)
        assert serve.wait(timeout=60) == 0, log.read_text()
        assert not [child for child in children if child.is_running()]
    finally:
        serve.kill()
        serve.wait()


def asked(url: str, content: object) -> dict:
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_the_answers_are_what_the_batch_path_predicted(served):
    home, said = served
    url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
    lake = Lakehouse(home / "lake")
    schedule = lake.scan("nyc_flights/flight_schedule", first=TODAY, last=TODAY)
    predicted = lake.scan("flight_delays/predictions", first=TODAY, last=TODAY)
    rows = schedule.join(predicted, on=KEY).head(300).collect()
    departure = pl.col("scheduled_departure").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    requests = rows.select("carrier", "flight", "origin", "dest", departure).to_dicts()
    answers = asked(f"{url}/predict_batch", {"rows": requests})["predictions"]
    found = np.array([answer["probability"] for answer in answers])
    np.testing.assert_allclose(found, rows["probability"].to_numpy(), rtol=0, atol=1e-6)
    assert [answer["decision"] for answer in answers] == rows["decision"].to_list()
    assert found.std() > 0.02


def test_the_command_that_it_shows_works(served):
    _, said = served
    command = said[said.index("curl") : said.index("Ctrl-C")]
    done = subprocess.run(
        [*shlex.split(command), "--silent"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    # The example's day is not in this lake: what was not known is said.
    assert {"distance", "scheduled_minutes"} <= set(answer["missing"])


def test_a_product_without_a_champion_says_so(tmp_path):
    environment = os.environ | {"MLOPS_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path / "d")}
    done = subprocess.run(
        [Path(sys.executable).with_name("mlops"), "serve", "flight_delays", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "flight_delays has no champion" in done.stderr


def test_every_answer_is_in_the_log(served):
    home, _ = served
    end = time.monotonic() + 15
    rows = 0
    while rows < 301 and time.monotonic() < end:
        time.sleep(0.5)
        closed = closed_segments(home / "requests", "flight_delays")
        rows = sum(read_segment(path).records.height for path in closed)
    assert rows == 301
