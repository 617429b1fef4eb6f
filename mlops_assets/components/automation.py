"""When an asset recomputes: the automation conditions of the graph, all by content.

The daemon and every `mlops` command that changes the lake evaluate these same conditions. What was
computed stays unless an input's content or the asset's own code version is no longer what it was
made of (provenance.py); a run that gives the same content stops the wave there. Conditions keep no
cursor: what is due follows from what is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import dagster as dg

from mlops_assets.components.provenance import Partition, Provenance, provenance_of, spec_of

Condition = dg.AutomationCondition


class _FromProvenance(dg.AutomationCondition[dg.AssetKey]):
    """A condition that follows from what partitions were made of."""

    def holds(self, provenance: Provenance, spec: dg.AssetSpec) -> Iterable[Partition]:
        """The partitions of which it is true; `[None]` for an asset without partitions."""
        raise NotImplementedError

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Ask it of the candidates."""
        view, candidates = context.asset_graph_view, context.candidate_subset
        if candidates.is_empty:
            return dg.AutomationResult(context, candidates)
        provenance = provenance_of(view.instance)
        provenance.refresh(context.asset_graph.get_all_asset_keys(), tick=view)
        found = set(self.holds(provenance, spec_of(context.asset_graph, context.key)))
        if not found:
            return dg.AutomationResult(context, context.get_empty_subset())
        if context.partitions_def is None:
            return dg.AutomationResult(context, candidates)
        keys = {name for name in found if name is not None}
        subset = candidates.compute_intersection_with_partition_keys(keys)
        return dg.AutomationResult(context, subset)


@dataclass(frozen=True)
class CodeDiffers(_FromProvenance):
    """The code version is not that of which a partition, which is there, was made."""

    def holds(self, provenance: Provenance, spec: dg.AssetSpec) -> Iterable[Partition]:
        """See the class."""
        return (p for p in provenance.made(spec.key) if provenance.code_changes(spec, p))


@dataclass(frozen=True)
class InputsDiffer(_FromProvenance):
    """An input's content is not that of which a partition, which is there, was made.

    `watched` names the inputs to look at, "domain/table"; none for all of them. `waits` says
    whether it takes all of an input's days before the asset is made for the first time.
    """

    watched: tuple[str, ...] = ()
    waits: bool = True

    def holds(self, provenance: Provenance, spec: dg.AssetSpec) -> Iterable[Partition]:
        """See the class."""
        return (p for p in provenance.made(spec.key) if self.changed(provenance, spec, p))

    def changed(
        self, provenance: Provenance, spec: dg.AssetSpec, partition: Partition
    ) -> list[str]:
        """The watched inputs whose content differs."""
        changed = provenance.changed_inputs(spec, partition)
        return [name for name in changed if not self.watched or name in self.watched]


@dataclass(frozen=True)
class HasFailed(_FromProvenance):
    """The step has failed on just the code and inputs that are there now."""

    def holds(self, provenance: Provenance, spec: dg.AssetSpec) -> Iterable[Partition]:
        """See the class."""
        return provenance.failed(spec)


