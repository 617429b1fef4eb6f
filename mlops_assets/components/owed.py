"""What automation asked for and no run has finished yet, kept in the Dagster instance.

The automation cursor and this list are written together before the runs begin, and an entry leaves
the list when its run has succeeded. So a process that is killed at any moment, or a run that fails,
is followed by one that does the rest, and nothing is asked for twice or forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

_CURSOR = "mlops/engine"
_OWED = "mlops/owed"

Requests = dict[dg.AssetKey, set[str | None]]


class Owed:
    """The cursor and the open requests of one instance."""

    def __init__(self, instance: dg.DagsterInstance, graph: BaseAssetGraph) -> None:
        self._instance = instance
        self._graph = graph
        kept = instance.daemon_cursor_storage.get_cursor_values({_CURSOR, _OWED})
        self.cursor = kept.get(_CURSOR)
        known = graph.get_all_asset_keys()
        listed = json.loads(kept.get(_OWED, "{}")).items()
        keys = {dg.AssetKey.from_user_string(name): set(parts) for name, parts in listed}
        self._open: Requests = {key: parts for key, parts in keys.items() if key in known}

    def add(self, requested: Mapping[dg.AssetKey, Set[str | None]], cursor: str) -> None:
        """Note a tick's requests and the cursor after it."""
        for key, partitions in requested.items():
            self._open.setdefault(key, set()).update(partitions)
        self.cursor = cursor
        self._keep()

    def done(self, assets: Sequence[dg.AssetKey], partitions: Sequence[str]) -> None:
        """Strike out what a run has finished."""
        struck: set[str | None] = set(partitions) or {None}
        for key in assets:
            rest = self._open.get(key, set()) - struck
            if rest:
                self._open[key] = rest
            else:
                self._open.pop(key, None)
        self._keep()

    def ready(self) -> Requests:
        """The open requests whose inputs are there; what waits for a failed input stays open."""
        there = {
            parent: set(self._instance.get_materialized_partitions(parent))
            for key in self._open
            for parent in self._graph.get(key).parent_keys
            if self._graph.get(parent).is_partitioned
        }
        found = {
            key: {p for p in partitions if self._has_inputs(key, p, there)}
            for key, partitions in self._open.items()
        }
        return {key: partitions for key, partitions in found.items() if partitions}

    def _has_inputs(
        self, key: dg.AssetKey, partition: str | None, there: Mapping[dg.AssetKey, Set[str]]
    ) -> bool:
        parents = self._graph.get_parents_partitions(key, partition).parent_partitions
        whole = {p.asset_key for p in parents if p.partition_key is None}
        if any(self._instance.get_latest_materialization_event(parent) is None for parent in whole):
            return False
        # An asset without partitions reads whatever days its input has.
        return partition is None or all(
            p.partition_key in there[p.asset_key] for p in parents if p.partition_key is not None
        )

    def _keep(self) -> None:
        listed = {k.to_user_string(): sorted(v, key=str) for k, v in self._open.items()}
        values = {_OWED: json.dumps(listed)} | ({_CURSOR: self.cursor} if self.cursor else {})
        self._instance.daemon_cursor_storage.set_cursor_values(values)
