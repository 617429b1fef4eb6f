"""The log of a server: every request and its answer, on disk before the answer is sent.

Each worker appends lines of JSON to a segment of its own, `<worker>-<number>.open`, by one write(2)
a request, and holds a lock on it. A segment that is large or old is closed by one rename to
`.jsonl`; from then on nobody changes it. What a killed worker leaves open is closed by the next
reader, who sees that its lock is free. A line is with the kernel when `append` returns: kill -9
loses nothing, a power cut what was not yet on the disk.

A record has the fields of `Record`. A line that is cut short at the end of a segment was never
answered: it is left out, and counted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

SEGMENT_BYTES = 16_000_000
SEGMENT_SECONDS = 5.0
OPEN, CLOSED = ".open", ".jsonl"

_UTC = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {
    "prediction_id": pl.String, "received_at": _UTC, "product": pl.String, "request": pl.String,
    "key": pl.String, "date": pl.Date, "as_of": _UTC, "features": pl.String,
    "missing": pl.List(pl.String),
    "stale": pl.List(pl.String), "probability": pl.Float64, "decision": pl.Boolean,
    "threshold": pl.Float64, "prediction": pl.Float64, "predicted": pl.String,
    "probabilities": pl.List(pl.Float64), "classes": pl.List(pl.String),
    "model_version": pl.Int64, "digest": pl.String,
    "generation": pl.String, "contract_hash": pl.String, "role": pl.String, "arm": pl.String,
    "duration_us": pl.Int64,
}  # fmt: skip
"""Columns of a segment as a frame; `request`, `key` and `features` are JSON objects as text."""


class Record(msgspec.Struct, kw_only=True):
    """One request as one version answered it; times are microseconds since 1970, UTC.

    Attributes:
        prediction_id: of the answer; a shadow's record has that of the answer that was given.
        received_at: when the request was read.
        product: whose model.
        request: what the caller gave, by name.
        key: the row's entity keys.
        date: local day of the row, days since 1970.
        as_of: the row's own prediction time.
        features: the model's inputs by name, as they were used.
        missing: features that are null.
        stale: features of tables that end before `as_of`.
        probability, decision, threshold: the answer of a binary task.
        prediction: that of a regression.
        predicted, probabilities, classes: that of several classes, with the probability of the
            one that was said.
        model_version, digest: whose it is.
        generation: of the online store.
        contract_hash: of the server's contract.
        role: "answer", or "shadow" for one that nobody was given.
        arm: "champion", or the version that ran beside it.
        duration_us: time from reading the request to this record.
    """

    prediction_id: str
    received_at: int
    product: str
    request: dict[str, Any] | msgspec.Raw
    key: dict[str, Any] | msgspec.Raw
    date: int
    as_of: int
    features: dict[str, Any] | msgspec.Raw
    missing: list[str]
    stale: list[str]
    probability: float | None = None
    decision: bool | None = None
    threshold: float | None = None
    prediction: float | None = None
    predicted: str | None = None
    probabilities: list[float] | None = None
    classes: list[str] | None = None
    model_version: int
    digest: str
    generation: str
    contract_hash: str
    role: str
    arm: str
    duration_us: int


class _Read(Record, kw_only=True):
    """A record whose JSON objects stay as they are."""

    request: msgspec.Raw
    key: msgspec.Raw
    features: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Read).decode


@dataclass(frozen=True)
class Segment:
    """A closed segment: its records, in the order in which they were written.

    Attributes:
        name: unique, for good: what has shipped it says so by this name.
        records: columns as in `SCHEMA`.
        torn: 1 where the last line was cut short by a kill, else 0.
    """

    name: str
    records: pl.DataFrame
    torn: int


class RequestLog:
    """The segments that one worker writes under `folder/product`.

    Not safe for several threads: the server's event loop alone appends and rolls.
    """

    def __init__(self, folder: Path, product: str) -> None:
        self.folder = folder / product
        # Sorts by time, and no two workers share it.
        self._worker = f"{time.time_ns():x}-{os.getpid()}"
        self._number = 0
        self._file: int | None = None
        self._path = self.folder
        self._bytes = 0
        self._opened = 0.0
        self.writable = True

    def append(self, *records: Record | Mapping[str, Any]) -> None:
        """Write the records, all or none of them, by one write(2).

        Raises:
            OSError: the disk is full or gone; `writable` is False until a write works again.
        """
        lines = b"".join(_encode(record) + b"\n" for record in records)
        try:
            if self._file is None:
                self._open()
            self._write(lines)
        except OSError:
            self.writable = False
            raise
        self.writable = True
        self._bytes += len(lines)
        if self._bytes >= SEGMENT_BYTES:
            self.close()

    def roll(self) -> None:
        """Close the segment where it is old enough; call it every second or so.

        Where the last write failed, try whether one works again.
        """
        if self._file is not None and time.monotonic() - self._opened >= SEGMENT_SECONDS:
            self.close()
        if not self.writable:
            with suppress(OSError):
                self._probe()
                self.writable = True

    def close(self) -> None:
        """Close the segment, if one is open; the next `append` begins another."""
        if self._file is None:
            return
        file, self._file = self._file, None
        # Renamed while the lock is held: to others it is open or closed, never left behind.
        self._path.rename(self._path.with_suffix(CLOSED))
        os.close(file)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / f"{self._worker}-{self._number:06}{OPEN}"
        self._number += 1
        # Locked before it has the name by which readers look for what was left behind.
        unlocked = self._path.with_suffix(".new")
        file = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(self._path)
        self._file, self._bytes, self._opened = file, 0, time.monotonic()

    def _write(self, lines: bytes) -> None:
        assert self._file is not None  # append opens it.
        try:
            written = os.write(self._file, lines)
            if written < len(lines):
                raise OSError(28, "the disk is full", str(self._path))
        except OSError:
            # Half of a line may not stand before the next one.
            os.ftruncate(self._file, self._bytes)
            raise

    def _probe(self) -> None:
        """Write as much as a large record has, and take it back."""
        if self._file is None:
            self._open()
        self._write(b" " * 65_536)
        os.ftruncate(self._file, self._bytes)  # type: ignore[arg-type]


def closed_segments(folder: Path, product: str) -> list[Path]:
    """The segments of a product that nobody writes any more, in the order of their beginning.

    What killed workers left open is closed first.
    """
    there = folder / product
    for path in sorted(there.glob(f"*{OPEN}")):
        _close_if_left(path)
    return sorted(there.glob(f"*{CLOSED}"))


def read_segment(path: Path) -> Segment:
    """Read a closed segment.

    Raises:
        ValueError: naming a line, not the last, that is no record: the file was changed by others.
    """
    *lines, rest = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_decode(line))
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path}, line {number} is no record: {error}") from None
    columns = {
        name: [_plain(getattr(record, name)) for record in records]
        for name in Record.__struct_fields__
    }
    physical = {
        name: pl.Int64 if dtype == _UTC else pl.Int32 if dtype == pl.Date else dtype
        for name, dtype in SCHEMA.items()
    }
    frame = pl.DataFrame(columns, schema=physical).cast(SCHEMA)  # type: ignore[arg-type]
    return Segment(path.stem, frame, int(bool(rest)))


def _plain(value: Any) -> Any:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value


def _close_if_left(path: Path) -> None:
    with suppress(FileNotFoundError), path.open("rb") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner may have closed it in between, and nobody else takes this name again.
        path.rename(path.with_suffix(CLOSED))
