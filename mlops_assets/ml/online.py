"""Look-ups of single rows in a packed feature table: what `look_up` gives, in microseconds.

The rows of a key are cut into stretches of time; each is one chunk of bytes that begins with what
was before it (online_pack.py), so that a look-up at a moment reads the chunk of that moment and no
other. A trailing window is the difference of two such look-ups in running sums, exactly as offline.
Times are whole microseconds since 1970 (UTC). No I/O: where the chunks lie is the caller's.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from mlops_assets.ml.point_in_time import Definition, Latest, Trailing

HOUR = 3_600_000_000
"""In microseconds; the shortest stretch of time that a chunk has."""
_LONGEST_KEY = 200
_US = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_FIRST, _LAST = -(2**30) * HOUR, 2**30 * HOUR
_ONE = struct.Struct("<q").unpack_from
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list).decode


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
        if lost := sorted(set(columns_of(definition)) - set(layout.columns)):
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
        if at > ends:
            return [numbered(min(at - back, ends) // stretch) + key for back in self._backs]
        return [numbered((at - back) // stretch) + key for back in self._backs]

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
            (self._places[above], None if below is None else self._places[below])
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
                total = now[above] - sums[above]
                if below is None:
                    values.append(total)
                    continue
                count = now[below] - sums[below]
                values.append(total / count if count > 0 else None)
        return values


def columns_of(definition: Definition) -> tuple[str, ...]:
    """What a look-up reads of each row, beside keys and times."""
    if isinstance(definition, Trailing):
        return definition.sums
    return tuple(dict.fromkeys(definition.columns.values()))
