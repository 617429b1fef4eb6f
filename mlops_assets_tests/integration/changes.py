"""What a change must recompute, worked out from the contents before and after it, and no engine.

A partition that was there is due where its code changed, or where the content of a partition that
it reads did; one that was not there is due once. Which inputs count is written down here anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

PRODUCT = "flight_delays"
ONCE = {f"{PRODUCT}/predictions", f"{PRODUCT}/shadow_predictions"}
"""What was said stays."""
DECIDED = {f"{PRODUCT}/training_set"}
"""Cut anew by a decision only, or by other code."""
WATCHED = {
    "drift": {"feature_view", "predictions"},
    "evaluation": {"candidate"},
    "bento": {"evaluation"},
    "champion": {"bento"},
}
"""Assets of the product that follow only some of their inputs."""
DATA_VERSION = "dagster/data_version"

Cell = tuple[str, str | None]
"""An asset and a partition of it, None where it has none."""


def contents(instance: dg.DagsterInstance, graph: dg.AssetGraph) -> dict[Cell, str]:
    """The content of everything that is there."""
    found: dict[Cell, str] = {}
    for key in graph.get_all_asset_keys():
        name = key.to_user_string()
        if graph.get(key).partitions_def is not None:
            tags = instance.event_log_storage.get_latest_tags_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION]
            )
            found |= {(name, day): each[DATA_VERSION] for day, each in tags.items()}
        elif event := instance.get_latest_materialization_event(key):
            tags_of_it = event.asset_materialization.tags or {}
            found[name, None] = tags_of_it.get(DATA_VERSION, "")
    return found


def newest(instance: dg.DagsterInstance) -> int:
    """Storage id of the newest materialization."""
    kind = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION)
    records = instance.event_log_storage.get_event_records(kind, limit=1)
    return records[0].storage_id if records else 0


def made_since(instance: dg.DagsterInstance, graph: dg.AssetGraph, mark: int) -> list[Cell]:
    """All that was materialized after a storage id, as often as it was."""
    found: list[Cell] = []
    for key in graph.get_all_asset_keys():
        chosen = dg.AssetRecordsFilter(asset_key=key, after_storage_id=mark)
        records = instance.fetch_materializations(chosen, limit=10_000).records
        found += [(key.to_user_string(), record.partition_key) for record in records]
    return sorted(found, key=str)


def minimal(
    graph: dg.AssetGraph, before: dict[Cell, str], after: dict[Cell, str], code: set[str]
) -> set[Cell]:
    """What had to be computed between two states, but for what arrived.

    Args:
        graph: the graph.
        before: the contents before the change.
        after: the contents when all had followed.
        code: the assets whose own code or settings changed.
    """
    automated = {
        key.to_user_string(): key
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is not None and graph.get(key).parent_keys
    }
    return {
        (name, day)
        for name, day in after
        if name in automated
        and (
            (name, day) not in before
            or (
                name not in ONCE
                and (name in code or (name not in DECIDED and _moved(graph, automated[name], day,
                                                                    before, after)))
            )
        )
    }  # fmt: skip


def _moved(
    graph: dg.AssetGraph,
    key: dg.AssetKey,
    day: str | None,
    before: dict[Cell, str],
    after: dict[Cell, str],
) -> bool:
    return any(before.get(cell) != after.get(cell) for cell in _read(graph, key, day, after))


def _read(
    graph: dg.AssetGraph, key: dg.AssetKey, day: str | None, there: dict[Cell, str]
) -> Iterator[Cell]:
    """The cells that one is made of."""
    watched = WATCHED.get(key.path[-1]) if key.path[0] == PRODUCT else None
    for dep in graph.get(key).assets_def.specs_by_key[key].deps:
        name, mapping = dep.asset_key.to_user_string(), dep.partition_mapping
        if watched and dep.asset_key.path[-1] not in watched:
            continue
        if graph.get(dep.asset_key).partitions_def is None:
            yield name, None
        elif isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
            yield from ((name, each) for each in mapping.partition_keys)
        elif day is None:
            yield from (cell for cell in there if cell[0] == name)
        elif isinstance(mapping, dg.TimeWindowPartitionMapping):
            for offset in range(mapping.start_offset, mapping.end_offset + 1):
                yield name, (date.fromisoformat(day) + timedelta(days=offset)).isoformat()
        else:
            yield name, day
