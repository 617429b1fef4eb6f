"""A feature table packed for look-ups of single rows: what `look_up` gives, in microseconds.

The rows of a key are cut into stretches of time; each becomes one chunk of bytes that begins with
what was before it, so that a look-up at a moment reads the chunk of that moment and no other. A
trailing window is the difference of two such look-ups in running sums, exactly as offline. Times
are whole microseconds since 1970 (UTC). Pure functions; where the chunks lie is the caller's.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import polars as pl

from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, Definition, Latest, Trailing

CHUNK_ROWS = 128
"""Most rows that a chunk should have: what a request reads stays small."""

_HOUR = 3_600_000_000
_STRETCHES = (None, 24 * _HOUR, 6 * _HOUR, _HOUR)
"""Lengths of a chunk's stretch of time, None for all of it; the first that fits is taken."""
_LONGEST_KEY = 200
_EXACT = 2**53
"""Up to here whole numbers are exact as floating ones, as which polars divides them."""
_US = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TIME = pl.Datetime("us", "UTC")
_NUMBERED = struct.Struct(">i").pack
_FIRST, _LAST = -(2**30) * _HOUR, 2**30 * _HOUR
_ONE = struct.Struct("<q").unpack_from
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list).decode
_KEY = "__key"
_VALUES = (pl.Boolean, pl.String, pl.Null)


@dataclass(frozen=True)
class Layout:
    """How a table's chunks are to be read.

    Attributes:
        keys: the table's key columns, in the order in which they make up a key.
        columns: what a chunk holds of each row: the sums, or the values.
        stretch: length of a chunk's time (microseconds), None where a key has one chunk.
        begins: first moment of the rows, 0 for none.
        ends: last moment of the rows; what is asked later is as it was then.
    """

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    stretch: int | None
    begins: int
    ends: int


@dataclass(frozen=True)
class Packed:
    """A table as chunks by name, which is of a key and a stretch of time.

    Attributes:
        layout: how the chunks are to be read.
        keys: how many keys there are.
        chunks: name to chunk.
    """

    layout: Layout
    keys: int
    chunks: Mapping[bytes, bytes]


def microseconds(at: datetime) -> int:
    """A time, which has a zone, as whole microseconds since 1970."""
    return (at - _EPOCH) // _US


def key_of(values: tuple[Any, ...]) -> bytes | None:
    """The key of an entity: equal for equal values only; None for what is nobody's key.

    That is one with a null in it, or with what no table holds but JSON may: half of a surrogate
    pair, a number of more than 64 bits.
    """
    if None in values:
        return None
    try:
        key = _ENCODE(values)
    except (UnicodeEncodeError, OverflowError):
        return None
    return key if len(key) <= _LONGEST_KEY else blake2b(key, digest_size=32).digest()


def pack(table: pl.DataFrame, definition: Definition, chunk_rows: int = CHUNK_ROWS) -> Packed:
    """Pack the rows of a feature table that a look-up can need.

    Args:
        table: the definition's keys, `available_at` and, for `Latest`, `event_time` (UTC), and what
            the definition reads of each row.
        definition: what is looked up.
        chunk_rows: most rows that a chunk should have.

    Raises:
        TypeError: a sum is no whole number, or a key or a value is of a type that has no place.
        ValueError: sums are too great to be divided exactly.
    """
    rows = _ordered(table, definition)
    columns = _columns(definition)
    _refuse_types(rows, definition)
    moments = rows[AVAILABLE_AT].to_physical().to_numpy()
    starts = np.flatnonzero((rows[_KEY] != rows[_KEY].shift(1)).fill_null(True).to_numpy())
    bounds = [*starts.tolist(), rows.height] if rows.height else [0]
    stretch = _stretch(moments, bounds, chunk_rows)
    begins, ends = (int(moments.min()), int(moments.max())) if rows.height else (0, 0)
    layout = Layout(definition.keys, columns, stretch, begins, ends)
    names = [key_of(row) for row in rows[starts].select(definition.keys).iter_rows()]
    encode = _sums(rows, columns) if isinstance(definition, Trailing) else _values(rows, columns)
    chunks = {}
    for name, first, last in zip(names, bounds, bounds[1:], strict=False):
        assert name is not None
        for number, at, end in _cut(moments, first, last, stretch, ends):
            chunks[_NUMBERED(number) + name] = encode(first, at, end)
    return Packed(layout, len(names), chunks)


