"""The local environment: where it lies, and the Dagster instance on it.

Everything is under `$MLOPS_HOME` (default `var` in the current folder): the lake, MLflow's
database and artifacts, Bentos, and Dagster's own storage in `$DAGSTER_HOME` (default
`$MLOPS_HOME/dagster`), which gets the repository's dagster.yaml.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EnvironmentBusy(RuntimeError):
    """Another process does what is due in this environment."""


def repository() -> Path:
    """The folder that holds dagster.yaml and workspace.yaml."""
    return Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder of the local environment: `$MLOPS_HOME`, or `var` in the current folder."""
    return Path(os.environ.get("MLOPS_HOME", "var")).absolute()


def lake_uri() -> str:
    """Where the lake is: `$MLOPS_LAKE_URI`, or a folder of the local environment."""
    return os.environ.get("MLOPS_LAKE_URI", str(home() / "lake"))


def online_store_uri() -> str:
    """Where servers read features: `$MLOPS_ONLINE_STORE`, or a folder of the local environment."""
    return os.environ.get("MLOPS_ONLINE_STORE", f"lmdb://{home() / 'online'}")


def request_log_folder() -> Path:
    """Where servers log requests: `$MLOPS_REQUEST_LOG`, or a folder of the local environment."""
    return Path(os.environ.get("MLOPS_REQUEST_LOG", home() / "requests")).absolute()


def prepare(more_settings: str = "") -> Path:
    """Create the environment's folders and set its variables for this process and its children.

    Args:
        more_settings: of the instance, as YAML, beside those of the repository's dagster.yaml.

    Returns:
        The home folder.
    """
    folder = home()
    os.environ["MLOPS_HOME"] = str(folder)
    dagster_home = Path(os.environ.get("DAGSTER_HOME", folder / "dagster")).absolute()
    os.environ["DAGSTER_HOME"] = str(dagster_home)
    # OpenMP programs that spin for the same cores take many times as long; waiting ones sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The partitions that a run plans are stored together before it begins, not one by one.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")
    dagster_home.mkdir(parents=True, exist_ok=True)
    target = dagster_home / "dagster.yaml"
    if not target.exists():
        # By one rename: a process that is killed halfway must not leave half of the settings.
        unfinished = dagster_home / f"dagster.yaml.{os.getpid()}"
        unfinished.write_text((repository() / "dagster.yaml").read_text() + more_settings)
        unfinished.replace(target)
    return folder


@contextmanager
def only_engine(folder: Path, command: str) -> Iterator[None]:
    """Be the one process that does what is due in this environment, while the block runs.

    Two would do the same work twice. The lock ends with its process, however that ends.

    Raises:
        EnvironmentBusy: naming the command and process that holds it.
    """
    with (folder / "engine.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise EnvironmentBusy(
                f"{file.read().strip() or 'another process'} is at work in {folder} and does what"
                " is due there; wait for it or stop it, or set MLOPS_HOME to another folder"
            ) from None
        file.truncate(0)
        file.write(f"mlops {command} (process {os.getpid()})")
        file.flush()
        yield
