"""The engine of change, in process: tick the graph's automation conditions until nothing is due.

The daemon evaluates the same conditions on the same graph. Here a tick's requests run at once, in
topological order; many days of one asset are one run. Conditions keep no cursor, so what a killed
run left undone is due again at the next tick. What failed is not asked for again by the same
settling, but by the next: a person, who calls it, may have mended what was wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any, Protocol

import dagster as dg
from dagster._utils.warnings import disable_dagster_warnings

from mlops_assets.components.arrival import Source, sources
from mlops_assets.components.provenance import Partition, provenance_of, spec_of
from mlops_assets.ml.periods import name_of

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
MAX_TICKS = 200

Requests = dict[dg.AssetKey, set[str | None]]

log = logging.getLogger("mlops")


@dataclass(frozen=True)
class Done:
    """One run: the assets, the partitions (empty for none), how long, and why it failed."""

    assets: tuple[str, ...]
    partitions: tuple[str, ...]
    seconds: float
    error: str | None = None


@dataclass
class Report:
    """All runs of one settling, in order."""

    runs: list[Done] = field(default_factory=list)
    ticks: int = 0

    @property
    def recomputed(self) -> dict[str, int]:
        """Asset to the number of partitions (or whole assets) that were computed."""
        counts: dict[str, int] = {}
        for run in self.runs:
            for asset in run.assets if run.error is None else ():
                counts[asset] = counts.get(asset, 0) + max(1, len(run.partitions))
        return counts

    @property
    def seconds(self) -> dict[str, float]:
        """Asset (the first of a run) to the seconds that its runs took."""
        spent: dict[str, float] = {}
        for run in self.runs:
            spent[run.assets[0]] = round(spent.get(run.assets[0], 0.0) + run.seconds, 3)
        return spent

    @property
    def errors(self) -> list[str]:
        """What went wrong, run by run."""
        return [f"{', '.join(r.assets)}: {r.error}" for r in self.runs if r.error]


class Listener(Protocol):
    """Who is told of runs."""

    def begin(self, assets: tuple[str, ...], partitions: tuple[str, ...]) -> None:
        """A run begins."""

    def end(self, done: Done) -> None:
        """A run has ended."""


class Engine:
    """Runs a graph in this process, against one Dagster instance."""

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        listener: Listener | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.definitions = definitions
        self.instance = instance
        self.graph = definitions.resolve_asset_graph()
        self.sources = sources(self.graph, instance)
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self._order = {k: i for i, k in enumerate(self.graph.toposorted_asset_keys)}
        self._listener = listener
        self._tags = tags or {}

    def settle(self, report: Report | None = None) -> Report:
        """Tick until no condition asks for anything.

        Raises:
            RuntimeError: when it does not come to rest within MAX_TICKS.
        """
        report = report or Report()
        provenance_of(self.instance).retries = True
        tried: set[tuple[dg.AssetKey, Partition, str]] = set()
        for _ in range(MAX_TICKS):
            requested = self._not_tried(self.due(), tried)
            report.ticks += 1
            if not requested:
                return report
            failed = self._run_all(requested, report)
            self._not_tried(failed, tried)
        raise RuntimeError(
            f"automation has not come to rest in {MAX_TICKS} ticks; the last asked for"
            f" {sorted(k.to_user_string() for k in requested)}"
        )

    def _not_tried(
        self, requested: Requests, tried: set[tuple[dg.AssetKey, Partition, str]]
    ) -> Requests:
        """What this settling has not run yet on the same code and inputs."""
        provenance = provenance_of(self.instance)
        provenance.refresh(self._order)
        left: Requests = {}
        for key, partitions in requested.items():
            spec = spec_of(self.graph, key)
            for partition in partitions:
                attempt = (key, partition, provenance.signature(spec, partition))
                if attempt not in tried:
                    tried.add(attempt)
                    left.setdefault(key, set()).add(partition)
        return left

    def _run_all(self, requested: Requests, report: Report) -> Requests:
        """Upstream first; what is downstream of a failed run waits. Gives what failed."""
        failed: set[dg.AssetKey] = set()
        errors: Requests = {}
        for assets, partitions in self._runs(requested):
            ready = [key for key in assets if not self._parents(key) & failed]
            failed |= set(assets) - set(ready)
            if not ready:
                continue
            done = self.run(ready, partitions)
            report.runs.append(done)
            if done.error:
                failed |= set(ready)
                errors.update({key: set(partitions) if partitions else {None} for key in ready})
        return errors

    def run(
        self,
        assets: Sequence[dg.AssetKey],
        partitions: Sequence[str] = (),
        run_config: Mapping[str, Any] | None = None,
    ) -> Done:
        """Materialize assets for a contiguous range of partitions, as one run in this process."""
        tags = dict(self._tags)
        if len(partitions) > 1:
            tags |= {_RANGE_START: partitions[0], _RANGE_END: partitions[-1]}
        return self._execute(
            self._job,
            tuple(k.to_user_string() for k in assets),
            tuple(partitions),
            asset_selection=list(assets),
            partition_key=partitions[0] if len(partitions) == 1 else None,
            tags=tags,
            run_config={**_QUIET, **(run_config or {})},
        )

    def run_job(
        self, name: str, run_config: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Done:
        """Run one of the graph's jobs in this process."""
        job = self.definitions.resolve_job_def(name)
        keys = job.asset_layer.executable_asset_keys
        names = tuple(k.to_user_string() for k in self._order if k in keys)
        return self._execute(
            job, names, (), tags={**self._tags, **(tags or {})}, run_config={**_QUIET, **run_config}
        )

    def _execute(
        self,
        job: dg.JobDefinition,
        assets: tuple[str, ...],
        partitions: tuple[str, ...],
        **options: Any,
    ) -> Done:
        if self._listener:
            self._listener.begin(assets, partitions)
        started = time.perf_counter()
        result = job.execute_in_process(instance=self.instance, raise_on_error=False, **options)
        error = None if result.success else _reason(result)
        done = Done(assets, partitions, time.perf_counter() - started, error)
        if self._listener:
            self._listener.end(done)
        return done

    def source_of(self, table: str) -> Source:
        """The source whose days are the clock of a table, "domain/table".

        Raises:
            LookupError: when no daily raw table is of its domain.
        """
        domain = table.partition("/")[0]
        for source in self.sources:
            if source.domain == domain:
                return source
        raise LookupError(f"{table}: no raw table of {domain} has days that arrive")

    def arrive(self, days: Sequence[date], report: Report, source: Source | None = None) -> None:
        """Materialize a source, or all, for days that have arrived, one run a table."""
        keys = {name_of(d) for d in days}
        for table in (t for each in ([source] if source else self.sources) for t in each.tables):
            for span in self._spans(table, keys):
                report.runs.append(self.run([table], span))

    def partition_keys(self, key: dg.AssetKey) -> Sequence[str]:
        """Names of the partitions of an asset, in order; none where it has none."""
        definition = self.graph.get(key).partitions_def
        if definition is None:
            return []
        return definition.get_partition_keys(dynamic_partitions_store=self.instance)

    def _parents(self, key: dg.AssetKey) -> set[dg.AssetKey]:
        return set(self.graph.get(key).parent_keys)

    def due(self) -> Requests:
        """What the conditions ask for now, upstream first."""
        with disable_dagster_warnings(), _silent("dagster.automation_condition_tester", "dagster"):
            result = dg.evaluate_automation_conditions(self.definitions, self.instance)
        return {
            key: set(result.get_requested_partitions(key))
            for key in self._order
            if result.get_num_requested(key)
        }

    def _runs(self, requested: Requests) -> Iterator[tuple[list[dg.AssetKey], list[str]]]:
        """Runs of a tick, upstream first; assets that ask for the same one day share a run."""
        spans = [
            (key, span)
            for key in sorted(requested, key=self._order.__getitem__)
            for span in self._spans(key, requested[key])
        ]
        for alone, group in groupby(spans, key=lambda s: tuple(s[1]) if len(s[1]) == 1 else None):
            members = list(group)
            if alone:
                yield [key for key, _ in members], list(alone)
            else:
                yield from (([key], span) for key, span in members)

    def _spans(self, key: dg.AssetKey, partitions: Set[str | None]) -> list[list[str]]:
        if self.graph.get(key).partitions_def is None:
            return [[]]
        span: list[str] = []
        spans = [span]
        for name in self.partition_keys(key):
            if name in partitions:
                span.append(name)
            elif span:
                span = []
                spans.append(span)
        return [s for s in spans if s]


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Drop these loggers' records: the evaluator tells of every asset at every tick."""
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _reason(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = (
                error.cause
                if error and error.cause and "Error occurred" in error.message
                else error
            )
            return (cause.message if cause else "failed").strip()
    return "the run failed; see it in the Dagster UI"
