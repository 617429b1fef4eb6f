"""What the online store knows of a request's row: the features as they were at its own time.

The same definitions read the store as read the lake. A row is a mapping by column, with the keys of
the look-ups and `prediction_time` (UTC); nothing here is a frame, for one row has to take
microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_assets.ml.online import Reader, key_of, microseconds
from mlops_assets.ml.point_in_time import PREDICTION_TIME, Definition, Latest
from mlops_assets.stores.online_store import OnlineStore, OnlineStoreError, Snapshot, chunk_key

POLL_SECONDS = 1.0
"""How long a generation is taken to be the present one before the store is asked again."""


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
        """As a look-up: what is planned has no time before which it is unknown."""
        return Latest(self.keys, {c: c for c in self.columns})


@dataclass(frozen=True)
class Looked:
    """What was found for one row.

    Attributes:
        values: feature to value, in the order of the look-ups.
        missing: features that are null.
        stale: features of tables that end before the row's own time, or that an old copy gave.
        generation: of the store that answered.
    """

    values: dict[str, Any]
    missing: list[str]
    stale: list[str]
    generation: str


class OnlineFeatures:
    """The look-ups of one product in an online store.

    Args:
        store: where they are.
        product: whose.
        lookups: feature table to what is looked up in it, in the model's order.
        spine: what is filled in of a request.
        copy: a local copy that answers where the store does not; see `keep_copy`.
    """

    def __init__(
        self,
        store: OnlineStore,
        product: str,
        lookups: Mapping[str, Definition],
        spine: Spine | None = None,
        copy: OnlineStore | None = None,
    ) -> None:
        self._store, self._copy = store, copy
        self._product, self._lookups, self._spine = product, dict(lookups), spine
        self._plan: _Plan | None = None
        self._asked = 0.0

    @property
    def snapshot(self) -> Snapshot:
        """The generation that answers now.

        Raises:
            OnlineStoreError: there is none.
        """
        return self._current().snapshot

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the spine's columns filled in where they are absent or null.

        Raises:
            OnlineStoreError: the store does not answer.
        """
        filled = [dict(row) for row in rows]
        if self._spine is None:
            return filled
        plan = self._current()
        lacking = [row for row in filled if any(row.get(c) is None for c in self._spine.columns)]
        table = plan.tables[self._spine.table]
        names = [table.names(row, 0) for row in lacking]
        found = iter(self._store.get_many(plan.snapshot, [n for each in names for n in each]))
        for row, each in zip(lacking, names, strict=True):
            values = table.reader.values([next(found) for _ in each], 0) if each else ()
            for column, value in zip(self._spine.columns, values, strict=False):
                if row.get(column) is None:
                    row[column] = value
        for row in lacking:
            for column in self._spine.columns:
                row.setdefault(column, None)
        return filled

    def look_up(self, rows: Sequence[Mapping[str, Any]]) -> list[Looked]:
        """The features of each row at its own `prediction_time`, by one request to the store.

        Raises:
            OnlineStoreError: the store does not answer.
        """
        plan = self._current()
        ats = [_moment(row) for row in rows]
        names = [
            table.names(row, at) if at is not None else []
            for row, at in zip(rows, ats, strict=True)
            for table in plan.looked_up
        ]
        found = iter(self._store.get_many(plan.snapshot, [n for each in names for n in each]))
        asked = iter(names)
        return [plan.looked(at, asked, found) for at in ats]

    def _current(self) -> _Plan:
        now = time.monotonic()
        if self._plan is None or now - self._asked > POLL_SECONDS:
            snapshot = self._store.snapshot(self._product)
            if self._plan is None or snapshot.generation != self._plan.snapshot.generation:
                self._plan = _Plan.of(snapshot, self._lookups, self._spine)
            self._asked = now
        return self._plan


def _moment(row: Mapping[str, Any]) -> int | None:
    at: datetime | None = row[PREDICTION_TIME]
    return None if at is None else microseconds(at)


@dataclass(frozen=True)
class _Table:
    """A table of the generation that answers, with all that does not depend on the row."""

    number: int
    reader: Reader
    since: int | None
    until: int | None

    def names(self, row: Mapping[str, Any], at: int) -> list[bytes]:
        """Keys of the chunks to read; none where it is sure that nothing is known."""
        definition = self.reader.definition
        key = key_of([row[k] for k in definition.keys])
        if key is None or (self.since is not None and at < self.since):
            return []
        return [chunk_key(self.number, name) for name in self.reader.names(key, at)]


@dataclass(frozen=True)
class _Plan:
    """A generation, ready to be read."""

    snapshot: Snapshot
    tables: dict[str, _Table]
    looked_up: tuple[_Table, ...]

    @classmethod
    def of(
        cls, snapshot: Snapshot, lookups: Mapping[str, Definition], spine: Spine | None
    ) -> _Plan:
        wanted = dict(lookups) | ({spine.table: spine.definition} if spine else {})
        tables = {}
        for name, definition in wanted.items():
            held = snapshot.held.get(name)
            if held is None:
                raise OnlineStoreError(f"generation {snapshot.generation} lacks the table {name}")
            try:
                reader = Reader(held.layout, definition)
            except ValueError as error:
                raise OnlineStoreError(
                    f"generation {snapshot.generation}: {name} {error}"
                ) from None
            since, until = held.covered.known_from, held.covered.known_through
            tables[name] = _Table(
                held.number,
                reader,
                microseconds(since) if since else None,
                microseconds(until) if until else None,
            )
        return cls(snapshot, tables, tuple(tables[name] for name in lookups))

    def looked(self, at: int | None, asked: Any, found: Any) -> Looked:
        values: dict[str, Any] = {}
        stale: list[str] = []
        for table in self.looked_up:
            names = next(asked)
            features = table.reader.definition.features
            if names:
                assert at is not None
                row = table.reader.values([next(found) for _ in names], at)
                values.update(zip(features, row, strict=True))
            else:
                values.update(dict.fromkeys(features))
            if at is not None and table.until is not None and at > table.until:
                stale.extend(features)
        missing = [name for name, value in values.items() if value is None]
        return Looked(values, missing, stale, self.snapshot.generation)
