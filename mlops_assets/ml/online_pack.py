"""A feature table packed for look-ups of single rows, which online.py reads.

A trailing window's chunk holds the moments of its rows and running sums; a latest row's chunk the
moments and the rows themselves. Pure functions of frames; no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import polars as pl

from mlops_assets.ml.online import HOUR, Layout, Packed, columns_of, key_of
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, Definition, Latest, Trailing

CHUNK_ROWS = 128
"""Most rows that a chunk should have: what a request reads stays small."""

_STRETCHES = (None, 24 * HOUR, 6 * HOUR, HOUR)
"""Lengths of a chunk's stretch of time, None for all of it; the first that fits is taken."""
_CHUNKS_A_ROW, _FEW_CHUNKS = 4, 10_000
"""Chunks that a table may have at most, for each of its rows or in all: seldom seen keys among busy
ones would have mostly empty ones."""
_EXACT = 2**53
"""Up to here whole numbers are exact as floating ones, as which polars divides them."""
_TIME = pl.Datetime("us", "UTC")
_NUMBERED = struct.Struct(">i").pack
_KEY = "__key"
_VALUES = (pl.Boolean, pl.String, pl.Null)


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
    columns = columns_of(definition)
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
        if name is None:
            raise TypeError(f"a key of {definition.keys} is of more than 64 bits")
        for number, at, end in _cut(moments, first, last, stretch, ends):
            chunks[_NUMBERED(number) + name] = encode(first, at, end)
    return Packed(layout, len(names), chunks)


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
    for name in columns_of(definition):
        dtype = rows.schema[name]
        whole = dtype.is_integer() or dtype in (pl.Boolean, pl.Null)
        if isinstance(definition, Trailing) and not whole:
            raise TypeError(f"the sum {name!r} is {dtype}; keep whole numbers, in a smaller unit")
        if not (whole or dtype.is_float() or dtype in _VALUES or isinstance(dtype, pl.Datetime)):
            raise TypeError(f"{name!r} is {dtype}; what is looked up is numbers, texts or times")


def _stretch(moments: np.ndarray, bounds: Sequence[int], most: int) -> int | None:
    """The greatest length of a stretch of which no key has more than so many rows."""
    keys = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    chosen = None
    for stretch in _STRETCHES:
        numbers = moments // stretch if stretch else np.zeros(len(moments), np.int64)
        first = numbers[bounds[:-1]]
        if np.sum(numbers.max(initial=0) - first + 1) > max(
            _FEW_CHUNKS, _CHUNKS_A_ROW * len(moments)
        ):
            return chosen
        chosen = stretch
        new = (np.diff(numbers, prepend=-1) != 0) | (np.diff(keys, prepend=-1) != 0)
        if np.diff(np.flatnonzero(new), append=len(moments)).max(initial=0) <= most:
            return chosen
    return chosen


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
