"""The lake from a notebook or a script: `mlops_assets.read("flight_delays/predictions")`."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from mlops_assets.stores.lakehouse import Lakehouse


def local_lakehouse() -> Lakehouse:
    """The lakehouse that the environment's variables name: `MLOPS_LAKE_URI`, or `MLOPS_HOME`."""
    folder = Path(os.environ.get("MLOPS_HOME", "var")).absolute()
    return Lakehouse(os.environ.get("MLOPS_LAKE_URI", str(folder / "lake")))


def read(table: str, version: int | None = None) -> pl.LazyFrame:
    """A table of the lake as a polars LazyFrame.

    Args:
        table: its name, "domain/table".
        version: a Delta version, for time travel; None for the newest.

    Raises:
        TableNotFound: listing the tables there are.
    """
    return local_lakehouse().scan(table, version=version)
