"""`mlops cases`, `mlops decide`, `mlops rollback`: retrain cases, and a person's word on them."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mlops_assets.cli.console import Progress, err, out, show
from mlops_assets.cli.session import Session, session
from mlops_assets.components.engine import Report
from mlops_assets.components.loop import follow
from mlops_assets.components.ml_product import retrain_case
from mlops_assets.components.ml_product import rollback as rollbacks
from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.product import PRODUCTS, Product

Name = Annotated[str, typer.Argument(help="Name of the product, say flight_delays.")]
By = Annotated[str, typer.Option(help="Who says so; it is recorded.")]
Reason = Annotated[str, typer.Option(help="Why, for those who read it later.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(cases)
    app.command()(decide)
    app.command()(rollback)


def cases(
    product: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """List the retrain cases: when and why they were opened, and what was decided.

    mlops cases flight_delays
    mlops cases flight_delays --json
    """
    with session("cases", alone=False) as opened:
        found = _cases(opened, declared(opened, product))
    if as_json:
        rows = [{k: _plain(v) for k, v in row.items()} for row in found.to_dicts()]
        print(json.dumps(rows))  # noqa: T201
    elif found.is_empty():
        out.print(f"{product} has no retrain case; `mlops retrain {product}` opens one.")
    else:
        show(found.with_columns(pl.selectors.date().cast(pl.String)), "\nRetrain cases")


def decide(
    product: Name,
    verdict: Annotated[str, typer.Option(help="retrain or wait.")],
    by: By,
    reason: Reason = "",
) -> None:
    """Settle the open case, say one that was escalated; with retrain the retraining runs.

    mlops decide flight_delays --verdict retrain --by "Ada Lovelace" --reason "new routes"
    """
    if verdict not in (retrain_case.RETRAIN, retrain_case.WAIT):
        raise typer.BadParameter(f"{verdict!r} is no verdict; write retrain or wait")
    settings = {"opened_by": by, "verdict": verdict, "reason": reason}
    consider("decide", product, settings, only_open=True)


def rollback(
    product: Name,
    by: By,
    reason: Reason = "",
    to: Annotated[
        int, typer.Option(help="Version that is to serve again; 0 for the one before.")
    ] = 0,
) -> None:
    """Let an earlier version serve again that passed its gates; predictions made stay.

    mlops rollback flight_delays --by "Ada Lovelace" --reason "complaints from Newark"
    """
    settings = {"by": by, "reason": reason, "to": to}
    _run("rollback", product, rollbacks.NAME, settings)


def consider(
    command: str, product: str, settings: dict[str, Any], *, only_open: bool = False
) -> None:
    """Write a person's decision, and let what it asks for run."""
    _run(command, product, retrain_case.NAME, settings, job="consider", only_open=only_open)


def user() -> str:
    """Who runs the command, as the machine knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def declared(opened: Session, product: str) -> Product:
    """The product of that name.

    Raises:
        typer.BadParameter: there is none.
    """
    if product not in opened.products:
        raise typer.BadParameter(f"no product {product!r}; there are {', '.join(opened.products)}")
    return PRODUCTS[product]


def _run(
    command: str,
    product: str,
    asset: str,
    settings: dict[str, Any],
    *,
    job: str = "",
    only_open: bool = False,
) -> None:
    progress, report = Progress(), Report()
    with session(command, progress) as opened, progress.shown():
        op = "__".join(declared(opened, product).key(asset).path)
        states = _cases(opened, PRODUCTS[product])["state"]
        if only_open and not (states != retrain_case.CLOSED).any():
            raise typer.BadParameter(
                f"{product} has no open case; `mlops retrain {product}` opens one"
            )
        config = {"ops": {op: {"config": settings}}}
        report.runs.append(opened.engine.run_job(f"{product}_{job or command}", config))
        if not report.errors:
            follow(opened.engine, opened.engine.settle(report))
    if report.errors:
        err.print(f"[red]{escape(report.errors[0])}[/]", soft_wrap=True)
        raise typer.Exit(1)


def _cases(opened: Session, product: Product) -> pl.DataFrame:
    champion = incumbent(opened.lakehouse, opened.registry, product.name)
    rows = retrain_case.decisions(opened.lakehouse, product)
    done = retrain_case.carried_out(opened.engine.instance, product)
    return retrain_case.cases(rows, champion.version if champion else 0, done)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)
