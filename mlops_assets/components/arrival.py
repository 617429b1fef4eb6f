"""Days of the source arrive: the clock of everything that follows.

"Today" is the newest day that is there, never the wall clock, so that a walk through a past year
and a living system are the same code. Each domain, which is the folder of its raw tables, has a
clock of its own. `mlops advance` and the arrival schedules both ask here which day is next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from mlops_assets.components.periods import periods_of_asset
from mlops_assets.components.tables.publish import WITHHELD
from mlops_assets.components.tables.table_asset import ARRIVES
from mlops_assets.ml.periods import name_of, named

KEPT_BACK = 31
"""Greatest number of days of a bounded source that `demo` leaves to come one by one."""


@dataclass(frozen=True)
class Source:
    """The raw tables of a domain whose days arrive, and what an instance has of them."""

    graph: BaseAssetGraph[Any]
    instance: dg.DagsterInstance
    domain: str

    @cached_property
    def tables(self) -> list[dg.AssetKey]:
        """The daily raw tables, in the order of the graph."""
        return [k for k in _arriving(self.graph) if k.path[0] == self.domain]

    @cached_property
    def days(self) -> list[date]:
        """All local days, or other periods, that these tables have or will have, in order."""
        keys = [set(self._partitions(t).get_partition_keys()) for t in self.tables]
        return [named(k) for k in sorted(set.intersection(*keys))] if keys else []

    def ended_by(self, day: date) -> list[date]:
        """Those of them that have ended by a day."""
        return [p for p in self.days if periods_of_asset(self.tables[0]).last_day(p) <= day]

    def days_there(self) -> set[date]:
        """Days of which every table is published."""
        there = [set(self.instance.get_materialized_partitions(t)) for t in self.tables]
        return {named(k) for k in set.intersection(*there)} if there else set()

    @property
    def usual(self) -> list[date]:
        """Those of a first filling: some stay to come, unless the source is open-ended.

        That is a month, or a tenth of what the source has.
        """
        ends = [getattr(self._partitions(t), "end", None) for t in self.tables]
        kept = min(KEPT_BACK, len(self.days) // 10) if all(ends) else 0
        return self.days[: len(self.days) - kept]

    def next_days(self, count: int) -> list[date]:
        """The days after the newest one that came, at most `count`.

        A day came when every table has it or has refused it. So a day that is withheld does not
        stop the clock, and a day whose run was killed halfway is next again.

        Raises:
            LookupError: when the source has no further day.
        """
        there = self.days_there()
        newest = max(there, default=None)
        following = [d for d in self.days if newest is None or d > newest]
        while following and self._was_refused(following[0]):
            newest = following.pop(0)
        if not following:
            raise LookupError(
                f"{self.domain}: the source ends with {newest}; there is no further day"
            )
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
            t: self.instance.get_status_by_partition(t, [name_of(day)], self._partitions(t)) or {}
            for t in self.tables
        }
        statuses = {t: status.get(name_of(day)) for t, status in found.items()}
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
        run_id, _ = tried[name_of(day)]
        ended = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        said = [entry.get_dagster_event().step_failure_data.user_failure_data for entry in ended]
        return any(failure and WITHHELD in failure.metadata for failure in said)


def sources(graph: BaseAssetGraph[Any], instance: dg.DagsterInstance) -> list[Source]:
    """The sources of a graph, one a domain, in the order of the graph."""
    domains = dict.fromkeys(key.path[0] for key in _arriving(graph))
    return [Source(graph, instance, domain) for domain in domains]


def _arriving(graph: BaseAssetGraph[Any]) -> Iterator[dg.AssetKey]:
    for key in graph.toposorted_asset_keys:
        if graph.get(key).tags.get(ARRIVES) == "daily":
            yield key
