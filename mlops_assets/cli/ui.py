"""`mlops ui`: the Dagster UI with its daemon, and MLflow, on the local lake; loopback only."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import dagster as dg
import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out
from mlops_assets.cli.processes import HOST, ProcessError, Processes, require_free
from mlops_assets.components.watchdog import LIMIT_SECONDS, AutomationStopped, Watchdog
from mlops_assets.local import EnvironmentBusy, only_engine, prepare, repository

READY_SECONDS = 90.0
WATCHDOG_SECONDS = 5.0
"""Between two looks of the watchdog."""
PYTHON = [sys.executable, "-m"]
_MODULE, _LOCATION = "mlops_assets.definitions", "mlops_assets"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(ui)


def ui(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
    daemon: Annotated[
        bool, typer.Option(help="Also run what is due: automation, schedules, queued runs.")
    ] = True,
    watchdog: Annotated[
        int, typer.Option(help="Seconds of silence after which automation has stopped; 0: never.")
    ] = LIMIT_SECONDS,
) -> None:
    """Serve the Dagster UI with its daemon, and MLflow, until Ctrl-C.

    mlops ui
    mlops ui --port 3001 --mlflow-port 5001
    mlops ui --no-daemon
    """
    started = time.perf_counter()
    home = prepare()
    try:
        _require_ports(port, mlflow_port)
        _end_on_signals()
        with (
            tempfile.TemporaryDirectory(prefix="mlops-ui-") as scratch,
            Processes(home / "logs") as processes,
            only_engine(home, "ui") if daemon else nullcontext(),
        ):
            mlflow = _start_mlflow(processes, home, mlflow_port)
            os.environ["MLOPS_MLFLOW_UI"] = mlflow
            os.environ.setdefault("MLOPS_DAGSTER_UI", f"http://{HOST}:{port}")
            _start_dagster(processes, Path(scratch), port, daemon)
            processes.wait_for_answer("mlflow", f"{mlflow}/health", READY_SECONDS)
            seconds = time.perf_counter() - started
            out.print(f"Dagster  http://{HOST}:{port}")
            out.print(f"MLflow   {mlflow}  (choose Model training, top left)")
            out.print(
                f"Ready after {seconds:.1f} s; logs are in {home / 'logs'}. Ctrl-C stops both."
            )
            processes.watch(_watchdog(watchdog) if daemon and watchdog else None)
    except (ProcessError, EnvironmentBusy, AutomationStopped) as error:
        err.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        out.print("Stopped.")


def _watchdog(limit: int) -> Callable[[], None]:
    """Look from here whether automation goes on: what watches the daemon must not be in it.

    When it does not, this command ends with an error and takes all its processes along. Starting
    the daemon anew would hide why it stopped; whoever runs this unattended has a supervisor that
    restarts it, and a log.
    """
    dog = Watchdog(dg.DagsterInstance.get(), limit)
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked >= WATCHDOG_SECONDS:
            looked = time.monotonic()
            dog.look()

    return look


def _end_on_signals() -> None:
    """Let each signal that asks for an end raise KeyboardInterrupt.

    A shell starts a background command with Ctrl-C ignored, which must not hold here; a hang-up
    stays ignored where `nohup` asks for that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _require_ports(port: int, mlflow_port: int) -> None:
    if port == mlflow_port:
        raise ProcessError(f"--port and --mlflow-port are both {port}; choose two ports")
    require_free(port, "the Dagster UI", "--port")
    require_free(mlflow_port, "MLflow", "--mlflow-port")


def _start_mlflow(processes: Processes, home: Path, port: int) -> str:
    """Serve the database that the registry writes to; return the address.

    Where `MLFLOW_TRACKING_URI` names a server, that is the one, and none is started.
    """
    tracking = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    if tracking.startswith("http"):
        return tracking.rstrip("/")
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    _create_database(tracking)
    processes.start(
        "mlflow",
        [
            *PYTHON, "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
            "--backend-store-uri", tracking, "--default-artifact-root", str(home / "artifacts"),
        ],
        repository(),
    )  # fmt: skip
    return f"http://{HOST}:{port}"


def _start_dagster(processes: Processes, scratch: Path, port: int, daemon: bool) -> None:
    """Start the code server, the webserver and the daemon, and wait until the UI answers."""
    # One code server for the webserver and the daemon, on a socket: no port, half the memory.
    code, workspace = scratch / "code.sock", scratch / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server: {{socket: {code}, location_name: {_LOCATION}}}\n"
    )
    processes.start(
        "code-server",
        [
            *PYTHON, "dagster", "code-server", "start", "--socket", str(code),
            "--module-name", _MODULE, "--location-name", _LOCATION, "--log-level", "warning",
        ],
        repository(),
    )  # fmt: skip
    processes.wait_for_file("code-server", code, READY_SECONDS)
    target = ["-w", str(workspace)]
    processes.start(
        "webserver",
        [*PYTHON, "dagster_webserver", "--host", HOST, "--port", str(port), *target],
        repository(),
    )
    if daemon:
        processes.start("daemon", [*PYTHON, "dagster._daemon", "run", *target], repository())
    processes.wait_for_answer("webserver", f"http://{HOST}:{port}/server_info", READY_SECONDS)


def _create_database(tracking: str) -> None:
    """Create MLflow's tables before two processes would do so at once."""
    path = tracking.removeprefix("sqlite:///")
    if path != tracking and not Path(path).exists():
        from mlops_assets.stores.mlflow_client import client

        client(tracking)
