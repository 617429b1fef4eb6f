"""A feature table packed for look-ups of single rows: what `look_up` gives, in microseconds.

The rows of a key are cut into stretches of time; each becomes one chunk of bytes that begins with
what was before it, so that a look-up at a moment reads the chunk of that moment and no other. A
trailing window is the difference of two such look-ups in running sums, exactly as offline. Times
are whole microseconds since 1970 (UTC). Pure functions; where the chunks lie is the caller's.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
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
_US = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TIME = pl.Datetime("us", "UTC")
_NUMBERED = struct.Struct(">i").pack
_KEY = "__key"
_VALUES = (pl.Boolean, pl.String, pl.Null)

Get = Callable[[bytes], bytes | None]


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
    """A table as chunks by key and stretch of time."""

    layout: Layout
    chunks: Mapping[bytes, bytes]


def microseconds(at: datetime) -> int:
    """A time, which has a zone, as whole microseconds since 1970."""
    return (at - _EPOCH) // _US


def key_of(values: Iterable[Any]) -> bytes | None:
    """The key of an entity: equal for equal values only; None where one of them is null."""
    parts = []
    for value in values:
        if value is None:
            return None
        # Text from JSON may hold half of a surrogate pair, which is nobody's key.
        text = value.encode("utf-8", "surrogatepass") if type(value) is str else _text(value)
        parts.append(b"%d:%b" % (len(text), text))
    key = b"".join(parts)
    return key if len(key) <= _LONGEST_KEY else blake2b(key, digest_size=32).digest()


def _text(value: Any) -> bytes:
    if isinstance(value, datetime):
        return b"%d" % microseconds(value)
    return (value.isoformat() if isinstance(value, date) else str(value)).encode()


def pack(table: pl.DataFrame, definition: Definition, chunk_rows: int = CHUNK_ROWS) -> Packed:
    """Pack the rows of a feature table that a look-up can need.

    Args:
        table: the definition's keys, `available_at` and, for `Latest`, `event_time` (UTC), and what
            the definition reads of each row.
        definition: what is looked up.
        chunk_rows: most rows that a chunk should have.

    Raises:
        TypeError: a sum is no whole number, or a key or a value is of a type that has no place.
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
    return Packed(layout, chunks)


@dataclass(frozen=True)
class Reader:
    """Reads the values of one table's definition from its chunks.

    Raises:
        ValueError: the chunks do not hold what the definition reads.
    """

    layout: Layout
    definition: Definition

    def __post_init__(self) -> None:
        if self.layout.keys != self.definition.keys:
            raise ValueError(f"is kept by {self.layout.keys}, and read by {self.definition.keys}")
        wanted = _columns(self.definition)
        if lost := sorted(set(wanted) - set(self.layout.columns)):
            raise ValueError(f"is kept without {', '.join(lost)}, which the model reads")

    @property
    def moments_back(self) -> tuple[int, ...]:
        """How far before its own moment each chunk stands that a look-up reads (microseconds)."""
        if isinstance(self.definition, Latest):
            return (0,)
        return (0, *(w // _US for w in self.definition.windows.values()))

    def names(self, key: bytes, at: int) -> list[bytes]:
        """The chunks that a look-up of a key at a moment reads."""
        stretch, ends = self.layout.stretch, self.layout.ends
        if stretch is None:
            return [_NUMBERED(0) + key] * len(self.moments_back)
        return [_NUMBERED(_within(min(at - b, ends) // stretch)) + key for b in self.moments_back]

    def values(self, chunks: Sequence[bytes | None], at: int) -> tuple[Any, ...]:
        """The definition's features, in order, from the chunks that `names` asked for."""
        if isinstance(self.definition, Latest):
            return self._latest(chunks[0], at)
        return self._trailing(chunks, at)

    def _latest(self, chunk: bytes | None, at: int) -> tuple[Any, ...]:
        definition = self.definition
        assert isinstance(definition, Latest)
        nothing = (None,) * len(definition.columns)
        if chunk is None:
            return nothing
        (n,) = struct.unpack_from("<q", chunk)
        numbers = memoryview(chunk)[: 8 * (3 * n + 2)].cast("q")
        place = bisect_right(numbers, at, 1, n + 1) - 1
        if place == 0:
            return nothing
        if definition.ttl is not None and at - numbers[n + place] > definition.ttl // _US:
            return nothing
        found = numbers[2 * n + place], numbers[2 * n + place + 1]
        row = msgspec.msgpack.decode(memoryview(chunk)[found[0] : found[1]])
        return tuple(row[self.layout.columns.index(c)] for c in definition.columns.values())

    def _trailing(self, chunks: Sequence[bytes | None], at: int) -> tuple[Any, ...]:
        definition = self.definition
        assert isinstance(definition, Trailing)
        places = {name: i for i, name in enumerate(self.layout.columns)}
        now, *before = (
            self._sums(chunk, at - back)
            for chunk, back in zip(chunks, self.moments_back, strict=True)
        )
        values: list[float | None] = []
        for then in before:
            for above, below in definition.ratios.values():
                a, b = places[above], places[below]
                count = now[b] - then[b]
                values.append(float(now[a] - then[a]) / float(count) if count > 0 else None)
        return tuple(values)

    def _sums(self, chunk: bytes | None, at: int) -> Sequence[int]:
        width = len(self.layout.columns)
        if chunk is None:
            return (0,) * width
        numbers = memoryview(chunk).cast("q")
        n = (len(numbers) - width) // (width + 1)
        place = n + bisect_right(numbers, at, 0, n) * width
        return numbers[place : place + width]


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


def _within(number: int) -> int:
    """A stretch's number as it fits into a name; so far off there are no rows."""
    return max(-(2**31), min(number, 2**31 - 1))
