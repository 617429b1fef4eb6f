"""From the servers' logs to the lake, each request exactly once.

Closed segments become rows of `<product>/requests` by commits that say how far each worker's
segments are in the table; a segment that the table has adds nothing, whoever brings it and however
often. A segment is removed only when it is found in the table, so that a kill at any moment leaves
either the segment or its rows, and the next shipping goes on. One that cannot be read is set aside
as `.broken`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import polars as pl

from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse
from mlops_assets.stores.request_log import SCHEMA, Segment, closed_segments, read_segment

RECEIVED_ON = "received_on"
"""Partition: the UTC day of receipt, since a caller's dates may be any."""
BATCH = "batch"
"""Names the commit that brought a row."""
SEGMENT = "segment"
BROKEN = ".broken"
MOST_BYTES = 64_000_000
"""Of log in one commit, some 40,000 requests with sixty features; at least one segment."""
COLUMNS = {RECEIVED_ON: pl.Date, BATCH: pl.String, SEGMENT: pl.String, **SCHEMA}


@dataclass(frozen=True)
class Shipped:
    """What a shipping did.

    Attributes:
        rows, segments: new in the lake.
        removed: segments that are there now, or were already.
        torn: lines that a kill cut short; nobody was given their answer.
        broken: what is wrong with segments that were set aside.
    """

    rows: int = 0
    segments: int = 0
    removed: int = 0
    torn: int = 0
    broken: tuple[str, ...] = ()

    def __add__(self, other: Shipped) -> Shipped:
        return Shipped(
            self.rows + other.rows,
            self.segments + other.segments,
            self.removed + other.removed,
            self.torn + other.torn,
            self.broken + other.broken,
        )


def ship(lake: Lakehouse, folder: Path, product: str, table: str, run_id: str = "") -> Shipped:
    """Bring the closed segments of a product into `table`, in commits of some MOST_BYTES."""
    paths = closed_segments(folder, product)
    done = Shipped()
    for portion in _portions(paths):
        done += _ship(lake, table, portion, run_id)
    return done


def _ship(lake: Lakehouse, table: str, paths: Sequence[Path], run_id: str) -> Shipped:
    """One commit, or none where all is there; then the segments, which now are, are removed."""
    read, broken = _read(paths)
    done = Shipped()
    while waiting := _missing(lake, table, list(read.values())):
        try:
            done = _commit(lake, table, waiting, run_id)
        except AlreadyCommitted:
            continue  # Another brought some of them meanwhile: look which are left.
    for path in read:
        path.unlink(missing_ok=True)
    return done + Shipped(removed=len(read), broken=broken)


def _read(paths: Sequence[Path]) -> tuple[dict[Path, Segment], tuple[str, ...]]:
    """The segments that can be read; the others are set aside, and said why."""
    read, broken = dict[Path, Segment](), list[str]()
    for path in paths:
        try:
            read[path] = read_segment(path)
        except FileNotFoundError:
            continue  # Another shipper has brought and removed it.
        except ValueError as error:
            path.rename(path.with_suffix(BROKEN))
            broken.append(str(error))
    return read, tuple(broken)


@dataclass(frozen=True)
class _Waiting:
    """Segments that the table lacks, and how far they bring each stream of it."""

    segments: tuple[Segment, ...]
    transactions: Mapping[str, int]


def _missing(lake: Lakehouse, table: str, read: Sequence[Segment]) -> _Waiting | None:
    """What the table lacks of the segments; None where it has all.

    A worker is a stream, its segments are numbers of it. One whose number is passed is there,
    unless it was overlooked when a later one was brought: the table's rows say so. It is brought as
    a stream of its own.
    """
    delta = lake.delta(table) if lake.exists(table) else None
    streams: dict[str, int] = {}
    segments, passed = list[Segment](), list[Segment]()
    for segment in read:
        worker, _, number = segment.name.rpartition("-")
        through = delta.transaction_version(worker) if delta else None
        if through is not None and through >= int(number):
            passed.append(segment)
        else:
            segments.append(segment)
            streams[worker] = max(streams.get(worker, -1), int(number))
    overlooked = _without_rows(lake, table, [each for each in passed if each.records.height])
    streams |= {each.name: 0 for each in overlooked}
    found = (*segments, *overlooked)
    return _Waiting(found, streams) if found else None


def _without_rows(lake: Lakehouse, table: str, segments: Sequence[Segment]) -> list[Segment]:
    if not segments:
        return []
    names = [each.name for each in segments]
    days = pl.concat(each.records["received_at"] for each in segments).dt.date()
    rows = lake.scan(table, first=days.min(), last=days.max(), by=RECEIVED_ON)  # type: ignore[arg-type]
    there = rows.filter(pl.col(SEGMENT).is_in(names)).select(pl.col(SEGMENT).unique()).collect()
    return [each for each in segments if each.name not in there[SEGMENT]]


def _commit(lake: Lakehouse, table: str, waiting: _Waiting, run_id: str) -> Shipped:
    segments = waiting.segments
    rows = pl.concat(
        segment.records.with_columns(pl.lit(segment.name).alias(SEGMENT)) for segment in segments
    ).select(
        pl.col("received_at").dt.date().alias(RECEIVED_ON),
        pl.lit(uuid4().hex).alias(BATCH),
        SEGMENT,
        *SCHEMA,
    )
    note = f"{len(segments)} segments"
    commit = Commit(run_id=run_id, note=note, transactions=waiting.transactions)
    lake.append(table, rows, commit, by=RECEIVED_ON)
    return Shipped(rows.height, len(segments), torn=sum(each.torn for each in segments))


def _portions(paths: Sequence[Path]) -> Iterator[list[Path]]:
    portion: list[Path] = []
    size = 0
    for path in paths:
        # One that another shipper has removed meanwhile is in the lake.
        length = path.stat().st_size if path.exists() else 0
        if portion and size + length > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(path)
        size += length
    if portion:
        yield portion
