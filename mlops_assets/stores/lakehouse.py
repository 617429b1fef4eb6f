"""The lakehouse: named Delta tables under one folder or bucket, read and written as polars frames.

A table's name is a path of lower-case words, "nyc_flights/flight_events". Each write is one atomic
commit that says why it happened; earlier versions stay readable. Columns may be added, and old rows
read null there; a column's type never changes. Dates name partitions in ISO form, times are UTC.

Writers to different partitions of a table may run at once, in any process. What a frame's types
become in a table is in dtypes.py, what its content is as a hash in content.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mlops_assets.ml.periods import HOUR_NAME, Periods, day_of, named
from mlops_assets.stores.content import partition_keys
from mlops_assets.stores.delta_stream import append_frames
from mlops_assets.stores.delta_writes import (
    AlreadyCommitted,
    Commit,
    Write,
    WriteConflict,
    partition_predicate,
    write,
)
from mlops_assets.stores.dtypes import UTC_TIME, plain_type
from mlops_assets.stores.probe import UnsafeStore, require_put_if_absent

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = [
    "AlreadyCommitted",
    "Commit",
    "Lakehouse",
    "TableNotFound",
    "UnsafeStore",
    "WriteConflict",
]

_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*")
_HISTORY = {
    "version": pl.Int64,
    "timestamp": pl.Int64,
    "operation": pl.String,
    "run_id": pl.String,
    "rows": pl.Int64,
    "note": pl.String,
}


class TableNotFound(LookupError):
    """There is no such table, or no such version of it."""


class Lakehouse:
    """Delta tables under `uri`: a local folder, or an object store such as "s3://bucket/lake".

    `storage_options` go to the object store as deltalake names them (AWS_ENDPOINT_URL and so on).
    """

    def __init__(self, uri: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = str(uri).rstrip("/")
        self.storage_options = dict(storage_options or {})
        self._is_safe = False

    # --- what is there -----------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Return the names of all tables, sorted."""
        from mlops_assets.stores.listing import table_names

        # A writer that is killed while it creates a table leaves a log without a commit.
        found = table_names(self.uri, self.storage_options)
        return [name for name in found if self.exists(name)]

    def exists(self, table: str) -> bool:
        """Return whether `table` has been written."""
        from deltalake import DeltaTable

        return DeltaTable.is_deltatable(self.location(table), self.storage_options)

    def location(self, table: str) -> str:
        """Return the folder or URI of `table`.

        Raises:
            ValueError: if the name is not made of lower-case words.
        """
        if not _NAME.fullmatch(table):
            raise ValueError(
                f"{table!r} is no table name: use lower-case letters, digits and _, with / between "
                "folders, as in nyc_flights/flight_events"
            )
        return f"{self.uri}/{table}"

    def version(self, table: str) -> int:
        """Return the number of the table's newest version, from 0."""
        return self.delta(table).version()

    def schema(self, table: str) -> pl.Schema:
        """Return the columns and types that `scan` gives."""
        return pl.scan_delta(self.delta(table)).collect_schema()

    def rows(self, table: str) -> int:
        """Return the number of rows, from the log's statistics."""
        return self.delta(table).count()

    def partitions(self, table: str, by: str = "date") -> list[str]:
        """Return the names of the partitions by `by` that hold rows, sorted, from the log alone.

        Raises:
            ValueError: if the table is not partitioned by `by`.
        """
        from deltalake.schema import PrimitiveType

        delta = self.delta(table)
        _check_partitioning(table, delta, by)
        kind = next(f.type for f in delta.schema().fields if f.name == by)
        values = {str(partition[by]) for partition in delta.partitions()}
        if kind == PrimitiveType("timestamp"):
            values = {f"{datetime.fromisoformat(v):{HOUR_NAME}}" for v in values}
        return sorted(values)

    def history(self, table: str) -> pl.DataFrame:
        """Return one row a version, newest first.

        Columns: version, timestamp (UTC), operation, run_id, rows (written), note.
        """
        entries = [
            {
                "version": entry["version"],
                "timestamp": entry["timestamp"],
                "operation": entry["operation"],
                "run_id": entry.get("run_id", ""),
                "rows": entry.get("operationMetrics", {}).get("num_added_rows"),
                "note": entry.get("note", ""),
            }
            for entry in self.delta(table).history()
        ]
        utc = pl.from_epoch("timestamp", "ms").dt.replace_time_zone("UTC").cast(UTC_TIME)
        return pl.DataFrame(entries, schema=_HISTORY).with_columns(utc)

    def data_versions(self, table: str) -> dict[str, str]:
        """Return the newest content hash of each partition, as its commits gave them."""
        newest: dict[str, str] = {}
        for entry in reversed(self.delta(table).history()):
            newest |= json.loads(entry.get("data_versions", "{}"))
        return newest

    # --- reading -----------------------------------------------------------------------------

    def scan(
        self,
        table: str,
        *,
        version: int | None = None,
        first: date | str | None = None,
        last: date | str | None = None,
        by: str = "date",
    ) -> pl.LazyFrame:
        """Return `table` as it is, or as it was at `version`, lazily.

        With `first` and `last`, both inclusive and each optional, only the partitions between them
        are read; they are values of column `by` or their names. Of a table in hours, a date as
        `first` is the first of its hours, as `last` the last one.

        Raises:
            TableNotFound: if there is no such table or version.
        """
        frame = pl.scan_delta(self.delta(table, version))
        if first is None and last is None:
            return frame
        dtype = frame.collect_schema()[by]
        if first is not None:
            frame = frame.filter(pl.col(by) >= _bound(first, dtype))
        if last is not None:
            frame = frame.filter(pl.col(by) <= _bound(last, dtype, is_last=True))
        return frame

    def delta(self, table: str, version: int | None = None) -> DeltaTable:
        """Return the Delta table itself, for what this class does not offer.

        Raises:
            TableNotFound: naming the tables there are, or the versions.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        location = self.location(table)
        try:
            newest = DeltaTable(location, storage_options=self.storage_options)
        except TableNotFoundError:
            there = ", ".join(self.tables()) or "none yet"
            raise TableNotFound(
                f"there is no table {table!r} in {self.uri}; tables: {there}"
            ) from None
        if version is None or version == newest.version():
            return newest
        try:
            return DeltaTable(location, version=version, storage_options=self.storage_options)
        except (DeltaError, OverflowError):
            raise TableNotFound(
                f"{table} has no version {version}; it has 0 to {newest.version()}"
            ) from None

    # --- writing -----------------------------------------------------------------------------

    def overwrite(self, table: str, frame: pl.DataFrame, commit: Commit) -> int:
        """Replace the whole table by `frame`; return the new version.

        A column that `frame` lacks is gone from this version on. Errors as in `append`.
        """
        return self._commit(table, Write(frame, commit, "overwrite"))

    def overwrite_partitions(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        by: str,
        partitions: Sequence[str],
        commit: Commit,
    ) -> int:
        """Replace exactly `partitions` of column `by` in one commit; return the new version.

        A partition without rows in `frame` is empty afterwards. Errors as in `append`, and

        Raises:
            ValueError: naming partitions of which `frame` has rows although they are not named.
        """
        outside = sorted(set(partition_keys(frame, by).unique()) - set(partitions))
        if outside:
            raise ValueError(
                f"{table}: the frame has rows of {by} {_some(outside)}, but the write is of "
                f"{_some(sorted(partitions))}"
            )
        predicate = partition_predicate(by, plain_type(frame.schema[by]), partitions)
        return self._commit(table, Write(frame, commit, "overwrite", by, predicate))

    def append(
        self, table: str, frame: pl.DataFrame, commit: Commit, *, by: str | None = None
    ) -> int:
        """Add the rows of `frame`; return the new version. `by` partitions a new table.

        Raises:
            TypeError: naming a column whose type is not the table's, or none that Delta can hold.
            ValueError: if the table is partitioned by another column than `by`.
            WriteConflict: if other writers to the same rows were first each time, for a minute.
            AlreadyCommitted: if the table has one of the commit's transactions.
            UnsafeStore: if the object store loses commits.
        """
        return self._commit(table, Write(frame, commit, "append", by))

    def append_frames(
        self, table: str, frames: Iterable[pl.DataFrame], commit: Commit, *, by: str = "date"
    ) -> int | None:
        """Add the rows of all `frames` in one commit, one of them in memory at a time.

        Returns a version that holds them, or None where there are no rows. Column `by` partitions
        the table and holds dates, or hours, of which all frames are in memory at a time. The
        commit's transactions are read after the last frame. Errors as in `append`.
        """
        self.require_safe()
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            return None
        if first.schema[by] == UTC_TIME:
            rows = pl.concat([first, *rest])
            return self.append(table, rows, commit, by=by) if rows.height else None
        return append_frames(
            self.location(table), self.storage_options, chain([first], rest), commit, by
        )

    def require_safe(self) -> None:
        """Make sure, once, that the store of this lake loses no commit; each write asks first.

        Raises:
            UnsafeStore: if a second writer can replace what the first has written.
        """
        if not self._is_safe:
            require_put_if_absent(self.uri, self.storage_options)
            self._is_safe = True

    def _commit(self, table: str, wanted: Write) -> int:
        self.require_safe()
        try:
            return write(self.location(table), self.storage_options, wanted)
        except (TypeError, ValueError, WriteConflict) as error:
            raise type(error)(f"{table}: {error}") from None


def _check_partitioning(table: str, delta: DeltaTable, by: str) -> None:
    columns = delta.metadata().partition_columns
    if by not in columns:
        raise ValueError(f"{table} is partitioned by {', '.join(columns) or 'nothing'}, not {by!r}")


def _bound(value: date | str, dtype: pl.DataType, *, is_last: bool = False) -> date | str:
    """A bound as the column has it: of hours, a day is its first or its last one."""
    if dtype not in (pl.Date, UTC_TIME):
        return value
    period = named(value) if isinstance(value, str) else value
    if dtype == pl.Date:
        return day_of(period)
    hours = Periods("hour")
    return hours.at_end(period) if is_last else hours.of(period)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
