"""Two commands on one home, and what a killed one leaves lying about: nothing of it blocks.

The home on which two meet has lost Dagster's store, so that all of it is made again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.mlflow_client import client
from mlops_assets_tests.integration import small_demo
from mlops_assets_tests.integration.audit import audit, differences
from mlops_assets_tests.integration.conftest import copy_home, opened

# There is a champion by then, which has a row beside the candidate's.
JUDGED_AGAIN = ["flight_delays/evaluation"]


@pytest.fixture(scope="module")
def rivals(tmp_path_factory, settled):
    """A home without Dagster's store, what the second demo on it said, and the first's status."""
    home = copy_home(settled, tmp_path_factory.mktemp("rivals") / "home")
    shutil.rmtree(home / "dagster")
    command, environment = small_demo.command("demo"), small_demo.environment(home)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as first:
        assert first.stdout.readline().startswith(small_demo.BEGINS)
        second = small_demo.run(home, "demo")
        said, _ = first.communicate(timeout=600)
    assert first.returncode == 0, said[-3000:]
    return home, first.pid, second


@pytest.mark.slow
def test_the_second_demo_says_who_is_at_work_and_the_first_completes(rivals, settled):
    home, first, second = rivals
    assert second.returncode == 1
    assert f"mlops demo (process {first}) is at work in {home}" in second.stdout
    assert "wait for it or stop it, or set MLOPS_HOME" in second.stdout
    assert small_demo.BEGINS not in second.stdout
    assert audit(home) == []
    assert differences(home, settled, but=JUDGED_AGAIN) == []


@pytest.mark.slow
def test_without_dagsters_store_all_is_made_again_and_nothing_lost_or_doubled(rivals, settled):
    home, *_ = rivals
    ours, before = Lakehouse(home / "lake"), Lakehouse(settled / "lake")
    for name in ("predictions", "performance", "feature_view", "training_set"):
        table = f"flight_delays/{name}"
        again, then = ours.scan(table).collect(), before.scan(table).collect()
        assert_frame_equal(again, then, check_row_order=False)
    with opened(home) as flow:
        assert flow.registry.champion(flow.product.name).version == 1
        assert flow.engine.settle().runs == []


HOLDS = """
import sys, time
from pathlib import Path
from mlops_assets.stores.mlflow_client import exclusive
with exclusive(sys.argv[1], "create"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_does_not_hold_up_mlflow(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    held = subprocess.Popen([sys.executable, "-c", HOLDS, uri], stdout=subprocess.PIPE, text=True)
    with held:
        assert held.stdout.readline() == "held\n"
        held.send_signal(signal.SIGKILL)
        held.wait()
    name = sha256(f"{uri} create".encode()).hexdigest()[:16]
    assert (Path(tempfile.gettempdir()) / f"mlops-assets-{os.getuid()}-{name}.lock").exists()
    started = time.monotonic()
    assert client(uri).search_registered_models() == []
    assert time.monotonic() - started < 60


CREATES = """
import sys
from mlops_assets.stores.mlflow_client import client
client(sys.argv[1])
"""


@pytest.mark.slow
def test_mlflows_database_is_there_whole_or_not_at_all(tmp_path):
    """MLflow cannot open one that has half of its tables."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", CREATES, uri]) as creating:
        while not any(file.stat().st_size > 50_000 for file in tmp_path.iterdir()):
            assert creating.poll() is None
            time.sleep(0.001)
        creating.kill()
    assert not (tmp_path / "mlflow.db").exists()
    assert client(uri).search_registered_models() == []
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


SERVES = """
import signal
import sys
import subprocess
import time
from mlops_assets.stores.bound_process import bound
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # As a program may do that starts others.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
child = subprocess.Popen(bound([sys.executable, "-c", "import time; time.sleep(600)"]))
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_bound_process_ends_when_its_parent_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", SERVES], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.5)
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert psutil.wait_procs([child], timeout=30)[1] == []
