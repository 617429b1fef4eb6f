"""When an asset recomputes: the automation conditions of the graph, all by content.

The daemon and every `mlops` command that changes the lake evaluate these same conditions. What was
computed stays unless a data version upstream or the asset's own code version changed; a run that
gives the same content stops the wave there.
"""

from __future__ import annotations

import dagster as dg

Condition = dg.AutomationCondition


def _until_handled(trigger: Condition) -> Condition:
    # Dagster's since_last_handled also forgets what is missing when automation starts for the
    # first time; here an asset that is missing then is made.
    return trigger.since(Condition.newly_requested() | Condition.newly_updated())


def _ready() -> Condition:
    return (
        ~Condition.any_deps_missing() & ~Condition.any_deps_in_progress() & ~Condition.in_progress()
    ).with_label("inputs there, nothing running")


def content_changed(*names: str, gated: bool = False) -> Condition:
    """Missing, or the content of an input or the code changed; for what follows its inputs.

    Args:
        names: the inputs to look at, "domain/table"; none for all of them.
        gated: also wait until the inputs' blocking checks have passed. That is for assets without
            partitions: a partitioned table withholds a bad day by itself.
    """
    changed = Condition.any_deps_match(Condition.data_version_changed())
    missing, running = Condition.any_deps_missing(), Condition.any_deps_in_progress()
    passed = Condition.all_deps_blocking_checks_passed()
    if names:
        watched = dg.AssetSelection.assets(*(dg.AssetKey(n.split("/")) for n in names))
        changed, missing = changed.allow(watched), missing.allow(watched)
        running, passed = running.allow(watched), passed.allow(watched)
    trigger = Condition.newly_missing() | changed | Condition.code_version_changed()
    ready = ~missing & ~running & ~Condition.in_progress()
    due = _until_handled(trigger) & (ready & passed if gated else ready)
    return due.with_label("content or code changed")


def once() -> Condition:
    """Missing and its inputs are there; what it made stays whatever changes upstream."""
    return (_until_handled(Condition.newly_missing()) & _ready()).with_label("not made yet")


def missing_or_code_changed() -> Condition:
    """For a table without inputs in the graph, and for what a decision alone makes anew."""
    trigger = Condition.newly_missing() | Condition.code_version_changed()
    return (_until_handled(trigger) & _ready()).with_label("missing or code changed")


def code_changed() -> Condition:
    """For days that arrive by themselves: those that are there follow the code."""
    there = ~Condition.missing()
    trigger = Condition.code_version_changed() & there
    return (_until_handled(trigger) & _ready()).with_label("code changed")
