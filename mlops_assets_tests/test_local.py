"""The local environment: its folders, and that one process at a time works in it."""

import os
import signal
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

from mlops_assets.components.backtest import _NO_COMPUTE_LOGS
from mlops_assets.components.event_log import LocalEventLog
from mlops_assets.local import EnvironmentBusy, only_engine, prepare

HOLD = """
import sys, time
from pathlib import Path
from mlops_assets.local import only_engine
with only_engine(Path(sys.argv[1]), "demo"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_prepare_makes_the_folders_and_brings_the_instance(tmp_path, monkeypatch):
    for name in ("DAGSTER_HOME", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))

    assert prepare(_NO_COMPUTE_LOGS) == tmp_path / "home"

    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "home" / "dagster")
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, LocalEventLog)
        assert isinstance(instance.compute_log_manager, NoOpComputeLogManager)


def test_a_second_process_is_told_who_is_at_work_until_that_one_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        named = rf"mlops demo \(process {holder.pid}\) is at work"
        with pytest.raises(EnvironmentBusy, match=named), only_engine(tmp_path, "advance"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with only_engine(tmp_path, "advance"):
        pass
