"""Upkeep of Delta tables: many small files become few, and files that nothing needs any more go.

A version that is pinned, because a model, a gate result or a prediction refers to it, stays
readable for ever; so do the newest version and all that were there in the last `keep_days`. Who
pins what is the caller's to say. Nothing is written unless `apply` is set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mlops_assets.stores.lakehouse import Lakehouse

if TYPE_CHECKING:
    from deltalake import DeltaTable

KEEP_DAYS = 30
SMALL_BYTES = 8 * 2**20
MANY_FILES = 4
"""Files below SMALL_BYTES in one partition from which on they are put together."""

NEWEST = "newest"
"""Why the newest version is kept."""

Pins = Mapping[int, Sequence[str]]
"""Version of a table to the reasons why it must stay readable."""


class VersionPinned(ValueError):
    """A version cannot be removed: something refers to it, or it is the newest."""


@dataclass(frozen=True)
class Compaction:
    """Small files of a table put together; `after` is None for a dry run."""

    table: str
    partitions: int
    before: int
    after: int | None


@dataclass(frozen=True)
class Vacuum:
    """Files of a table that no kept version needs: those that go, or went.

    `kept` has the pinned versions and the newest; `young` counts versions within `keep_days`.
    """

    table: str
    files: tuple[str, ...]
    megabytes: float
    kept: Mapping[int, Sequence[str]]
    young: int
    applied: bool


def compact(lake: Lakehouse, table: str, *, apply: bool = False) -> Compaction:
    """Put the small files of each partition together where there are many; no row changes.

    Raises:
        deltalake.exceptions.CommitFailedError: if a writer got in between; the table is as it was.
    """
    delta = lake.delta(table)
    by = delta.metadata().partition_columns
    actions = _files(delta)
    before = actions.height
    partitions = _crowded(actions, by)
    if not partitions or not apply:
        return Compaction(table, len(partitions), before, None if partitions else before)
    for values in partitions:
        chosen = [(column, "=", value) for column, value in zip(by, values, strict=True)]
        delta.optimize.compact(partition_filters=chosen or None)
    return Compaction(table, len(partitions), before, _files(lake.delta(table)).height)


def vacuum(
    lake: Lakehouse,
    table: str,
    pins: Pins,
    *,
    keep_days: float = KEEP_DAYS,
    remove: Sequence[int] = (),
    apply: bool = False,
) -> Vacuum:
    """Remove the files that no pinned, newest or young version needs; a dry run by default.

    `remove` names versions to be given up although they are young; all others then stay.

    Raises:
        VersionPinned: if one of them is pinned or the newest, naming who refers to it.
    """
    delta = lake.delta(table)
    kept = {**pins, delta.version(): [*pins.get(delta.version(), ()), NEWEST]}
    _refuse(table, remove, kept)
    young = _young(lake, table, keep_days)
    if remove:
        # Only what the log says was replaced: a file of a write in progress is not in the log yet.
        everything = set(range(delta.version() + 1)) - set(remove)
        hours, full, keep = 0, False, sorted(everything & _readable(lake, table))
    else:
        hours, full, keep = int(keep_days * 24), keep_days >= 1, sorted(kept)

    def run(versions: list[int], dry_run: bool) -> list[str]:
        return delta.vacuum(
            retention_hours=hours, dry_run=dry_run, enforce_retention_duration=False,
            full=full, keep_versions=versions,
        )  # fmt: skip

    # Opening each kept version costs; where nothing is old enough nobody needs to.
    files = run(keep, True) if run([], True) else []
    _make_sure(lake, table, files, sorted(kept))
    sizes = _bytes(lake, table, files)
    if files and apply:
        run(keep, False)
    return Vacuum(
        table, tuple(files), round(sizes / 2**20, 3), dict(sorted(kept.items())), young, apply
    )


def _refuse(table: str, remove: Sequence[int], kept: Pins) -> None:
    if pinned := [version for version in remove if version in kept]:
        reasons = "; ".join(f"version {v}: {', '.join(kept[v])}" for v in pinned)
        raise VersionPinned(
            f"{table} keeps {reasons}. Remove what refers to a version before the version itself"
        )


def _make_sure(lake: Lakehouse, table: str, files: Sequence[str], kept: Sequence[int]) -> None:
    """Hold what would go against what the kept versions consist of."""
    going = set(files)
    for version in kept if going else ():
        if needed := going & set(_files(lake.delta(table, version))["path"]):
            raise VersionPinned(
                f"{table}: version {version} needs {min(needed)}, which would be removed; nothing"
                " was. Do deltalake's keep_versions still hold?"
            )


def _young(lake: Lakehouse, table: str, keep_days: float) -> int:
    since = datetime.now(UTC) - timedelta(days=keep_days)
    return lake.history(table).filter(pl.col("timestamp") >= since).height


def _readable(lake: Lakehouse, table: str) -> set[int]:
    return set(lake.history(table)["version"])


def _files(delta: DeltaTable) -> pl.DataFrame:
    """One row a file: `path`, `size_bytes`, and `partition.COLUMN` as text."""
    frame = pl.DataFrame(delta.get_add_actions(flatten=True))
    return frame.select("path", "size_bytes", pl.col("^partition[.].*$").cast(pl.String))


def _crowded(files: pl.DataFrame, by: Sequence[str]) -> list[tuple[str, ...]]:
    """Partitions, as the values of their columns, with many small files; () for a whole table."""
    small = files.filter(pl.col("size_bytes") < SMALL_BYTES)
    counts = Counter(small.select(f"partition.{column}" for column in by).rows() if by else
                     [()] * small.height)  # fmt: skip
    return sorted(values for values, n in counts.items() if n >= MANY_FILES and None not in values)


def _bytes(lake: Lakehouse, table: str, files: Sequence[str]) -> int:
    if not files:
        return 0
    from deltalake.fs import DeltaStorageHandler
    from pyarrow import fs

    store = fs.PyFileSystem(DeltaStorageHandler(lake.location(table), lake.storage_options))
    return sum(entry.size or 0 for entry in store.get_file_info(list(files)))
