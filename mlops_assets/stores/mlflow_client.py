"""The MLflow client, quietly: no telemetry and no chatter; one process at a time creates tables.

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
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_CHATTY = ("alembic", "mlflow.store.db.utils")
_importing = threading.Lock()


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
    """
    import_mlflow()
    from mlflow import MlflowClient

    with exclusive(tracking_uri, "create"):
        made = MlflowClient(tracking_uri, tracking_uri)
        # Both stores create their tables at first use, and must not do so in two processes.
        made.search_registered_models(max_results=1)
        return made


@contextmanager
def exclusive(tracking_uri: str, purpose: str) -> Iterator[None]:
    """Let one process of this machine at a time do `purpose` on `tracking_uri`; not reentrant."""
    name = sha256(f"{tracking_uri} {purpose}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"mlops-assets-{os.getuid()}-{name}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
