"""`mlops`: what a person types. Each command is a function in the module of its subject."""

from __future__ import annotations

import typer

from mlops_assets.cli import (
    backtest,
    cases,
    decide,
    doctor,
    flow,
    lake,
    new,
    plan,
    profile,
    serve,
    trace,
    ui,
    upkeep,
)

app = typer.Typer(
    help="""An open MLOps platform: a lakehouse modeled as Dagster software-defined assets.

    mlops demo
    mlops advance --days 1
    mlops sql "select * from flight_delays.performance"
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
flow.add_to(app)
plan.add_to(app)
lake.add_to(app)
profile.add_to(app)
new.add_to(app)
decide.add_to(app)
cases.add_to(app)
backtest.add_to(app)
ui.add_to(app)
serve.add_to(app)
upkeep.add_to(app)
doctor.add_to(app)
trace.add_to(app)


def main() -> None:
    """The entry point."""
    app()
