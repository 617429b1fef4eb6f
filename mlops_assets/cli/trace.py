"""`mlops trace`: what stands behind one answer, and the same number computed again."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mlops_assets.cli.cases import declared
from mlops_assets.cli.console import err, out, show
from mlops_assets.cli.session import session
from mlops_assets.components.ml_product.trace import ContentGone, Trace, UnknownPrediction
from mlops_assets.components.ml_product.trace import trace as resolve
from mlops_assets.stores.model_registry import DigestMismatch, VersionNotFound
from mlops_assets.stores.offline_features import UnknownGeneration

_UNRESOLVED = (UnknownPrediction, ContentGone, UnknownGeneration, VersionNotFound, DigestMismatch)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(trace)


def trace(
    prediction_id: Annotated[str, typer.Argument(help="As an answer or a row says it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Resolve an answer: model, training set, gates, features; and compute it again.

    Of a model of trees also what each feature added to the answer, the ten largest.

    Answers of servers are known once their log is in the lake, some half a minute later. Ends
    with 1 where the id is unknown, or where the number does not come out again.

        mlops trace flight_delays:2013-11-13:9E:2900:JFK:v1:r1
        mlops trace flight_delays:2013-11-13:9E:2900:JFK:v1:r1 --json
    """
    with session("trace", alone=False) as opened:
        product = declared(opened, prediction_id.partition(":")[0])
        try:
            found = resolve(opened.lakehouse, opened.registry, product, prediction_id)
        except _UNRESOLVED as error:
            err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(found.as_json()) + "\n")
    else:
        _tell(found)
    if not found.same:
        raise typer.Exit(1)


def _tell(found: Trace) -> None:
    plain = found.as_json()
    for title in ("answer", "model"):
        show(_pairs(plain[title]), f"\n{title.capitalize()} ({found.path})" if title == "answer"
             else f"\n{title.capitalize()}")  # fmt: skip
    show(_pairs(plain["training_set"], "table", "delta version"), "\nTraining set, made of")
    if plain["gates"]:
        gates = pl.DataFrame(plain["gates"], infer_schema_length=None)
        show(gates.select("stage", "gate", "passed", "value", "limit"), "\nGates")
    for row in plain["promotions"]:
        out.print(f"{row['status']} by {escape(str(row['by']))} at {row['decided_at']}")
    source = ", ".join(f"{table} at version {v}" for table, v in plain["features_from"].items())
    show(_pairs(plain["features"]), f"\nFeatures, from {source}")
    for name, (used, again) in plain["features_differing"].items():
        err.print(f"[red]{escape(name)}: used was {used}, the tables say {again}[/]")
    if plain["contributions"]:
        _tell_contributions(plain["contributions"])
    mark = "[green]✓[/]" if found.same else "[red]✗[/]"
    out.print(f"\n{mark} answered {found.answered!r}, computed again {found.computed_again!r}")


def _tell_contributions(found: dict[str, Any]) -> None:
    rows = [{**each, "value": _text(each["value"])} for each in found["largest"]]
    show(pl.DataFrame(rows), f"\nWhat moved the answer most, in {found['unit']}")
    out.print(
        f"{found['base']:.4f} of a row of which nothing is known, these {len(rows)}, and"
        f" {found['others']:+.4f} of all other features make {found['margin']:.4f}. That is how the"
        " model counts, not what causes what.",
        soft_wrap=True,
    )


def _pairs(values: dict[str, Any], name: str = "name", value: str = "value") -> pl.DataFrame:
    return pl.DataFrame({name: list(values), value: [_text(v) for v in values.values()]})


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