class Reader(ABC):
    """Reads the values of one table's definition from its chunks, for one row.

    Args:
        layout: how the chunks are to be read.
        definition: what is looked up.
        prefix: what the names of the table's chunks begin with where they lie.

    Raises:
        ValueError: the chunks do not hold what the definition reads.
    """

    def __init__(self, layout: Layout, definition: Definition, prefix: bytes = b"") -> None:
        if layout.keys != definition.keys:
            raise ValueError(f"is kept by {layout.keys}, and read by {definition.keys}")
        if lost := sorted(set(_columns(definition)) - set(layout.columns)):
            raise ValueError(f"is kept without {', '.join(lost)}, which the model reads")
        self.definition = definition
        self._places = {name: i for i, name in enumerate(layout.columns)}
        self._stretch, self._ends = layout.stretch, layout.ends
        self._backs: tuple[int, ...] = (0,)
        self._numbered = partial(struct.Struct(f">{len(prefix)}si").pack, prefix)
        self._all = self._numbered(0)

    @staticmethod
    def of(layout: Layout, definition: Definition, prefix: bytes = b"") -> Reader:
        """The reader of a definition."""
        if isinstance(definition, Latest):
            return LatestReader(layout, definition, prefix)
        return TrailingReader(layout, definition, prefix)

    def names(self, key: bytes, at: int) -> list[bytes]:
        """The chunks that a look-up of a key at a moment reads."""
        stretch, numbered = self._stretch, self._numbered
        if stretch is None:
            return [self._all + key]
        if not _FIRST < at < _LAST:  # So far off there are no rows.
            return [self._all + key] * len(self._backs)
        ends = self._ends
        return [numbered(min(at - back, ends) // stretch) + key for back in self._backs]

    @abstractmethod
    def values(self, chunks: Sequence[bytes | None], at: int) -> Sequence[Any]:
        """The definition's features, in order, from the chunks that `names` asked for."""


class LatestReader(Reader):
    """Reads `Latest`."""

    def __init__(self, layout: Layout, definition: Latest, prefix: bytes = b"") -> None:
        super().__init__(layout, definition, prefix)
        self._nothing = (None,) * len(definition.columns)
        self._ttl = None if definition.ttl is None else definition.ttl // _US
        self._wanted = [self._places[column] for column in definition.columns.values()]

    def values(self, chunks: Sequence[bytes | None], at: int) -> Sequence[Any]:
        """See `Reader`."""
        chunk = chunks[0]
        if chunk is None:
            return self._nothing
        (n,) = _ONE(chunk)
        numbers = memoryview(chunk)[: 8 * (3 * n + 2)].cast("q")
        place = bisect_right(numbers, at, 1, n + 1) - 1
        if place == 0 or (self._ttl is not None and at - numbers[n + place] > self._ttl):
            return self._nothing
        row = _DECODE(chunk[numbers[2 * n + place] : numbers[2 * n + place + 1]])
        return [row[i] for i in self._wanted]


class TrailingReader(Reader):
    """Reads `Trailing`."""

    def __init__(self, layout: Layout, definition: Trailing, prefix: bytes = b"") -> None:
        super().__init__(layout, definition, prefix)
        self._backs = (0, *(window // _US for window in definition.windows.values()))
        self._width = len(layout.columns)
        self._row = struct.Struct(f"<{self._width}q").unpack_from
        self._zeros = (0,) * self._width
        self._ratios = [
            (self._places[above], self._places[below])
            for above, below in definition.ratios.values()
        ]

    def values(self, chunks: Sequence[bytes | None], at: int) -> Sequence[Any]:
        """See `Reader`."""
        if len(chunks) < len(self._backs):
            chunks = [chunks[0]] * len(self._backs)
        width, row, ratios = self._width, self._row, self._ratios
        now: Sequence[int] = ()
        values: list[float | None] = []
        for chunk, back in zip(chunks, self._backs, strict=True):
            sums: Sequence[int] = self._zeros
            if chunk is not None:
                numbers = memoryview(chunk).cast("q")
                n = (len(numbers) - width) // (width + 1)
                sums = row(chunk, 8 * (n + width * bisect_right(numbers, at - back, 0, n)))
            if not now:
                now = sums
                continue
            for above, below in ratios:
                count = now[below] - sums[below]
                values.append((now[above] - sums[above]) / count if count > 0 else None)
        return values


def _columns(definition: Definition) -> tuple[str, ...]:
    if isinstance(definition, Trailing):
        return definition.sums
    return tuple(dict.fromkeys(definition.columns.values()))


def _ordered(table: pl.DataFrame, definition: Definition) -> pl.DataFrame:
    """The rows by key, moment and, among the latest, what they speak of; without nulls there."""
    by = [AVAILABLE_AT, EVENT_TIME] if isinstance(definition, Latest) else [AVAILABLE_AT]
    rows = table.select(list(dict.fromkeys(definition.reads))).with_columns(pl.col(by).cast(_TIME))
    rows = rows.drop_nulls([*definition.keys, AVAILABLE_AT])
    return rows.with_columns(pl.struct(definition.keys).rank("dense").alias(_KEY)).sort(_KEY, *by)


def _refuse_types(rows: pl.DataFrame, definition: Definition) -> None:
    for name in definition.keys:
        if rows.schema[name].is_float() or rows.schema[name].is_nested():
            raise TypeError(f"the key {name!r} is {rows.schema[name]}; use text, numbers or times")
    for name in _columns(definition):
        dtype = rows.schema[name]
        whole = dtype.is_integer() or dtype in (pl.Boolean, pl.Null)
        if isinstance(definition, Trailing) and not whole:
            raise TypeError(f"the sum {name!r} is {dtype}; keep whole numbers, in a smaller unit")
        if not (whole or dtype.is_float() or dtype in _VALUES or isinstance(dtype, pl.Datetime)):
            raise TypeError(f"{name!r} is {dtype}; what is looked up is numbers, texts or times")


def _stretch(moments: np.ndarray, bounds: Sequence[int], most: int) -> int | None:
    """The greatest length of a stretch of which no key has more than so many rows."""
    keys = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    for stretch in _STRETCHES:
        numbers = moments // stretch if stretch else np.zeros(len(moments), np.int64)
        new = (np.diff(numbers, prepend=-1) != 0) | (np.diff(keys, prepend=-1) != 0)
        if np.diff(np.flatnonzero(new), append=len(moments)).max(initial=0) <= most:
            return stretch
    return _STRETCHES[-1]


def _cut(
    moments: np.ndarray, first: int, last: int, stretch: int | None, ends: int
) -> Iterator[tuple[int, int, int]]:
    """Number of each stretch from a key's first row to the end of all, and its rows."""
    if stretch is None:
        yield 0, first, last
        return
    numbers = range(int(moments[first]) // stretch, ends // stretch + 1)
    edges = np.array([*numbers, numbers.stop]) * stretch
    places = (first + np.searchsorted(moments[first:last], edges)).tolist()
    yield from zip(numbers, places, places[1:], strict=False)


def _sums(rows: pl.DataFrame, columns: Sequence[str]) -> Callable[[int, int, int], bytes]:
    """A chunk: the moments, then a row of running sums before the first and after each."""
    moments = rows[AVAILABLE_AT].to_physical().to_numpy()
    sums = np.zeros((rows.height + 1, len(columns)), np.int64)
    for i, name in enumerate(columns):
        sums[1:, i] = rows[name].cast(pl.Int64).fill_null(0).cum_sum().to_numpy()
        if rows[name].cast(pl.Float64).abs().sum() > _EXACT:
            raise ValueError(f"the sums of {name!r} pass 2**53; keep them in a greater unit")

    def encode(first: int, at: int, end: int) -> bytes:
        return moments[at:end].tobytes() + (sums[at : end + 1] - sums[first]).tobytes()

    return encode


def _values(rows: pl.DataFrame, columns: Sequence[str]) -> Callable[[int, int, int], bytes]:
    """A chunk: how many rows, their moments, event times, offsets, and the rows themselves.

    The row before the first is the first of the chunk, so that its moment is there too.
    """
    times = np.stack([rows[c].to_physical().to_numpy() for c in (AVAILABLE_AT, EVENT_TIME)])
    encoded = [msgspec.msgpack.encode(row) for row in rows.select(columns).iter_rows()]

    def encode(first: int, at: int, end: int) -> bytes:
        begin = max(first, at - 1)
        rows = encoded[begin:end]
        head = 8 * (3 * len(rows) + 2)
        offsets = np.cumsum([head, *map(len, rows)], dtype=np.int64)
        numbers = [[len(rows)], *times[:, begin:end], offsets]
        return np.concatenate(numbers).astype(np.int64).tobytes() + b"".join(rows)

    return encode
