"""What a run of the engine would do, before it does it, and why.

Asks the same conditions as the engine and follows what they ask for downstream. `rebuild` is what
runs for sure, unless something fails before it; `if changed` depends on a result that does not
exist yet; `held` is due but waits, say for a gate that did not pass; all else is skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any, Literal

import dagster as dg

from mlops_assets.components.automation import CodeDiffers, InputsDiffer
from mlops_assets.components.engine import Engine
from mlops_assets.components.provenance import (
    Partition,
    partitions_read,
    provenance_of,
    spec_of,
)

Verdict = Literal["rebuild", "if changed", "held"]
_RUNS = 3
"""Of how many of the last runs of an asset the expected time is the median."""

Found = tuple[Verdict, tuple[str, ...]]


@dataclass(frozen=True)
class Step:
    """One asset and a contiguous range of its partitions (none for an asset without).

    `seconds` is what they are expected to take; None where the asset never ran.
    """

    asset: str
    verdict: Verdict
    partitions: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """The steps upstream first, and how many partitions of each asset stay as they are."""

    steps: list[Step]
    skipped: dict[str, int]

    def counts(self, verdict: Verdict) -> dict[str, int]:
        """Asset to the number of its partitions (1 for an asset without) with this verdict."""
        found: Counter[str] = Counter()
        for step in self.steps:
            if step.verdict == verdict:
                found[step.asset] += max(1, len(step.partitions))
        return dict(found)

    @property
    def empty(self) -> bool:
        """Whether nothing would run."""
        return all(step.verdict == "held" for step in self.steps)

    @property
    def seconds(self) -> float:
        """Expected for all that may run, also where it may prove needless."""
        return sum(step.seconds or 0.0 for step in self.steps if step.verdict != "held")


def plan(engine: Engine) -> Plan:
    """What `engine.settle()` would do now."""
    return _Planning(engine).plan()


class _Planning:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._graph = engine.graph
        self._provenance = provenance_of(engine.instance)
        self._provenance.retries = True
        self._due = engine.due()
        self._found: dict[dg.AssetKey, dict[Partition, Found]] = {}
        # To list the days of a year takes milliseconds, and each partition asks for them.
        self._every: dict[dg.AssetKey, frozenset[Partition]] = {}

    def plan(self) -> Plan:
        steps: list[Step] = []
        skipped: dict[str, int] = {}
        for key in self._graph.toposorted_asset_keys:
            self._found[key] = self._of(key)
            steps += self._steps(key)
            rest = len(self._provenance.made(key).keys() - self._found[key].keys())
            if rest and self._graph.get(key).automation_condition is not None:
                skipped[key.to_user_string()] = rest
        return Plan(steps, skipped)

    def _of(self, key: dg.AssetKey) -> dict[Partition, Found]:
        condition = self._graph.get(key).automation_condition
        if condition is None:
            return {}
        leaves = list(_leaves(condition))
        spec = spec_of(self._graph, key)
        verdicts = {p: self._verdict(spec, leaves, p) for p in self._candidates(key)}
        return {p: verdict for p, verdict in verdicts.items() if verdict}

    def _candidates(self, key: dg.AssetKey) -> list[Partition]:
        """Partitions that are there or asked for, and all where an input is about to change."""
        definition = self._graph.get(key).partitions_def
        there = set(self._provenance.made(key)) | self._due.get(key, set())
        if any(self._found[parent] for parent in self._graph.get(key).parent_keys):
            there |= {None} if definition is None else self._keys_of(key)
        return sorted(there, key=str)

    def _verdict(self, spec: dg.AssetSpec, leaves: list[Any], partition: Partition) -> Found | None:
        asked = partition in self._due.get(spec.key, ())
        inputs = next((leaf for leaf in leaves if isinstance(leaf, InputsDiffer)), None)
        pending, absent = self._pending(spec, partition, inputs)
        if self._provenance.made_last(spec.key, partition) is None:
            return ("rebuild", ("missing",)) if asked or (pending and not absent) else None
        reasons: list[str] = []
        if any(isinstance(leaf, CodeDiffers) for leaf in leaves):
            reasons += self._provenance.code_changes(spec, partition)
        if inputs:
            changed = inputs.changed(self._provenance, spec, partition)
            reasons += [f"content of {name}" for name in changed]
        if reasons:
            return "rebuild" if asked or pending else "held", tuple(reasons)
        if inputs and pending:
            return "if changed", tuple(f"content of {name}" for name in pending)
        return None

    def _pending(
        self, spec: dg.AssetSpec, partition: Partition, inputs: InputsDiffer | None
    ) -> tuple[list[str], list[str]]:
        """Watched inputs that are about to be made, and those that are and stay missing."""
        pending, absent = [], []
        for dep in spec.deps:
            name = "/".join(dep.asset_key.path)
            if inputs and inputs.watched and name not in inputs.watched:
                continue
            node = self._graph.get(dep.asset_key)
            coming = {p for p, (says, _) in self._found[node.key].items() if says != "held"}
            there = self._provenance.made(node.key)
            definition = node.partitions_def
            wanted: Set[Partition] = {None}
            if definition is not None:
                every = self._keys_of(node.key)
                read = partitions_read(spec.key, dep, partition)
                wanted = every & (every if read is None else set(read))
            if coming & wanted:
                pending.append(name)
            lacking = wanted - coming - there.keys()
            if lacking and (inputs is None or inputs.waits or lacking == wanted):
                absent.append(name)
        return pending, absent

    def _keys_of(self, key: dg.AssetKey) -> frozenset[Partition]:
        if key not in self._every:
            self._every[key] = frozenset(self._engine.partition_keys(key))
        return self._every[key]

    def _steps(self, key: dg.AssetKey) -> Iterator[Step]:
        found = self._found[key]
        if not found:
            return
        each = self._seconds_each(key)
        order = {name: number for number, name in enumerate(self._engine.partition_keys(key))}
        ranked = sorted(found, key=lambda p: order.get(p or "", 0))

        def together(item: tuple[int, Partition]) -> tuple[int, Found]:
            # Neighbours have the same distance between their rank and their place in the list.
            return order.get(item[1] or "", 0) - item[0], found[item[1]]

        for (_, (verdict, reasons)), group in groupby(enumerate(ranked), key=together):
            names = tuple(name for _, name in group if name is not None)
            seconds = None if each is None else each * max(1, len(names))
            yield Step(key.to_user_string(), verdict, names, reasons, seconds)

    def _seconds_each(self, key: dg.AssetKey) -> float | None:
        """Seconds that a partition took in the last runs, the median of them."""
        instance = self._engine.instance
        made = sorted(self._provenance.made(key).values(), key=lambda m: -m.storage_id)
        by_run = Counter(each.run_id for each in made)  # the newest run first
        newest = list(by_run)[:_RUNS]
        step = self._graph.get(key).assets_def.node_def.name
        spent = [
            (stats.end_time - stats.start_time) / by_run[run]
            for run in newest
            for stats in instance.get_run_step_stats(run, [step])
            if stats.start_time and stats.end_time
        ]
        return median(spent) if spent else None


def _leaves(condition: Any) -> Iterator[Any]:
    if not condition.children:
        yield condition
    for child in condition.children:
        yield from _leaves(child)
