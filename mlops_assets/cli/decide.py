"""`mlops approve` and `mlops retrain`: what a person decides."""

from __future__ import annotations

from typing import Annotated

import dagster as dg
import typer
from rich.markup import escape

from mlops_assets.cli.console import Progress, err
from mlops_assets.cli.session import Session, session
from mlops_assets.components.engine import Report

Product = Annotated[str, typer.Argument(help="Name of the product, say flight_delays.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(approve)
    app.command()(retrain)


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
) -> None:
    """Cut a new training set, and let fit, evaluation and promotion follow.

    mlops retrain flight_delays
    mlops retrain flight_delays --cutoff 2013-10-31
    """
    _decide("retrain", product, "training_set", {"cutoff": cutoff})


def _decide(command: str, product: str, asset: str, settings: dict[str, str]) -> None:
    progress = Progress()
    report = Report()
    with session(command, progress) as opened, progress.shown():
        op = opened.engine.graph.get(_asset(opened, product, asset)).assets_def.node_def.name
        config = {"ops": {op: {"config": settings}}}
        report.runs.append(opened.engine.run_job(f"{product}_{command}", config))
        if not report.errors:
            opened.engine.settle(report)
    if report.errors:
        err.print(f"[red]{escape(report.errors[0])}[/]", soft_wrap=True)
        raise typer.Exit(1)


def _asset(opened: Session, product: str, asset: str) -> dg.AssetKey:
    if product not in opened.products:
        raise typer.BadParameter(f"no product {product!r}; there are {', '.join(opened.products)}")
    return dg.AssetKey([product, asset])
