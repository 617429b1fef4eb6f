"""The lake from a notebook or a script: `mlops_assets.read("flight_delays/predictions")`."""

from __future__ import annotations

import polars as pl

from mlops_assets.local import lake_uri
from mlops_assets.stores.lakehouse import Lakehouse


def local_lakehouse() -> Lakehouse:
    """The lakehouse that the environment's variables name: `MLOPS_LAKE_URI`, or `MLOPS_HOME`."""
    return Lakehouse(lake_uri())


def read(table: str, version: int | None = None) -> pl.LazyFrame:
    """A table of the lake as a polars LazyFrame.

    Args:
        table: its name, "domain/table".
        version: a Delta version, for time travel; None for the newest.

    Raises:
        TableNotFound: listing the tables there are.
    """
    return local_lakehouse().scan(table, version=version)
