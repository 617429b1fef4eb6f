"""`mlops approve`, `mlops retrain` and `mlops rescore`: what a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import dagster as dg
import typer
from rich.markup import escape

from mlops_assets.cli import cases
from mlops_assets.cli.console import Progress, err
from mlops_assets.cli.session import Session, session
from mlops_assets.components.engine import Report

Product = Annotated[str, typer.Argument(help="Name of the product, say flight_delays.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(approve)
    app.command()(retrain)
    app.command()(rescore)


def approve(
    product: Product,
    by: Annotated[str, typer.Option(help="Who approves; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")] = "",
) -> None:
    """Promote the candidate that waits for a person, and let everything follow.

    mlops approve flight_delays --by "Ada Lovelace" --reason "reviewed the segments"
    """
    _decide("approve", product, "champion", {"approved_by": by, "reason": reason})


def retrain(
    product: Product,
    cutoff: Annotated[
        str, typer.Option(help="Last local day to train on (YYYY-MM-DD), or newest.")
    ] = "newest",
    by: Annotated[str, typer.Option(help="Who decides; it is recorded. Empty for the user.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")] = "",
) -> None:
    """Decide to retrain: cut a new training set, and let fit, evaluation and promotion follow.

    mlops retrain flight_delays
    mlops retrain flight_delays --cutoff 2013-10-31
    """
    settings = {"verdict": "retrain", "cutoff": cutoff, "reason": reason}
    cases.consider("retrain", product, {"opened_by": by or cases.user(), **settings})


def rescore(
    product: Product,
    first: Annotated[str, typer.Option("--from", help="First local day (YYYY-MM-DD).")],
    last: Annotated[str, typer.Option("--to", help="Last local day; the first if not given.")] = "",
) -> None:
    """Score days again with the present champion and features; what was said before stays.

    A day that the same champion scored on the same features gets no new revision.

        mlops rescore flight_delays --from 2013-11-01 --to 2013-11-30
    """
    progress = Progress()
    report = Report()
    with session("rescore", progress) as opened, progress.shown():
        key = _asset(opened, product, "predictions")
        days = _days_between(opened.engine.partition_keys(key), first, last or first)
        report.runs.append(opened.engine.run([key], days))
        if not report.errors:
            opened.engine.settle(report)
    _fail_if(report)


def _days_between(there: Sequence[str], first: str, last: str) -> list[str]:
    days = [day for day in there if first <= day <= last]
    if first not in there or last not in there or not days:
        raise typer.BadParameter(
            f"{first} to {last} are not days of predictions; those are {there[0]} to {there[-1]}"
        )
    return days


def _decide(command: str, product: str, asset: str, settings: dict[str, str]) -> None:
    progress = Progress()
    report = Report()
    with session(command, progress) as opened, progress.shown():
        op = opened.engine.graph.get(_asset(opened, product, asset)).assets_def.node_def.name
        config = {"ops": {op: {"config": settings}}}
        report.runs.append(opened.engine.run_job(f"{product}_{command}", config))
        if not report.errors:
            opened.engine.settle(report)
    _fail_if(report)


def _fail_if(report: Report) -> None:
    if report.errors:
        err.print(f"[red]{escape(report.errors[0])}[/]", soft_wrap=True)
        raise typer.Exit(1)


def _asset(opened: Session, product: str, asset: str) -> dg.AssetKey:
    if product not in opened.products:
        raise typer.BadParameter(f"no product {product!r}; there are {', '.join(opened.products)}")
    return dg.AssetKey([product, asset])
