"""How one write to a Delta table becomes one commit, whoever else writes at the same time.

A write opens the table anew, checks the frame against its schema and commits; if another writer got
in between with something that conflicts, it starts over after a short random pause. deltalake casts
a column of another type silently, so the types are compared here. No table names; see lakehouse.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from secrets import SystemRandom
from typing import TYPE_CHECKING, Literal

import polars as pl

from mlops_assets.ml.periods import named
from mlops_assets.stores.dtypes import UTC_TIME, stored_form

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

Mode = Literal["append", "overwrite"]

# 16 writers that replace the same day 20 times each are done in 20 s on two busy cores, one of
# them after 9 s; writers of different days hardly ever meet.
_PATIENCE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 1.0
_SHORTEST_PAUSE_SECONDS = 0.02
# A training set pins versions of its tables, so the log must not forget them after 30 days.
# For the same reason a vacuum keeps the files of past versions, unless it is forced not to.
CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}


@dataclass(frozen=True)
class Commit:
    """Why a write happened; kept in the table's log.

    `data_versions` gives the content hash of each partition that was written. `transactions` says,
    for each stream of what is written, how far this write brings it: a table takes each number of
    a stream once, whoever brings it.
    """

    run_id: str = ""
    data_versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    transactions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Write:
    """What to write: `mode` to the rows that `predicate` selects, or to the whole table."""

    frame: pl.DataFrame
    commit: Commit
    mode: Mode
    by: str | None = None
    predicate: str | None = None


def write(location: str, storage_options: dict[str, str], wanted: Write) -> int:
    """Commit `wanted` to the table at `location`, creating it if need be; return the version.

    Raises:
        TypeError: naming the column, if its type is not the table's or none that Delta can hold.
        ValueError: if the table is partitioned by another column.
        WriteConflict: if other writers got in between each time, for a minute.
        AlreadyCommitted: if the table has one of the commit's transactions.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    deadline = time.monotonic() + _PATIENCE_SECONDS
    longest = _SHORTEST_PAUSE_SECONDS
    while True:
        try:
            if not DeltaTable.is_deltatable(location, storage_options):
                if not wanted.commit.transactions:
                    return _create(location, storage_options, wanted)
                create_empty(location, storage_options, wanted.frame, wanted.by)
            return _write(DeltaTable(location, storage_options=storage_options), wanted)
        except (CommitFailedError, _CreatedMeanwhile) as error:
            if time.monotonic() > deadline:
                raise WriteConflict(
                    f"other writers committed first each time, for {_PATIENCE_SECONDS:.0f} s;"
                    " nothing of this write is in the table. Write again when they are done"
                ) from error
            time.sleep(SystemRandom().uniform(0, longest))
            longest = min(_LONGEST_PAUSE_SECONDS, 2 * longest)


def refuse_again(table: DeltaTable, commit: Commit) -> None:
    """Make sure that the table, as it was opened, has none of the commit's transactions.

    Who brings the same at the same moment fails at the commit, comes back, and finds it here.

    Raises:
        AlreadyCommitted: naming the one that it has.
    """
    for stream, number in commit.transactions.items():
        there = table.transaction_version(stream)
        if there is not None and there >= number:
            raise AlreadyCommitted(f"{stream} is in the table through {there}, {number} included")


def partition_predicate(by: str, dtype: pl.DataType, partitions: Sequence[str]) -> str:
    """Return the SQL predicate that selects exactly `partitions` of column `by`.

    Raises:
        ValueError: naming a partition that is no value of `dtype`, or if none is named.
    """
    if not partitions:
        raise ValueError(f"no partition of {by!r} is named; name each one that the write replaces")
    column = by.replace('"', '""')
    values = ", ".join(_literal(value, dtype) for value in partitions)
    return f'"{column}" IN ({values})'


class WriteConflict(RuntimeError):
    """Other writers were first each time; nothing was written."""


class AlreadyCommitted(RuntimeError):
    """The table has a transaction of the commit already; nothing was written."""


class _CreatedMeanwhile(Exception):
    """Another writer created the table first."""


def _literal(value: str, dtype: pl.DataType) -> str:
    try:
        if dtype == pl.Date:
            return f"'{date.fromisoformat(value).isoformat()}'"
        if dtype == UTC_TIME:
            return f"'{named(value):%Y-%m-%dT%H:%M:%SZ}'"
        if dtype.is_integer():
            return str(int(value))
    except ValueError:
        raise ValueError(f"partition {value!r} is no {dtype}") from None
    if dtype != pl.String or not value:
        raise ValueError(f"partition {value!r}: use a date, a whole number or non-empty text")
    escaped = value.replace("'", "''")
    return f"'{escaped}'"


def _create(location: str, storage_options: dict[str, str], wanted: Write) -> int:
    from deltalake import write_deltalake
    from deltalake.exceptions import DeltaError

    try:
        write_deltalake(
            location,
            stored_form(wanted.frame),
            mode="error",
            partition_by=wanted.by,
            configuration=CONFIGURATION,
            storage_options=storage_options,
            commit_properties=properties(wanted.commit),
        )
    except DeltaError as error:
        if "already exists" in str(error):
            raise _CreatedMeanwhile from error
        raise
    return 0


def create_empty(
    location: str, storage_options: dict[str, str], frame: pl.DataFrame, by: str | None
) -> None:
    """Make the table without the frame's rows, which come as a write that sees other writes.

    Of two that create a table at once, deltalake commits both, one after the other and without a
    look at each other's transactions. Two that create it empty do no harm.
    """
    from deltalake import DeltaTable, Schema

    DeltaTable.create(
        location,
        Schema.from_arrow(stored_form(frame).to_arrow().schema),
        mode="ignore",
        partition_by=by,
        configuration=CONFIGURATION,
        storage_options=storage_options,
    )


def _write(table: DeltaTable, wanted: Write) -> int:
    from deltalake import write_deltalake

    refuse_again(table, wanted.commit)
    partitioned_by = table.metadata().partition_columns
    if wanted.by is not None and partitioned_by != [wanted.by]:
        raise ValueError(
            f"the table is partitioned by {partitioned_by or 'nothing'}, not {wanted.by!r}"
        )
    whole = wanted.mode == "overwrite" and wanted.predicate is None
    write_deltalake(  # type: ignore[call-overload]  # one overload a mode, none for either
        table,
        fitted(wanted.frame, pl.scan_delta(table).collect_schema()),
        mode=wanted.mode,
        predicate=wanted.predicate,
        partition_by=partitioned_by or None,
        schema_mode="overwrite" if whole else "merge",
        commit_properties=properties(wanted.commit),
    )
    return table.version()


def fitted(frame: pl.DataFrame, there: pl.Schema) -> pl.DataFrame:
    """Return `frame` in the table's types; a column of nulls only takes the type it has there."""
    untyped = {
        name: there[name]
        for name, dtype in frame.schema.items()
        if dtype == pl.Null and name in there
    }
    suited = stored_form(frame.cast(untyped))  # type: ignore[arg-type]
    for name, dtype in suited.schema.items():
        if name in there and there[name] != dtype:
            raise TypeError(
                f"column {name!r} is {dtype} and was {there[name]}; cast it, or write a table of "
                "another name"
            )
    return suited


def properties(commit: Commit) -> CommitProperties:
    """Return the commit as the log keeps it."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(*each) for each in commit.transactions.items()] or None,
        custom_metadata={
            "run_id": commit.run_id,
            "note": commit.note,
            "data_versions": json.dumps(dict(commit.data_versions)),
        },
    )
