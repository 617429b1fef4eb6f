"""What each partition was made of, and whether that is still so.

A materialization shows the content of every input that its step read, as metadata; its data version
and code version are Dagster's own tags. Held against what is there now they say what is out of date
and why, from the state alone. No cursor is kept, so that the daemon, `mlops plan` and `mlops apply`
see the same, and a process that is killed leaves nothing behind that another must know.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from mlops_assets.components.code_version import difference
from mlops_assets.components.periods import partitions_around
from mlops_assets.stores.content import combine

INPUTS = "inputs"
"""Metadata of a materialization: input table to the content that was read of it."""
TRIED = "mlops/tried"
"""Tag of an observation: what a partition would have been made of, had the step not failed."""
_DATA_VERSION = "dagster/data_version"
_CODE_VERSION = "dagster/code_version"
_PAGE = 1000

Partition = str | None
Contents = dict[str, str]
"""Input table, "domain/table", to the content of its partitions that are read."""


@dataclass(frozen=True)
class Made:
    """One materialization: what came out, and of what."""

    storage_id: int
    data_version: str
    code_version: str
    inputs: Contents | None
    run_id: str


@dataclass
class _Known:
    """What was read of one asset's events so far."""

    newest: int = 0
    partitions: dict[Partition, list[Made]] = field(default_factory=dict)
    observed: int = 0
    tried: dict[Partition, str] = field(default_factory=dict)
    """Partition to what it would have been made of when its step last failed."""


