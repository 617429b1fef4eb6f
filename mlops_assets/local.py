"""The local environment: where it lies, and the Dagster instance on it.

Everything is under `$MLOPS_HOME` (default `var` in the current folder): the lake, MLflow's
database and artifacts, Bentos, and Dagster's own storage in `$DAGSTER_HOME` (default
`$MLOPS_HOME/dagster`), which gets the repository's dagster.yaml.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def repository() -> Path:
    """The folder that holds dagster.yaml and workspace.yaml."""
    return Path(__file__).resolve().parent.parent


def prepare() -> Path:
    """Create the environment's folders and set its variables for this process and its children.

    Returns:
        The home folder.
    """
    home = Path(os.environ.setdefault("MLOPS_HOME", "var")).absolute()
    os.environ["MLOPS_HOME"] = str(home)
    dagster_home = Path(os.environ.setdefault("DAGSTER_HOME", str(home / "dagster"))).absolute()
    os.environ["DAGSTER_HOME"] = str(dagster_home)
    # OpenMP programs that spin for the same cores take many times as long; waiting ones sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    dagster_home.mkdir(parents=True, exist_ok=True)
    target = dagster_home / "dagster.yaml"
    if not target.exists():
        shutil.copyfile(repository() / "dagster.yaml", target)
    return home
