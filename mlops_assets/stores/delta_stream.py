"""Many frames as one commit to a table of days, with one frame at a time in memory.

deltalake's own writer keeps a file open for each partition until the last row has come: ten million
rows over a year of days hold 2.4 GB. Here each day of a frame becomes a file as soon as the frame
is there, and one commit names them all. A file that no commit names is not part of the table, so a
writer that is killed, or a frame that cannot be made, changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import polars as pl

from mlops_assets.stores.delta_writes import (
    CONFIGURATION,
    Commit,
    create_empty,
    fitted,
    properties,
    refuse_again,
)

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, Schema

# Appends do not conflict: one that comes second takes the next version.
_COMMIT_RETRIES = 200

_File = tuple[str, str, int]  # path below the table, day, rows


def append_frames(
    location: str,
    storage_options: dict[str, str],
    frames: Iterable[pl.DataFrame],
    commit: Commit,
    by: str,
) -> int | None:
    """Add the rows of all frames in one commit, creating the table if need be.

    Args:
        location: folder or URI of the table.
        storage_options: of the object store.
        frames: read once, none of them kept.
        commit: why; its transactions are read when all frames have come.
        by: the table's partition column, a date.

    Returns:
        A version that holds the rows; None where no frame has a row, and nothing is written.

    Raises:
        TypeError: naming a column whose type is not the table's, or another frame's, or none that
            Delta can hold; or `by`, if it holds no dates.
        ValueError: if the table is partitioned by another column, or a row has no date.
        AlreadyCommitted: if the table has one of the commit's transactions.
    """
    table = _table(location, storage_options)
    if table is not None and (found := table.metadata().partition_columns) != [by]:
        raise ValueError(f"{location} is partitioned by {found or 'nothing'}, not {by!r}")
    schema = pl.Schema() if table is None else pl.scan_delta(table).collect_schema()
    files = list[_File]()
    for frame in frames:
        if frame.height:
            part = _checked(location, frame, schema, by)
            schema = pl.Schema(schema | part.schema)
            files += _write(location, storage_options, part, by)
    if not files:
        return None
    return _commit(location, storage_options, files, schema, commit, by)


def _table(location: str, storage_options: dict[str, str]) -> DeltaTable | None:
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(location, storage_options):
        return None
    return DeltaTable(location, storage_options=storage_options)


def _checked(location: str, frame: pl.DataFrame, schema: pl.Schema, by: str) -> pl.DataFrame:
    """The frame in the table's types; what is wrong with it is said of the table."""
    try:
        if frame.schema[by] != pl.Date:
            raise TypeError(f"column {by!r} is {frame.schema[by]}; it must hold dates")
        if empty := frame[by].null_count():
            raise ValueError(f"{by!r} is null in {empty} rows; each row needs its partition")
        return fitted(frame, schema)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{location}: {error}") from None


def _write(
    location: str, storage_options: dict[str, str], frame: pl.DataFrame, by: str
) -> Iterator[_File]:
    """Put each day of the frame into a file of its own."""
    days: dict[Any, pl.DataFrame] = frame.partition_by(by, as_dict=True, include_key=False)
    for (day,), rows in days.items():
        path = f"{by}={day}/part-{uuid4()}.zstd.parquet"
        rows.write_parquet(f"{location}/{path}", mkdir=True, storage_options=storage_options)
        yield path, str(day), rows.height


def _commit(
    location: str,
    storage_options: dict[str, str],
    files: list[_File],
    schema: pl.Schema,
    commit: Commit,
    by: str,
) -> int:
    from deltalake.exceptions import CommitFailedError, DeltaError
    from deltalake.fs import DeltaStorageHandler
    from deltalake.transaction import AddAction, create_table_with_add_actions

    sizes = DeltaStorageHandler(location, storage_options).get_file_info([f[0] for f in files])
    now = int(time.time() * 1000)
    actions: list[Any] = [
        AddAction(path, info.size, {by: day}, now, True, json.dumps({"numRecords": rows}))
        for (path, day, rows), info in zip(files, sizes, strict=True)
    ]
    why = _properties(commit, sum(rows for *_, rows in files))
    if commit.transactions:
        create_empty(location, storage_options, pl.DataFrame(schema=schema), by)
    elif _table(location, storage_options) is None:
        try:
            create_table_with_add_actions(
                location, _delta_schema(schema), actions, partition_by=[by],
                configuration=CONFIGURATION, storage_options=storage_options,
                commit_properties=why,
            )  # fmt: skip
        except DeltaError as error:
            # Another writer may have created the table first.
            if "already exists" not in str(error):
                raise
        else:
            return 0
    table = _table(location, storage_options)
    assert table is not None
    there = pl.scan_delta(table).collect_schema()
    if new := {name: dtype for name, dtype in schema.items() if name not in there}:
        table.alter.add_columns(_delta_schema(pl.Schema(new)).fields)
    refuse_again(table, commit)
    try:
        table.create_write_transaction(
            actions, "append", table.schema(), [by], commit_properties=why
        )
    except CommitFailedError:
        table.update_incremental()
        refuse_again(table, commit)
        raise
    table.update_incremental()
    return table.version()


def _delta_schema(schema: pl.Schema) -> Schema:
    from deltalake import Schema

    return Schema.from_arrow(pl.DataFrame(schema=schema).to_arrow().schema)


def _properties(commit: Commit, rows: int) -> CommitProperties:
    why = properties(commit)
    # deltalake counts the rows of its own writes only.
    why.custom_metadata = (why.custom_metadata or {}) | {
        "operationMetrics": {"num_added_rows": rows}
    }
    why.max_commit_retries = _COMMIT_RETRIES
    return why
