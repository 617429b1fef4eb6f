"""Days of the source arrive: the clock of everything that follows.

"Today" is the newest day that is there, never the wall clock, so that a walk through a past year
and a living system are the same code. `mlops advance` and the arrival schedule both ask here which
day is next.
"""

from __future__ import annotations

from datetime import date

from mlops_assets.components.engine import Engine


def days_there(engine: Engine) -> set[date]:
    """Days of which every daily source table is published."""
    there = [
        set(engine.instance.get_materialized_partitions(key)) for key in engine.daily_sources()
    ]
    return {date.fromisoformat(key) for key in set.intersection(*there)} if there else set()


def next_days(engine: Engine, count: int) -> list[date]:
    """The days after the newest one that is there, at most `count`.

    Raises:
        LookupError: when the source has no further day.
    """
    there = days_there(engine)
    newest = max(there) if there else date.min
    following = [d for d in engine.source_days() if d > newest][:count]
    if not following:
        raise LookupError(f"the source ends with {newest}; there is no further day")
    return following
