"""A real daemon that hangs: `mlops doctor` says so, and `mlops ui` ends with an error."""

import signal
import time

import psutil
import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets_tests.integration.served import served

pytestmark = pytest.mark.slow

LIMIT, WATCHDOG = 20, 45


def doctor(check: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", "--only", check, "--limit", str(LIMIT)])
    return result.exit_code, result.output


@pytest.mark.year
def test_a_daemon_that_hangs_is_noticed_from_outside(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("MLOPS_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    with served(home, "--watchdog", str(WATCHDOG), status=1) as ui:
        deadline = time.monotonic() + 90
        while doctor("automation")[0] or doctor("daemon")[0]:
            assert time.monotonic() < deadline, doctor("automation")
            time.sleep(1)
        (daemon,) = [p for p in ui.processes if "dagster._daemon" in " ".join(p.cmdline())]
        daemon.send_signal(signal.SIGSTOP)

        deadline = time.monotonic() + LIMIT + 20
        while (found := doctor("automation"))[0] == 0:
            assert time.monotonic() < deadline, found
            time.sleep(1)
        assert "last good look" in found[1]

        deadline = time.monotonic() + WATCHDOG + 60
        while ui.processes[0].status() != psutil.STATUS_ZOMBIE:  # ended; its status is read below
            assert time.monotonic() < deadline, "mlops ui did not end"
            time.sleep(0.5)
    said = " ".join((tmp_path / "home-ui.log").read_text().split())
    assert "automation has not evaluated the graph for" in said
    assert not [p for p in ui.processes if p.is_running()]
