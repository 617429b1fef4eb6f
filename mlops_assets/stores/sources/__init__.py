"""Tables that are somewhere else: a CSV or Parquet file, a Delta folder, a table of a database.

`open_source` gives one small object, whatever the kind: it reads the rows of the local days that
are asked for and nothing more, in the types of a contract. Nothing is read before it is asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlops_assets.stores.source_files import SourceError
from mlops_assets.stores.sources.base import BLOCKS, FIRST_BLOCK, Source
from mlops_assets.stores.sources.databases import DatabaseSource
from mlops_assets.stores.sources.files import CsvSource, DeltaSource, ParquetSource

__all__ = ["BLOCKS", "FIRST_BLOCK", "Source", "SourceError", "open_source"]


def open_source(
    uri: str,
    *,
    table: str = "",
    time: str = "",
    zone: str = "UTC",
    keys: Sequence[str] = (),
    row: str = "",
    blocks: int = BLOCKS,
    names: Mapping[str, str] | None = None,
) -> Source:
    """The source behind a path or a database's address; nothing is read yet.

    Args:
        uri: `table.csv`, `table.parquet`, a folder of a Delta table, `sqlite:///file.db` or
            `postgresql://user@host/database`; `$NAME` stands for an environment variable.
            A database's password comes from the environment (PGPASSWORD, or `$NAME`).
        table: name of a database's table, `schema.table` where it takes one.
        time: column that says when a row is; without it the rows are spread over `blocks` days.
        zone: time zone of the local days, and of times that name none.
        keys: columns by which a row without a time gets its day.
        row: name of a column that numbers the rows, where none of a file's columns identify one.
        blocks: days over which rows without a time are spread, from 2000-01-01.
        names: column as it is to be called, to its name in the source.

    Raises:
        SourceError: when it is none of these.
    """
    said = {
        "uri": uri, "table": table, "time": time, "zone": zone, "keys": tuple(keys), "row": row,
        "blocks": blocks, "names": dict(names or {}),
    }  # fmt: skip
    kind = _kind(os.path.expandvars(uri))
    if row and kind is DatabaseSource:
        raise SourceError("rows of a database have no order to number them by; declare keys=")
    return kind(**said)  # type: ignore[arg-type]


def _kind(uri: str) -> type[Source]:
    if uri.startswith(("sqlite:", "postgresql:", "postgresql+")):
        return DatabaseSource
    if "://" in uri and not uri.startswith(("s3://", "gs://", "az://", "abfss://", "file://")):
        raise SourceError(
            f"{uri.partition('://')[0]}:// is no source that can be read; there are CSV, Parquet"
            " and Delta files, sqlite:/// and postgresql://"
        )
    if uri.endswith((".csv", ".tsv")):
        return CsvSource
    if uri.endswith((".parquet", ".pq")):
        return ParquetSource
    if "://" in uri or (Path(uri) / "_delta_log").is_dir():
        return DeltaSource
    there = "is a folder without _delta_log" if Path(uri).is_dir() else "is no known kind of file"
    if not Path(uri).exists():
        there = "is not there"
    raise SourceError(
        f"{uri}: {there}; give a .csv or .parquet file, the folder of a Delta table, or the address"
        " of a database as in sqlite:///file.db"
    )
