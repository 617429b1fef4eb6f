"""`mlops upkeep`: small files put together, and files that nothing needs removed."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out, show
from mlops_assets.cli.session import session
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.components.upkeep import Tended, as_table, tend
from mlops_assets.stores.lakehouse import TableNotFound
from mlops_assets.stores.upkeep import KEEP_DAYS, NEWEST, VersionPinned


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(upkeep)


def upkeep(
    table: Annotated[str | None, typer.Option(help="One table; all of them without it.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else it only says what.")] = False,
    keep_days: Annotated[
        int, typer.Option(min=1, help="Days through which every version stays readable.")
    ] = KEEP_DAYS,
    remove: Annotated[
        list[int] | None,
        typer.Option(help="A young version of --table to give up; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Put small files together and remove those that no version needs; a dry run without --apply.

    A version to which a model, a gate result or a prediction refers always stays.

        mlops upkeep
        mlops upkeep --apply
        mlops upkeep --table flight_delays/training_set --remove 3
    """
    if remove and not table:
        raise typer.BadParameter("--remove names versions of one table; add --table")
    with session("upkeep", alone=False) as opened, err.status("…") as status:
        lake = opened.lakehouse
        tables = [table] if table else lake.tables()
        done: list[Tended] = []
        try:
            status.update("what refers to which version")
            for each in tend(
                lake, opened.registry, PRODUCTS.values(), tables,
                keep_days=keep_days, apply=apply, remove=remove or (),
            ):  # fmt: skip
                done.append(each)
                status.update(f"{len(done)} of {len(tables)} tables")
        except (VersionPinned, TableNotFound, LookupError) as error:
            err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(_plain(done)) + "\n")
        return
    _tell(done, apply)


def _plain(done: list[Tended]) -> list[dict[str, object]]:
    return [
        {
            "table": each.vacuum.table,
            "files_before": each.compaction.before,
            "files_after": each.compaction.after,
            "crowded_partitions": each.compaction.partitions,
            "removed": list(each.vacuum.files),
            "megabytes": each.vacuum.megabytes,
            "kept": {str(version): list(why) for version, why in each.vacuum.kept.items()},
            "young_versions": each.vacuum.young,
            "applied": each.vacuum.applied,
            "error": each.error,
        }
        for each in done
    ]


def _tell(done: list[Tended], apply: bool) -> None:
    show(as_table(done).drop("error", "kept"), "Tables")
    for each in done:
        for version, why in each.vacuum.kept.items():
            if list(why) != [NEWEST]:
                out.print(
                    f"{each.vacuum.table} keeps version {version}: {escape('; '.join(why))}",
                    soft_wrap=True,
                )
        if each.error:
            err.print(f"[yellow]{each.vacuum.table}: {escape(each.error)}[/]", soft_wrap=True)
    files = sum(len(each.vacuum.files) for each in done)
    megabytes = sum(each.vacuum.megabytes for each in done)
    crowded = sum(each.compaction.partitions for each in done)
    if apply:
        out.print(f"{crowded} partitions compacted; {files} files, {megabytes:.1f} MB removed.")
    else:
        out.print(
            f"A dry run: {crowded} partitions would be compacted, {files} files,"
            f" {megabytes:.1f} MB removed. `mlops upkeep --apply` does it."
        )
