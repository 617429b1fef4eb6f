"""`mlops tables` and `mlops sql`: look into the lake without the UI."""

from __future__ import annotations

import sys
from typing import Annotated

import polars as pl
import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out, show, tell_of_the_disk
from mlops_assets.stores.lakehouse import Lakehouse

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]
Csv = Annotated[bool, typer.Option("--csv", help="Write CSV, for spreadsheets.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(tables)
    app.command()(sql)


def tables(json: Json = False, csv: Csv = False) -> None:
    """List the tables of the lake: rows, columns, version, size of history, newest write.

    mlops tables
    mlops tables --json
    """
    lake = _lake()
    rows = [_described(lake, name) for name in lake.tables()]
    if not rows:
        err.print(f"The lake at {lake.uri} has no tables yet; fill it with `make demo`.")
    _write(pl.DataFrame(rows), json, csv)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over tables named domain.table.")],
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Ask the lake in SQL (DuckDB, read-only).

    mlops sql "select origin, avg(probability) from flight_delays.predictions group by origin"
    mlops sql "select * from nyc_flights.weather_quarantine" --csv
    """
    from mlops_assets.stores.sql import QueryError
    from mlops_assets.stores.sql import query as ask

    try:
        answer = ask(_lake(), query)
    except QueryError as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        tell_of_the_disk(str(error))
        raise typer.Exit(2) from None
    _write(answer, json, csv)


def _lake() -> Lakehouse:
    from mlops_assets.lake import local_lakehouse

    return local_lakehouse()


def _described(lake: Lakehouse, name: str) -> dict[str, object]:
    newest = lake.history(name).row(0, named=True)
    return {
        "table": name,
        "rows": lake.rows(name),
        "columns": len(lake.schema(name)),
        "version": newest["version"],
        "written": f"{newest['timestamp']:%Y-%m-%d %H:%M:%S} UTC",
        "operation": newest["operation"],
    }


def _write(frame: pl.DataFrame, json: bool, csv: bool) -> None:
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")
    if json:
        sys.stdout.write(frame.write_json() + "\n")
    elif csv:
        sys.stdout.write(frame.write_csv())
    elif frame.width:
        shown = frame.head(50)
        show(shown)
        if frame.height > shown.height:
            out.print(f"{shown.height} of {frame.height:,} rows; --csv or --json writes all")
