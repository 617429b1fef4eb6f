"""One corrected day against everything anew: what `mlops apply` spares.

Both start from the lake of the demo, and from a source in which one flight of one day arrived late
after all. `apply` lets that day arrive again and settles, as the command does: what its content
reaches, and nothing else. The floor computes all daily tables of all days anew, by the same engine
and graph. No model is trained on either side, and both end with the same features.

Seconds and processor seconds are of the work. The start of the command, loading the definitions
and looking at the graph for the first time, is a part of its own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.data import FIRST
from benchmarks.measure import Case, Contender, Work

DECISIONS = "retrain_decisions"
VARIABLES = ("MLOPS_HOME", "DAGSTER_HOME", "MLOPS_FLIGHTS_SOURCE")


def days_of(quick: bool) -> tuple[date, date]:
    """Last day of the lake, and the day that is corrected."""
    if quick:
        return date(2013, 1, 10), date(2013, 1, 5)
    return date(2013, 11, 30), date(2013, 10, 15)


def cases(quick: bool) -> list[Case]:
    """One."""
    size = "1 of 10 days, no model" if quick else "1 of 334 days"
    contenders = (Contender("apply", "apply"), Contender("rebuild", "rebuild"))
    return [Case("apply", size, contenders, {"quick": quick}, rounds=1, repeats=1)]


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """The lake of the demo, and the corrected source."""
    last, corrected = days_of(quick)
    return [
        ("settled_home", {"last": last.isoformat()}),
        ("corrected_source", {"day": corrected.isoformat()}),
    ]


def apply(folder: str, quick: bool) -> Work:
    """The day arrives again, and what follows from it."""
    _, corrected = days_of(quick)
    return _work(folder, "apply", [corrected], anew=False)


def rebuild(folder: str, quick: bool) -> Work:
    """All days arrive again in a lake without daily tables."""
    last, _ = days_of(quick)
    days = [FIRST + timedelta(days=n) for n in range((last - FIRST).days + 1)]
    return _work(folder, "rebuild", days, anew=True)


def _work(folder: str, name: str, days: list[date], anew: bool) -> Work:
    from mlops_assets.components.engine import Engine, Report
    from mlops_assets.components.plan import plan

    started = time.process_time()
    home = Path(folder) / name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(Path(folder) / "home", home, symlinks=True)
    os.environ |= dict(
        zip(VARIABLES, map(str, (home, home / "dagster", Path(folder) / "source")), strict=True)
    )
    parts: dict[str, float] = {}
    opened = _opened()
    definitions, instance = next(opened)
    engine = Engine(definitions, instance)
    if anew:
        _forget(engine, home)
    parts["start, CPU"] = time.process_time() - started

    def run() -> Report:
        report = Report()
        engine.arrive(days, report)
        plan(engine)
        engine.settle(report)
        assert not report.errors, report.errors
        trained = [name for name in report.recomputed if "/fit_" in name]
        assert not trained, f"{trained} were trained, which is to be left out"
        parts.update(report.seconds)
        parts.update({f"{k}: partitions": float(n) for k, n in report.recomputed.items()})
        return report

    def check(_: Report) -> str:
        found = _features(definitions)
        opened.close()
        return found

    return Work(run, check, parts)


def _opened() -> Iterator[Any]:
    import dagster as dg

    from mlops_assets.definitions import defs
    from mlops_assets.local import prepare as prepare_home

    prepare_home()
    with dg.DagsterInstance.get() as instance:
        yield defs(), instance


def _forget(engine: Any, home: Path) -> None:
    """Take away all daily tables, with the events of their days."""
    daily = [
        key
        for key in engine.graph.get_all_asset_keys()
        if engine.graph.get(key).partitions_def is not None and key.path[-1] != DECISIONS
    ]
    engine.instance.wipe_assets(daily)
    for key in daily:
        shutil.rmtree(home / "lake" / Path(*key.path), ignore_errors=True)


def _features(definitions: Any) -> str:
    """The content of all features, day by day, in one hash."""
    from mlops_assets.stores.content import combine

    store = definitions.resources["lakehouse"].store
    found = {}
    for table in store.tables():
        if table == "flight_delays/feature_view" or (
            table.startswith("nyc_flights/") and "quarantine" not in table
        ):
            found |= {f"{table} {day}": each for day, each in store.data_versions(table).items()}
    return str(combine(**found))
