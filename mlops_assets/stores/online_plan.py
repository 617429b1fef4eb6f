"""A generation of the online store, made ready for the look-ups of one product.

What does not depend on a row is done once a generation; the rest takes microseconds a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec

from mlops_assets.ml.online import Reader, key_of, microseconds
from mlops_assets.ml.point_in_time import PREDICTION_TIME, Definition, Latest
from mlops_assets.stores.online_store import Held, OnlineStoreError, Snapshot, chunk_key

PLANNED = 0
"""The moment at which the spine is looked up: what is planned has no time before it."""


@dataclass(frozen=True)
class Spine:
    """Columns of the spine that are looked up by others where the caller does not give them.

    Attributes:
        table: the spine's table.
        keys: columns that the caller gives and that name a row.
        columns: what is looked up by them.
    """

    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def definition(self) -> Latest:
        """As a look-up, at `PLANNED`."""
        return Latest(self.keys, {c: c for c in self.columns})


class Looked(msgspec.Struct, frozen=True):
    """What was found for one row.

    Attributes:
        values: feature to value, in the order of the look-ups.
        stale: features of tables that end before the row's own time, or that an old copy gave.
        generation: of the store that answered.
    """

    values: dict[str, Any]
    stale: list[str]
    generation: str

    @property
    def missing(self) -> list[str]:
        """Features that are null."""
        return [name for name, value in self.values.items() if value is None]


class Plan:
    """How the look-ups of a product read one generation.

    Args:
        snapshot: the generation.
        lookups: feature table to what is looked up in it, in the model's order.
        spine: what is filled in of a request.
        is_old: whether there may be a newer generation; all that it gives is stale then.

    Raises:
        OnlineStoreError: the generation lacks a table, or what a definition reads of it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        lookups: Mapping[str, Definition],
        spine: Spine | None,
        *,
        is_old: bool = False,
    ) -> None:
        self.snapshot = snapshot
        self.spine = _Table(snapshot, spine.table, spine.definition) if spine else None
        self._tables = [_Table(snapshot, name, each) for name, each in lookups.items()]
        self._features = [name for table in self._tables for name in table.features]
        self._is_old = is_old

    def names(self, row: Mapping[str, Any], into: list[bytes]) -> tuple[int | None, list[int]]:
        """Add the keys of the chunks that a row's look-ups read.

        Returns:
            The row's own moment, and how many were added for each table.
        """
        when = row[PREDICTION_TIME]
        if when is None:
            return None, [0] * len(self._tables)
        at = microseconds(when)
        counts = []
        for table in self._tables:
            names = table.names(row, at)
            counts.append(len(names))
            into += names
        return at, counts

    def looked(
        self, at: int | None, counts: Sequence[int], found: Sequence[bytes | None], begin: int
    ) -> Looked:
        """What a row's look-ups give, from their chunks, which stand in `found` from `begin`."""
        values: list[Any] = []
        stale: list[str] = []
        for table, count in zip(self._tables, counts, strict=True):
            if count and at is not None:
                values += table.reader.values(found[begin : begin + count], at)
                begin += count
            else:
                values += table.nothing
            if at is not None and table.until is not None and at > table.until:
                stale += table.features
        named = dict(zip(self._features, values, strict=True))
        if self._is_old:
            stale = list(self._features)
        return Looked(named, stale, self.snapshot.generation)


class _Table:
    """A table of a generation, with all that does not depend on the row."""

    def __init__(self, snapshot: Snapshot, name: str, definition: Definition) -> None:
        held = _held(snapshot, name)
        try:
            self.reader = Reader.of(held.layout, definition, chunk_key(held.number, b""))
        except ValueError as error:
            raise OnlineStoreError(f"{_said(snapshot)}: {name} {error}") from None
        self.features = definition.features
        self.nothing = (None,) * len(self.features)
        since, until = held.covered.known_from, held.covered.known_through
        self.until = microseconds(until) if until else None
        self._since = microseconds(since) if since else None
        one, *more = definition.keys
        self._key = itemgetter(one, *more) if more else lambda row: (row[one],)

    def names(self, row: Mapping[str, Any], at: int) -> list[bytes]:
        """Keys of the chunks to read; none where it is sure that nothing is known."""
        key = key_of(self._key(row))
        if key is None or (self._since is not None and at < self._since):
            return []
        return self.reader.names(key, at)


def _held(snapshot: Snapshot, name: str) -> Held:
    held = snapshot.held.get(name)
    if held is None:
        raise OnlineStoreError(
            f"{_said(snapshot)} lacks the table {name}; it has {', '.join(sorted(snapshot.held))}"
        )
    return held


def _said(snapshot: Snapshot) -> str:
    return f"generation {snapshot.generation} of {snapshot.product} in the online store"
