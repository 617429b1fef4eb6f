"""`mlops ui`: the Dagster UI with its daemon, and MLflow, on the local lake; loopback only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Annotated

import typer

from mlops_assets.cli.console import err, out
from mlops_assets.local import prepare, repository

HOST = "127.0.0.1"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(ui)


def ui(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
) -> None:
    """Serve the Dagster UI (with its daemon) and MLflow until Ctrl-C.

        mlops ui --port 3001
    """
    home = prepare()
    os.environ["MLOPS_MLFLOW_UI"] = f"http://{HOST}:{mlflow_port}"
    commands = {
        "Dagster": [
            sys.executable, "-m", "dagster_dg_cli.cli", "dev", "--host", HOST, "--port", str(port),
        ],
        "MLflow": [
            sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(mlflow_port),
            "--workers", "1",
            "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
            "--default-artifact-root", str(home / "artifacts"),
        ],
    }  # fmt: skip
    out.print(f"Dagster  http://{HOST}:{port}\nMLflow   http://{HOST}:{mlflow_port}\n")
    out.print("Ctrl-C stops both.")
    # Each in its own process group, so that one signal reaches all that it started.
    servers = {
        name: subprocess.Popen(command, cwd=repository(), start_new_session=True)
        for name, command in commands.items()
    }
    try:
        _wait(servers)
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers.values():
            _stop(server)


def _wait(servers: dict[str, subprocess.Popen[bytes]]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while True:
        for name, server in servers.items():
            if server.poll() is not None:
                err.print(f"[red]{name} ended with status {server.returncode}; is its port free?[/]")
                raise typer.Exit(1)
        time.sleep(0.5)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)
    try:
        server.wait(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
