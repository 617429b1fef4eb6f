"""`mlops demo` and `mlops advance`: days arrive, and the graph's own conditions do the rest."""

from __future__ import annotations

import json
import resource
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from mlops_assets.cli import summary
from mlops_assets.cli.console import Progress, err, out
from mlops_assets.cli.session import Session, session
from mlops_assets.components.engine import Report
from mlops_assets.components.loop import follow

THROUGH = "2013-11-30"

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the summary to this file, as JSON.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(demo)
    app.command()(advance)


def demo(
    through: Annotated[str, typer.Option(help="Last local day that arrives.")] = THROUGH,
    json_file: JsonFile = None,
) -> None:
    """Fill the lake from the source and let everything follow, from features to drift.

    A second call finds nothing to do and says so.

        mlops demo
        mlops demo --json summary.json
    """
    last = _day(through)
    started = time.perf_counter()
    progress = Progress()
    with session("demo", progress) as opened, progress.shown():
        report = opened.engine.settle()
        source = opened.engine.source
        there = source.days_there()
        missing = [day for day in source.days if day <= last and day not in there]
        if missing:
            opened.engine.arrive(missing, report)
        opened.engine.settle(report)
        found = _found(opened, report, time.perf_counter() - started)
    _finish(found, report, json_file)


def advance(
    days: Annotated[int, typer.Option(min=1, help="Number of days that arrive.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Let the next days of the source arrive, one after the other, and everything follow.

    mlops advance --days 3
    """
    started = time.perf_counter()
    progress = Progress()
    report = Report()
    with session("advance", progress) as opened, progress.shown():
        try:
            coming = opened.engine.source.next_days(days)
        except LookupError as error:
            err.print(f"[red]{error}[/]", soft_wrap=True)
            raise typer.Exit(1) from None
        for day in coming:
            opened.engine.arrive([day], report)
            follow(opened.engine, opened.engine.settle(report))
        found = _found(opened, report, time.perf_counter() - started)
    _finish(found, report, json_file)


def _found(opened: Session, report: Report, seconds: float) -> dict[str, Any]:
    # Linux counts in kibibytes; children are the served Bento and its build.
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures = {
        "seconds": round(seconds, 1),
        "peak_mb": round(max(u.ru_maxrss for u in usage) / 1024),
        "seconds_by_asset": report.seconds,
        "ticks": report.ticks,
        "recomputed": report.recomputed,
        "errors": report.errors,
    }
    return figures | summary.of(opened.lakehouse, opened.registry, opened.products)


def _finish(found: dict[str, Any], report: Report, json_file: Path | None) -> None:
    summary.show(found)
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    if report.errors:
        err.print(f"\n[red]{len(report.errors)} runs failed[/]; what they stopped is not there.")
        raise typer.Exit(1)
    if not report.runs:
        out.print("\nNothing to recompute: every table is as its inputs and code make it.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write it as {THROUGH}") from None
