"""`mlops doctor`: whether this environment is whole, and what to do where it is not."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out
from mlops_assets.cli.session import session
from mlops_assets.components.health import CHECKS, Environment, Finding, examine
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.components.watchdog import LIMIT_SECONDS


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(doctor)


def doctor(
    only: Annotated[
        list[str] | None, typer.Option(help=f"One check; may be repeated: {', '.join(CHECKS)}.")
    ] = None,
    daemon: Annotated[
        bool, typer.Option(help="Whether a daemon is expected to be at work.")
    ] = True,
    limit: Annotated[
        int, typer.Option(min=1, help="Seconds that automation may be silent.")
    ] = LIMIT_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Examine the environment, one line a check; ends with 1 where one is not well.

    In Kubernetes this is the liveness command of the daemon.

        mlops doctor
        mlops doctor --only daemon --only automation --limit 120
        mlops doctor --no-daemon
    """
    checks = only or [name for name in CHECKS if daemon or name not in ("daemon", "automation")]
    found: list[Finding] = []
    with session("doctor", alone=False) as opened:
        environment = Environment(
            opened.home, opened.engine.instance, opened.lakehouse, opened.registry,
            [PRODUCTS[name] for name in opened.products], opened.online_store,
            lambda: sum(map(len, opened.engine.due().values())), limit,
        )  # fmt: skip
        try:
            for finding in examine(environment, checks):
                found.append(finding)
                if not as_json:
                    _tell(finding)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in found]) + "\n")
    if bad := [finding for finding in found if not finding.passed]:
        err.print(f"[red]{len(bad)} of {len(found)} checks failed[/]")
        raise typer.Exit(1)


def _tell(finding: Finding) -> None:
    mark = "[green]✓[/]" if finding.passed else "[red]✗[/]"
    out.print(f"{mark} {finding.check:<14} {escape(finding.detail)}", soft_wrap=True)
    if finding.advice and not finding.passed:
        out.print(f"  {'':<14} [dim]{escape(finding.advice)}[/]", soft_wrap=True)
