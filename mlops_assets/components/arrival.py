"""Days of the source arrive: the clock of everything that follows.

"Today" is the newest day that is there, never the wall clock, so that a walk through a past year
and a living system are the same code. `mlops advance` and the arrival schedule both ask here which
day is next.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from mlops_assets.components.tables.publish import WITHHELD
from mlops_assets.components.tables.table_asset import ARRIVES


@dataclass(frozen=True)
class Source:
    """The raw tables of a graph whose days arrive, and what an instance has of them."""

    graph: BaseAssetGraph[Any]
    instance: dg.DagsterInstance

    @cached_property
    def tables(self) -> list[dg.AssetKey]:
        """The daily raw tables, in the order of the graph."""
        keys = self.graph.toposorted_asset_keys
        return [k for k in keys if self.graph.get(k).tags.get(ARRIVES) == "daily"]

    @cached_property
    def days(self) -> list[date]:
        """All local days that these tables have or will have, in order."""
        keys = [set(self._partitions(t).get_partition_keys()) for t in self.tables]
        return [date.fromisoformat(k) for k in sorted(set.intersection(*keys))] if keys else []

    def days_there(self) -> set[date]:
        """Days of which every table is published."""
        there = [set(self.instance.get_materialized_partitions(t)) for t in self.tables]
        return {date.fromisoformat(k) for k in set.intersection(*there)} if there else set()

    def next_days(self, count: int) -> list[date]:
        """The days after the newest one that came, at most `count`.

        A day came when every table has it or has refused it. So a day that is withheld does not
        stop the clock, and a day whose run was killed halfway is next again.

        Raises:
            LookupError: when the source has no further day.
        """
        there = self.days_there()
        newest = max(there, default=date.min)
        following = [d for d in self.days if d > newest]
        while following and self._was_refused(following[0]):
            newest = following.pop(0)
        if not following:
            raise LookupError(f"the source ends with {newest}; there is no further day")
        return following[:count]

    def _partitions(self, table: dg.AssetKey) -> dg.PartitionsDefinition[str]:
        definition = self.graph.get(table).partitions_def
        assert definition is not None
        return definition

    def _was_refused(self, day: date) -> bool:
        """Whether the day is missing somewhere, and only where it was withheld.

        One that could not be read, or whose process was killed, was not judged: it is next again.
        """
        found = {
            t: self.instance.get_status_by_partition(t, [day.isoformat()], self._partitions(t))
            or {}
            for t in self.tables
        }
        statuses = {t: status.get(day.isoformat()) for t, status in found.items()}
        failed = [t for t, s in statuses.items() if s == AssetPartitionStatus.FAILED]
        ended = {AssetPartitionStatus.MATERIALIZED, AssetPartitionStatus.FAILED}
        return (
            bool(failed)
            and set(statuses.values()) <= ended
            and all(self._was_withheld(table, day) for table in failed)
        )

    def _was_withheld(self, table: dg.AssetKey, day: date) -> bool:
        """Whether the newest run of a missing day failed because it withheld that day."""
        log = self.instance.event_log_storage
        tried = log.get_latest_asset_partition_materialization_attempts_without_materializations(
            table
        )
        run_id, _ = tried[day.isoformat()]
        ended = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        said = [entry.get_dagster_event().step_failure_data.user_failure_data for entry in ended]
        return any(failure and WITHHELD in failure.metadata for failure in said)
