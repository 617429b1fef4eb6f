"""Is automation alive? Read from what it leaves in the Dagster instance, by somebody outside of it.

A sensor or schedule cannot watch the daemon that evaluates it, and neither can an asset check or a
freshness policy, which the same daemon evaluates. So `mlops ui`, which supervises the daemon, looks
with `Watchdog`, and whoever else is outside asks `mlops doctor`.

A sign of life is a look at the graph that went well, or a run that it launched: a look that asks
for hundreds of runs takes minutes, and launches them one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, TickStatus

AUTOMATION = "automation"
"""Name of the sensor that evaluates the conditions."""
RUN_TAG = {"mlops/command": AUTOMATION}
"""Tag of the runs that it launches."""
LIMIT_SECONDS = 300
"""Time without a sign of life after which automation counts as stopped: sixty looks."""
_WELL = [TickStatus.SUCCESS, TickStatus.SKIPPED]


class AutomationStopped(RuntimeError):
    """Nothing has evaluated the conditions for too long."""


@dataclass(frozen=True)
class Signs:
    """What automation last left behind; times are UTC epoch seconds.

    `held` says that a person has stopped the sensor; `error` is that of its newest look.
    """

    newest: float | None
    held: bool
    error: str | None


def signs(instance: dg.DagsterInstance) -> Signs:
    """The newest signs of life of the automation sensor."""
    states = [s for s in instance.all_instigator_state() if s.instigator_name == AUTOMATION]
    if not states:
        return Signs(None, False, None)
    # A code location that moved leaves its old state behind; the one that ticked last counts.
    state, newest = max(((s, _newest(instance, s)) for s in states), key=lambda each: each[1] or 0)
    runs = instance.get_run_records(dg.RunsFilter(tags=RUN_TAG), limit=1)
    launched = runs[0].create_timestamp.timestamp() if runs else None
    latest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    error = latest[0].error if latest and latest[0].status == TickStatus.FAILURE else None
    return Signs(
        max((t for t in (newest, launched) if t is not None), default=None),
        not state.is_running,
        error.message.strip() if error else None,
    )


def _newest(instance: dg.DagsterInstance, state: InstigatorState) -> float | None:
    ticks = instance.get_ticks(
        state.instigator_origin_id, state.selector_id, limit=1, statuses=_WELL
    )
    return ticks[0].timestamp if ticks else None


class Watchdog:
    """Notices that signs of life cease, by a clock of its own.

    It asks whether the signs change and not how old they are: a clock on the wall that jumps, or a
    machine that slept, is no reason to bark.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        limit_seconds: float = LIMIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance, self._limit, self._clock = instance, limit_seconds, clock
        self._since = clock()
        self._seen: float | None = None

    def look(self) -> None:
        """Look once.

        Raises:
            AutomationStopped: when there was no new sign of life for longer than the limit.
        """
        found = signs(self._instance)
        if found.held or found.newest != self._seen:
            self._seen, self._since = found.newest, self._clock()
            return
        silent = self._clock() - self._since
        if silent > self._limit:
            why = f"; its last look failed: {found.error}" if found.error else ""
            raise AutomationStopped(
                f"automation has not evaluated the graph for {silent:.0f} s (limit"
                f" {self._limit:.0f} s){why}. What is due is not computed"
            )
