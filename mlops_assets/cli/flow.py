"""`mlops demo` and `mlops advance`: days arrive, and the graph's own conditions do the rest.

Each domain has its own calendar. A product's rows come from the domain of its spine.
"""

from __future__ import annotations

import json
import resource
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mlops_assets.cli import summary
from mlops_assets.cli.console import Progress, err, out
from mlops_assets.cli.session import Session, session
from mlops_assets.components.arrival import Source
from mlops_assets.components.engine import Report
from mlops_assets.components.loop import follow
from mlops_assets.components.ml_product.reading import unknown

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the summary to this file, as JSON.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(demo)
    app.command()(advance)


Product = Annotated[
    str | None, typer.Argument(help="Only the days of this product's source; all, if none.")
]


def demo(
    product: Product = None,
    through: Annotated[
        str | None,
        typer.Option(help="Last local day that arrives; if none, all but a source's last month."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Fill the lake from its sources and let everything follow, from features to drift.

    Of a source shorter than ten months the last tenth of its days is left to come one by one. A
    second call finds nothing to do and says so.

        mlops demo
        mlops demo flight_delays --through 2013-08-31
        mlops demo --json summary.json
    """
    last = _day(through) if through else None
    started = time.perf_counter()
    progress = Progress()
    with session("demo", progress) as opened, progress.shown():
        report = opened.engine.settle()
        for source in _sources(opened, product):
            there, wanted = source.days_there(), source.ended_by(last) if last else source.usual
            missing = [day for day in wanted if day not in there]
            if missing:
                opened.engine.arrive(missing, report, source)
        opened.engine.settle(report)
        found = _found(opened, report, time.perf_counter() - started)
    _finish(found, report, json_file)


def advance(
    product: Product = None,
    days: Annotated[
        int, typer.Option(min=1, help="Number of days that arrive, or of hours, weeks, months.")
    ] = 1,
    json_file: JsonFile = None,
) -> None:
    """Let the next days of each source arrive, one after the other, and everything follow.

    mlops advance --days 3
    mlops advance flight_delays
    """
    started = time.perf_counter()
    progress = Progress()
    report = Report()
    with session("advance", progress) as opened, progress.shown():
        coming = _coming(_sources(opened, product), days)
        for source, day in coming:
            opened.engine.arrive([day], report, source)
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


def _sources(opened: Session, product: str | None) -> list[Source]:
    """Those of the graph, or the one that a product's rows come from."""
    if product is None:
        return opened.engine.sources
    from mlops_assets.components.ml_product.product import PRODUCTS

    if product not in PRODUCTS:
        raise typer.BadParameter(unknown(product, "product that loads", sorted(PRODUCTS)))
    return [opened.engine.source_of(PRODUCTS[product].spine.table)]


def _coming(sources: list[Source], count: int) -> list[tuple[Source, date]]:
    """The next days of each source; where all have ended, say so and end with status 1."""
    coming, ended = [], []
    for source in sources:
        try:
            coming += [(source, day) for day in source.next_days(count)]
        except LookupError as error:
            ended.append(str(error))
    if not coming:
        err.print(f"[red]{escape('; '.join(ended))}[/]", soft_wrap=True)
        raise typer.Exit(1)
    return coming


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write it as 2013-11-30") from None
