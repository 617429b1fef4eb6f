"""`mlops plan` and `mlops apply`: what is due and why, and doing just that."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import polars as pl
import typer

from mlops_assets.cli.console import Progress, err, out, show
from mlops_assets.cli.session import session
from mlops_assets.components.engine import Report
from mlops_assets.components.plan import Plan
from mlops_assets.components.plan import plan as planned

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON, for machines.")]

_SCHEMA = {
    "asset": pl.String, "verdict": pl.String, "partitions": pl.String, "count": pl.Int64,
    "because": pl.String, "seconds": pl.Float64,
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(plan)
    app.command()(apply)


def plan(as_json: Json = False) -> None:
    """Show what would be computed, why, and how long it is expected to take; computes nothing.

    `rebuild` runs for sure, `if changed` when an input comes out different, `held` waits.

        mlops plan
        mlops plan --json
    """
    with session("plan", alone=False) as opened:
        _show(planned(opened.engine), as_json)


def apply(as_json: Json = False) -> None:
    """Compute what `mlops plan` shows: all that is missing or out of date, and nothing else.

    mlops apply
    mlops apply --json
    """
    progress = Progress()
    started = time.perf_counter()
    with session("apply", progress) as opened, progress.shown():
        foreseen = planned(opened.engine)
        report = opened.engine.settle() if not foreseen.empty else Report()
    seconds = round(time.perf_counter() - started, 1)
    if as_json:
        found = {"planned": _plain(foreseen), "recomputed": report.recomputed}
        print(json.dumps(found | {"errors": report.errors, "seconds": seconds}))  # noqa: T201
    elif report.runs:
        rows = [{"asset": name, "computed": n} for name, n in report.recomputed.items()]
        show(pl.DataFrame(rows, schema={"asset": pl.String, "computed": pl.Int64}), "\nComputed")
        out.print(f"{seconds} s; {foreseen.seconds:.0f} s were expected at most")
    else:
        out.print("Nothing to do: every table is as its inputs and code make it.")
    if report.errors:
        err.print(f"[red]{len(report.errors)} runs failed[/]; what they stopped is not there.")
        raise typer.Exit(1)


def _show(found: Plan, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(found)))  # noqa: T201
        return
    if found.steps:
        rows = [
            {
                "asset": step.asset,
                "verdict": step.verdict,
                "partitions": _span(step.partitions),
                "count": max(1, len(step.partitions)),
                "because": ", ".join(step.reasons),
                "seconds": step.seconds,
            }
            for step in found.steps
        ]
        show(pl.DataFrame(rows, schema=_SCHEMA), "\nPlan")
    skipped = sum(found.skipped.values())
    if found.empty:
        out.print(f"Nothing to do: {skipped:,} partitions are as their inputs and code make them.")
    else:
        out.print(
            f"{skipped:,} partitions are skipped. About {found.seconds:.0f} s if all of it runs."
            "\n\nNext:  [bold]mlops apply[/]"
        )


def _plain(found: Plan) -> dict[str, Any]:
    return {
        "steps": [asdict(step) for step in found.steps],
        "skipped": found.skipped,
        "seconds": found.seconds,
        "empty": found.empty,
    }


def _span(partitions: tuple[str, ...]) -> str:
    if len(partitions) < 2:
        return "".join(partitions)
    return f"{partitions[0]} … {partitions[-1]}"