@dataclass(frozen=True)
class StillDue(dg.AutomationCondition[dg.AssetKey]):
    """What was due when the look began is due after all: no run that ended since has made it.

    It stands last. What is there is read when a look begins, and what is in progress some time
    after; a run that ends in between would be asked for twice.
    """

    because: tuple[_FromProvenance, ...]

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Ask once more, of what is there now."""
        candidates, graph = context.candidate_subset, context.asset_graph
        if candidates.is_empty:
            return dg.AutomationResult(context, candidates)
        provenance = provenance_of(context.asset_graph_view.instance)
        provenance.look_again([context.key, *graph.get(context.key).parent_keys])
        made, spec = provenance.made(context.key), spec_of(graph, context.key)
        still = {p for reason in self.because for p in reason.holds(provenance, spec)}
        if context.partitions_def is None:
            due = None not in made or None in still
            subset = candidates if due else context.get_empty_subset()
            return dg.AutomationResult(context, subset)
        asked = candidates.expensively_compute_partition_keys()
        keys = {name for name in asked if name not in made or name in still}
        subset = candidates.compute_intersection_with_partition_keys(keys)
        return dg.AutomationResult(context, subset)


@dataclass(frozen=True)
class Requested(dg.AutomationCondition[dg.AssetKey]):
    """Asked for at this look, in whatever run it will be made; to be asked of inputs.

    Dagster's `will_be_requested` speaks only of inputs that can be made in the asset's own run; one
    with days is not, for an asset without.
    """

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, those asked for so far: inputs are evaluated first."""
        asked = context.request_subsets_by_key.get(context.key, context.get_empty_subset())
        subset = context.candidate_subset.compute_intersection(asked)
        return dg.AutomationResult(context, subset)


def content_changed(*names: str, gated: bool = False) -> Condition:
    """Missing, or the content of an input or the code changed; for what follows its inputs.

    An asset without partitions that reads a daily table waits for all of its days, unless the
    dependency's partition mapping names those that it needs.

    Args:
        names: the inputs to look at, "domain/table"; none for all of them.
        gated: also wait until the inputs' blocking checks have passed. That is for assets without
            partitions: a partitioned table withholds a bad day by itself.
    """
    ready = _ready(names)
    if gated:
        ready = ready & _watching(Condition.all_deps_blocking_checks_passed(), names)
    return _due("content or code changed", ready, CodeDiffers(), InputsDiffer(names))


def days_changed() -> Condition:
    """Missing, or the content of an input or the code changed, for what reads the days there are.

    For an asset without partitions that does not wait for days which have not come; it waits while
    any input is about to be made.
    """
    at_rest = (
        Condition.all_deps_match(~Condition.missing())
        & ~Condition.any_deps_in_progress()
        & ~Condition.any_deps_match(Requested())
        & ~Condition.in_progress()
    ).with_label("every input has a day, nothing running")
    inputs = InputsDiffer(waits=False)
    return _due("content of the days or code changed", at_rest, CodeDiffers(), inputs)


def once() -> Condition:
    """Missing and its inputs are there; what it made stays whatever changes upstream."""
    return _due("not made yet", _ready())


def missing_or_code_changed() -> Condition:
    """For a table without inputs in the graph, and for what a decision alone makes anew."""
    return _due("missing or code changed", _ready(), CodeDiffers())


def code_changed() -> Condition:
    """For days that arrive by themselves: those that are there follow the code."""
    differs = CodeDiffers()
    due = differs & _ready() & ~HasFailed() & StillDue((differs,))
    return due.with_label("code changed")


def _due(label: str, ready: Condition, *because: _FromProvenance) -> Condition:
    """Missing, or one of the reasons; ready to be made, and not known to fail."""
    due: Condition = reduce(or_, because, Condition.missing())
    return (due & ready & ~HasFailed() & StillDue(because)).with_label(label)


def _ready(names: tuple[str, ...] = ()) -> Condition:
    """The inputs are there and at rest, and no run makes the asset now.

    An input that is missing and asked for at the same tick counts as there: its run goes on to what
    follows it. One that is made anew is waited for, since what comes out may be the same.
    """
    anew = Condition.any_deps_match(Requested() & ~Condition.missing())
    at_rest = (
        ~_watching(Condition.any_deps_missing(), names)
        & ~_watching(Condition.any_deps_in_progress(), names)
        & ~_watching(anew, names)
        & ~Condition.in_progress()
    )
    return at_rest.with_label("inputs there, nothing running")


def _watching(condition: Any, names: tuple[str, ...]) -> Any:
    keys = [dg.AssetKey(name.split("/")) for name in names]
    return condition.allow(dg.AssetSelection.assets(*keys)) if keys else condition
