"""The MLflow client, quietly: no telemetry and no chatter; one process at a time creates tables.

A database that another process has locked, or that was removed or replaced while this process had
it open, is an error that names it and says what to do.

MLflow is imported at first use (2 to 3 s). What it warns of while it is imported is about its own
code, so those warnings are not shown; warnings of its calls are.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_CHATTY = ("alembic", "mlflow.store.db.utils")
_LOCKED = "database is locked"
_importing = threading.Lock()


class DatabaseUnavailable(RuntimeError):
    """MLflow's database is locked, or no longer the one that this process opened."""


def import_mlflow() -> None:
    """Import MLflow with what this package uses of it; later imports find it loaded."""
    with _importing:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow.pyfunc
            import mlflow.store.model_registry.sqlalchemy_store
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@cache
def client(tracking_uri: str) -> MlflowClient:
    """Return the client of `tracking_uri`, for runs and for the registry; one a process.

    A database that does not exist yet is created: "sqlite:////var/mlflow.db" or PostgreSQL.

    Raises:
        DatabaseUnavailable: here and by each call of the client.
    """
    import_mlflow()
    from mlflow import MlflowClient

    with exclusive(tracking_uri, "create"), _explained(tracking_uri):
        _create_whole(tracking_uri)
        made = MlflowClient(tracking_uri, tracking_uri)
        # Both stores create their tables at first use, and must not do so in two processes.
        made.search_registered_models(max_results=1)
        return cast("MlflowClient", _Explaining(made, tracking_uri))


def _create_whole(tracking_uri: str) -> None:
    """Create a SQLite database beside its place, and move it there when all tables are in it.

    It takes seconds, and MLflow cannot go on where a killed process left half of its tables.
    """
    from mlflow import MlflowClient

    path = _file(tracking_uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.with_name(f"{unfinished.name}-journal").unlink(missing_ok=True)
    beside = f"sqlite:///{unfinished}"
    MlflowClient(beside, beside).search_registered_models(max_results=1)
    unfinished.replace(path)


class _Explaining:
    """MLflow's client, whose calls say what to do where the database cannot be had."""

    def __init__(self, client: MlflowClient, tracking_uri: str) -> None:
        self._client = client
        self._uri = tracking_uri
        self._opened = _identity(tracking_uri)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @wraps(found)
        def call(*args: Any, **options: Any) -> Any:
            if _identity(self._uri) != self._opened:
                raise DatabaseUnavailable(
                    f"{_file(self._uri)} was removed or replaced while this process had it open;"
                    " what it writes now would be lost. Put the file back if it should be there,"
                    " and start the process again."
                )
            with _explained(self._uri):
                return found(*args, **options)

        return call


@contextmanager
def _explained(tracking_uri: str) -> Iterator[None]:
    """Say what to do where the database is locked for longer than MLflow waits (20 s)."""
    try:
        yield
    except Exception as error:
        if _LOCKED not in str(error):
            raise
        where = _file(tracking_uri) or tracking_uri
        raise DatabaseUnavailable(
            f"MLflow's database {where} is locked by another process. Wait until that is done, or"
            f" end it (`fuser {where}` names it), then run again; nothing was written."
        ) from error


def _file(tracking_uri: str) -> Path | None:
    """The file of a SQLite database, None for a server or another database."""
    scheme, _, path = tracking_uri.partition(":///")
    return Path(path) if scheme == "sqlite" and path else None


def _identity(tracking_uri: str) -> tuple[int, int] | None:
    """Which file it is: device and inode; None where there is none."""
    path = _file(tracking_uri)
    try:
        found = path.stat() if path else None
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if found else None


@contextmanager
def exclusive(tracking_uri: str, purpose: str) -> Iterator[None]:
    """Let one process of this machine at a time do `purpose` on `tracking_uri`; not reentrant."""
    name = sha256(f"{tracking_uri} {purpose}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"mlops-assets-{os.getuid()}-{name}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
