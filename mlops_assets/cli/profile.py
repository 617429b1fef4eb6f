"""`mlops profile`: what a table looks like, and which column knows too much of the label."""

from __future__ import annotations

import sys
from typing import Annotated

import polars as pl
import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out, show

ROWS = 200_000


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(profile)


def profile(
    table: Annotated[str, typer.Argument(help="A table of the lake, domain/table.")],
    label: Annotated[
        str | None, typer.Option(help="Column to hold the others against: leak suspects.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="A Delta version; the newest if none.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Look at each column: type, missing values, spread, shape, and what it alone says of a label.

    A column that alone reaches an implausible score is a leak suspect: it was perhaps written
    after the fact. Tables of more than 200,000 rows are looked at in a sample.

        mlops profile nyc_flights/flight_events
        mlops profile flight_delays/training_set --label label
    """
    from mlops_assets.lake import local_lakehouse
    from mlops_assets.ml.profile import profile as look
    from mlops_assets.stores.lakehouse import TableNotFound

    try:
        rows = local_lakehouse().scan(table, version=version).collect()
        found = look(rows.sample(ROWS, seed=7) if rows.height > ROWS else rows, label)
    except (TableNotFound, ValueError) as error:
        err.print(f"[red]{table}: {escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from None
    if json:
        sys.stdout.write(found.write_json() + "\n")
        return
    show(_readable(found, label), f"{table}: {rows.height:,} rows, {rows.width} columns")
    suspects = found.filter(pl.col("note").str.contains("leak suspect", literal=True))
    if suspects.height:
        out.print(f"\n[yellow]{suspects.height} leak suspects[/]: {', '.join(suspects['column'])}")


def _readable(found: pl.DataFrame, label: str | None) -> pl.DataFrame:
    """The columns that say something, the strongest first where there is a label."""
    if label:
        found = found.sort("alone", descending=True, nulls_last=True, maintain_order=True)
    shown = ["alone"] if label else []
    return found.select(
        "column", "type", pl.col("missing").round(4), "distinct",
        pl.concat_str("lowest", "highest", separator=" … ").alias("range"),
        "usual", "shape", *shown, pl.col("note").replace("", None),
    )  # fmt: skip