class Provenance:
    """What the events of one instance say, read once and then only what is new."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._known: dict[dg.AssetKey, _Known] = {}
        self._now: dict[tuple[dg.AssetKey, Partition], Contents] = {}
        self._tick: object = None
        self.retries = False
        """Whether what failed is due again although nothing changed since: a person asks for it."""

    def refresh(self, keys: Iterable[dg.AssetKey], tick: object = None) -> None:
        """Read what is new of these assets; once a `tick`, where one is given."""
        if tick is not None and tick is self._tick:
            return
        self._tick = tick
        self.look_again(keys)

    def look_again(self, keys: Iterable[dg.AssetKey]) -> None:
        """Read what is new of these assets, also within a tick."""
        self._now.clear()
        for record in self._instance.get_asset_records(list(keys)):
            newest = record.asset_entry.last_materialization_storage_id or 0
            known = self._known.get(record.asset_entry.asset_key)
            if known is None or newest < known.newest:  # wiped since
                known = self._known[record.asset_entry.asset_key] = _Known()
            if newest > known.newest:
                self._read(record.asset_entry.asset_key, known)

    def made(self, key: dg.AssetKey) -> dict[Partition, Made]:
        """Partition (None for an asset without) to its newest materialization."""
        known = self._known.get(key)
        return {p: history[-1] for p, history in known.partitions.items()} if known else {}

    def contents(
        self, spec: dg.AssetSpec, partition: Partition, before: int | None = None
    ) -> Contents:
        """What the inputs of a partition are now, or were before a storage id."""
        if before is None and (spec.key, partition) in self._now:
            return self._now[(spec.key, partition)]
        found = {}
        for dep in spec.deps:
            known = self._known.get(dep.asset_key)
            there = known.partitions if known else {}
            at = partial(_version_at, there, before)
            content = _content(spec.key, dep, partition, there, at)
            found["/".join(dep.asset_key.path)] = content
        if before is None:
            self._now[(spec.key, partition)] = found
        return found

    def changed_inputs(self, spec: dg.AssetSpec, partition: Partition) -> list[str]:
        """Inputs whose content differs from what a partition, which is there, was made of."""
        made = self.made_last(spec.key, partition)
        if made is None:
            return []
        # An asset of another's making records no inputs; they are what was there before it.
        then = (
            self.contents(spec, partition, made.storage_id) if made.inputs is None else made.inputs
        )
        now = self.contents(spec, partition)
        return [name for name, content in now.items() if then.get(name) != content]

    def made_last(self, key: dg.AssetKey, partition: Partition) -> Made | None:
        """The newest materialization of a partition, or None."""
        known = self._known.get(key)
        history = known.partitions.get(partition) if known else None
        return history[-1] if history else None

    def code_changes(self, spec: dg.AssetSpec, partition: Partition) -> list[str]:
        """How the code version differs from that of a partition, which is there."""
        made = self.made_last(spec.key, partition)
        if made is None or not made.code_version or spec.code_version is None:
            return []
        return difference(made.code_version, spec.code_version)

    def failed(self, spec: dg.AssetSpec) -> set[Partition]:
        """Partitions whose step has failed on just what there is now."""
        if self.retries:
            return set()
        known = self._known.setdefault(spec.key, _Known())
        for observed in _pages(self._instance.fetch_observations, spec.key, known.observed):
            observation = observed.event_log_entry.asset_observation
            known.observed = observed.storage_id
            if observation is not None and TRIED in observation.tags:
                known.tried[observed.partition_key] = observation.tags[TRIED]
        return {p for p, with_what in known.tried.items() if with_what == self.signature(spec, p)}

    def signature(self, spec: dg.AssetSpec, partition: Partition) -> str:
        """All that a partition would be made of now, in one hash."""
        return signature(spec, self.contents(spec, partition))

    def _read(self, key: dg.AssetKey, known: _Known) -> None:
        for record in _pages(self._instance.fetch_materializations, key, known.newest):
            materialization = record.event_log_entry.asset_materialization
            assert materialization is not None
            tags = materialization.tags or {}
            inputs: Any = materialization.metadata.get(INPUTS)
            made = Made(
                record.storage_id, tags.get(_DATA_VERSION, ""), tags.get(_CODE_VERSION, ""),
                inputs.value if inputs else None, record.run_id,
            )  # fmt: skip
            known.partitions.setdefault(record.partition_key, []).append(made)
            known.newest = record.storage_id


_OF: WeakKeyDictionary[dg.DagsterInstance, Provenance] = WeakKeyDictionary()


def provenance_of(instance: dg.DagsterInstance) -> Provenance:
    """The one provenance of an instance in this process."""
    return _OF.setdefault(instance, Provenance(instance))


def spec_of(graph: BaseAssetGraph[Any], key: dg.AssetKey) -> dg.AssetSpec:
    """The declaration of an asset of a graph of definitions."""
    return graph.get(key).assets_def.specs_by_key[key]


def contents_now(
    instance: dg.DagsterInstance, spec: dg.AssetSpec, partitions: Sequence[Partition]
) -> dict[Partition, Contents]:
    """What the inputs of partitions are now, asked of the instance without their history."""
    found: dict[Partition, Contents] = {partition: {} for partition in partitions}
    for dep in spec.deps:
        there = _versions_there(instance, spec.key, dep, partitions)
        for partition in partitions:
            content = _content(spec.key, dep, partition, there, there.get)
            found[partition]["/".join(dep.asset_key.path)] = content
    return found


def signature(spec: dg.AssetSpec, contents: Contents) -> str:
    """All that a partition is made of, in one hash."""
    return combine(code=spec.code_version or "", **contents)


def newest_data_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """What an asset without partitions last said that it is; None where it never was made."""
    newest = instance.get_latest_materialization_event(key)
    if newest is None or newest.asset_materialization is None:
        return None
    return (newest.asset_materialization.tags or {}).get(_DATA_VERSION)


def _versions_there(
    instance: dg.DagsterInstance,
    reader: dg.AssetKey,
    dep: dg.AssetDep,
    partitions: Sequence[Partition],
) -> dict[Partition, str]:
    newest = instance.get_latest_materialization_event(dep.asset_key)
    if newest is None or newest.asset_materialization is None:
        return {}
    if newest.asset_materialization.partition is None:
        return {None: (newest.asset_materialization.tags or {}).get(_DATA_VERSION, "")}
    read = [partitions_read(reader, dep, partition) for partition in partitions]
    wanted = None if None in read else sorted({p for names in read for p in names or () if p})
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dep.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, [_DATA_VERSION], wanted
    )
    return {name: found[_DATA_VERSION] for name, found in tags.items()}


def _content(
    reader: dg.AssetKey,
    dep: dg.AssetDep,
    partition: Partition,
    there: Collection[Partition],
    version: Callable[[Partition], str | None],
) -> str:
    """What a partition reads of one input, as 16 hex digits; empty where nothing is there."""
    names = [None] if None in there else partitions_read(reader, dep, partition)
    found = {
        name or "": each
        for name in (sorted(there, key=str) if names is None else names)
        if (each := version(name)) is not None
    }
    return (next(iter(found.values()), "") if len(found) < 2 else combine(**found))[:16]


def _version_at(
    there: Mapping[Partition, Sequence[Made]], before: int | None, partition: Partition
) -> str | None:
    history = there.get(partition, ())
    if before is not None:
        history = history[: bisect_left(history, before, key=lambda made: made.storage_id)]
    return history[-1].data_version if history else None


def partitions_read(
    reader: dg.AssetKey, dep: dg.AssetDep, partition: Partition
) -> Sequence[Partition] | None:
    """Partitions of an input, which has some, that a partition reads; None for all there are."""
    mapping = dep.partition_mapping
    if isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
        return list(mapping.partition_keys)
    if partition is None:
        return None
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        off = mapping.start_offset, mapping.end_offset
        return partitions_around(reader, dep.asset_key, partition, *off)
    return partitions_around(reader, dep.asset_key, partition, 0, 0)


def _pages(fetch: Any, key: dg.AssetKey, after: int) -> Iterable[dg.EventLogRecord]:
    chosen = dg.AssetRecordsFilter(asset_key=key, after_storage_id=after)
    cursor = None
    while True:
        page = fetch(chosen, limit=_PAGE, cursor=cursor, ascending=True)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor
