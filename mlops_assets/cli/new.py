"""`mlops new`: from a table to the folder of a product."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out

TELL_LINES = 20


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(new)


def new(
    name: Annotated[str, typer.Argument(help="Of the product and its folder, as bike_rides.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="table.csv, table.parquet, a Delta folder, sqlite:///file.db or"
            " postgresql://user@host/database (password in PGPASSWORD).",
        ),
    ],
    label: Annotated[str, typer.Option(help="Column to predict.")],
    time: Annotated[
        str, typer.Option(help="Column of a row's time; without it, rows are split at random.")
    ] = "",
    keys: Annotated[
        str, typer.Option(help="Columns that identify a row within its day: A,B. Found if none.")
    ] = "",
    task: Annotated[
        str, typer.Option(help="binary, multiclass or regression; decided by the label if none.")
    ] = "",
    table: Annotated[str, typer.Option(help="Of a database, as rides or public.rides.")] = "",
    lead_hours: Annotated[
        float, typer.Option(help="Hours before a row's time at which it is asked.")
    ] = 1.0,
    known_after_days: Annotated[
        int, typer.Option(help="Local days after a row's own by which its label is known.")
    ] = 1,
    zone: Annotated[
        str, typer.Option(help="Time zone of the days, and of times that name none.")
    ] = "UTC",
    licence: Annotated[
        str,
        typer.Option(
            help="Under which terms the data may be used, as CC-BY-4.0 or 'our own'; nothing is"
            " promoted that is made of data without one."
        ),
    ] = "",
    partitioning: Annotated[
        str,
        typer.Option(
            help="In what the rows come: hourly (UTC), daily, weekly (Monday) or monthly."
        ),
    ] = "daily",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Make a product from a table: look at the data, and write one folder to edit.

    The raw table with its contract, a feature table, the declaration, a README and a test. What the
    model should not read (an id, a leak suspect, what is known only after the fact) is left out,
    and defs.yaml says why. Nothing that is there is overwritten.

        mlops new rides --from rides.csv --label count --time starts_at --keys station,starts_at
        mlops new wine --from wine.parquet --label cultivar --licence CC-BY-4.0
        mlops new churn --from sqlite:///crm.db --table customers --label churned
    """
    from mlops_assets.components.scaffold import New, Unusable, Wanted, new_product
    from mlops_assets.local import repository
    from mlops_assets.stores.sources import SourceError

    columns = tuple(k.strip() for k in keys.split(",") if k.strip())
    wanted = Wanted(
        name, source, label, time, columns, task, table, lead_hours, known_after_days, zone,
        licence.strip(), partitioning,
    )  # fmt: skip
    root = repository()
    try:
        found: New = new_product(wanted, root, root / "mlops_assets" / "defs" / name)
    except (Unusable, SourceError) as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from None
    if as_json:
        said = asdict(found.decided) | {"files": found.made.files, "lines": found.made.lines}
        print(json.dumps(said, default=str))  # noqa: T201
        return
    _tell(name, found.decided.task, found.decided.why, found.decided.left_out)
    for note in found.decided.notes:
        out.print(f"  {escape(note)}", soft_wrap=True)
    out.print(f"\nWritten ({found.made.lines} lines to edit):")
    for file in found.made.files:
        out.print(f"  {file}")
    out.print(f"\nNext:  [bold]dg check defs[/]\n       [bold]mlops demo {name}[/]")


def _tell(name: str, task: str, why: str, left_out: dict[str, str]) -> None:
    out.print(f"[bold]{name}[/] is a {task} task: {escape(why)}", soft_wrap=True)
    if left_out:
        out.print("Left out of what the model reads; defs.yaml takes what you know to be right:")
    for column, reason in list(left_out.items())[:TELL_LINES]:
        out.print(f"  [yellow]{escape(column)}[/]: {escape(reason)}", soft_wrap=True)
    if len(left_out) > TELL_LINES:
        out.print(f"  and {len(left_out) - TELL_LINES} more; defs.yaml lists all")
