"""What the online store knows of a request's row: the features as they were at its own time.

The same definitions read the store as read the lake. A row is a mapping by column, with the keys of
the look-ups and `prediction_time` (UTC); nothing here is a frame, for one row has to take
microseconds. Where the store does not answer, a local copy does, and all that it gives is stale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlops_assets.ml.point_in_time import Definition
from mlops_assets.stores.online_plan import PLANNED, Looked, Plan, Spine
from mlops_assets.stores.online_store import (
    GenerationGone,
    OnlineStore,
    OnlineStoreError,
    Snapshot,
    copy,
)

__all__ = ["Looked", "OnlineFeatures", "Spine"]

POLL_SECONDS = 1.0
"""How long a generation is taken to be the present one before the store is asked again."""
REST_SECONDS = 1.0
"""How long a store that did not answer is left alone while there is a copy."""

T = TypeVar("T")


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
        self._spine = spine
        self._product = product
        self._first = _Source(store, product, lookups, spine, is_old=False)
        self._second = _Source(copy, product, lookups, spine, is_old=True) if copy else None
        self._rests_until = 0.0
        self._failed: OnlineStoreError | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The generation that answers now.

        Raises:
            OnlineStoreError: there is none.
        """
        return self._answer(lambda store, plan: plan.snapshot)

    @property
    def generation(self) -> str:
        """Its name; errors as in `snapshot`."""
        return self.snapshot.generation

    def keep_copy(self) -> None:
        """Keep the present generation in the copy too; for a thread that calls it every second.

        Raises:
            OnlineStoreError: the store does not answer; the copy stays as it is.
        """
        if self._second is not None:
            copy(self._first.store, self._second.store, self._product)

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the spine's columns filled in where they are absent or null.

        Raises:
            OnlineStoreError: neither the store nor a copy answers.
        """
        spine = self._spine
        if spine is None:
            return [dict(row) for row in rows]
        filled = [{**dict.fromkeys(spine.columns), **row} for row in rows]
        lacking = [row for row in filled if None in [row[c] for c in spine.columns]]
        if lacking:
            planned = self._answer(lambda store, plan: _planned(store, plan, lacking))
            for row, values in zip(lacking, planned, strict=True):
                for column, value in zip(spine.columns, values, strict=True):
                    if row[column] is None:
                        row[column] = value
        return filled

    def look_up(self, rows: Sequence[Mapping[str, Any]]) -> list[Looked]:
        """The features of each row at its own `prediction_time`, by one request to the store.

        Raises:
            OnlineStoreError: neither the store nor a copy answers.
        """
        return self._answer(lambda store, plan: _looked(store, plan, rows))

    def _answer(self, ask: Callable[[OnlineStore, Plan], T]) -> T:
        first, second = self._first, self._second
        if second is None:
            return first.answer(ask)
        if time.monotonic() >= self._rests_until:
            try:
                return first.answer(ask)
            except OnlineStoreError as error:
                # Each request would wait for it anew.
                self._rests_until = time.monotonic() + REST_SECONDS
                self._failed = error
        try:
            return second.answer(ask)
        except OnlineStoreError as error:
            raise OnlineStoreError(f"{self._failed}; nor does its copy: {error}") from None


class _Source:
    """A store, and its present generation as far as it was asked."""

    def __init__(
        self,
        store: OnlineStore,
        product: str,
        lookups: Mapping[str, Definition],
        spine: Spine | None,
        *,
        is_old: bool,
    ) -> None:
        self.store = store
        self._product, self._lookups, self._spine = product, dict(lookups), spine
        self._is_old = is_old
        self._plan: Plan | None = None
        self._asked_at = 0.0

    def answer(self, ask: Callable[[OnlineStore, Plan], T]) -> T:
        """Ask the present generation; a newer one where it has gone meanwhile."""
        try:
            return ask(self.store, self._present())
        except GenerationGone:
            self._plan = None
            return ask(self.store, self._present())

    def _present(self) -> Plan:
        now = time.monotonic()
        plan = self._plan
        if plan is None or now - self._asked_at > POLL_SECONDS:
            snapshot = self.store.snapshot(self._product)
            if plan is None or snapshot.generation != plan.snapshot.generation:
                plan = Plan(snapshot, self._lookups, self._spine, is_old=self._is_old)
            self._plan, self._asked_at = plan, now
        return plan


def _looked(store: OnlineStore, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[Looked]:
    names: list[bytes] = []
    asked = [plan.names(row, names) for row in rows]
    found = store.get_many(plan.snapshot, names)
    looked, begin = [], 0
    for at, counts in asked:
        looked.append(plan.looked(at, counts, found, begin))
        begin += sum(counts)
    return looked


def _planned(
    store: OnlineStore, plan: Plan, rows: Sequence[Mapping[str, Any]]
) -> list[Sequence[Any]]:
    table = plan.spine
    assert table is not None
    names = [table.names(row, PLANNED) for row in rows]
    found = iter(store.get_many(plan.snapshot, [name for each in names for name in each]))
    return [
        table.reader.values([next(found)], PLANNED) if each else table.nothing for each in names
    ]
