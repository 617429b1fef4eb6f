"""From a computed frame to a published table: contract, quarantine, checks, one atomic commit.

The last part of every table asset. A day whose blocking check fails is withheld: its rows go to
the quarantine table with the reason, the day is not materialized, what was published of it before
stays, and the run ends failed naming the days; the other days are published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.metadata import preview, table_schema
from mlops_assets.components.metadata import table as as_table
from mlops_assets.components.tables.day_events import day_event
from mlops_assets.components.tables.examine import RULE, Table, examine
from mlops_assets.components.tables.judge import Verdict
from mlops_assets.components.tables.known import known
from mlops_assets.components.tables.quality import DAY
from mlops_assets.ml.periods import name_of, named
from mlops_assets.ml.profile import profile
from mlops_assets.stores.content import content_hash, content_hashes
from mlops_assets.stores.lakehouse import Commit, Lakehouse

__all__ = ["WITHHELD", "Table", "publish"]

WITHHELD = "withheld"
"""Metadata of a failure that names the days which were withheld."""


def publish(
    context: dg.AssetExecutionContext,
    lakehouse: Lakehouse,
    table: Table,
    frame: pl.DataFrame,
    days: list[date] | None,
) -> Iterator[Any]:
    """Judge the frame, write what is good, and yield the events of each day.

    Raises:
        dagster.Failure: at the end, when days were withheld.
    """
    if days is not None:
        _refuse_other_days(frame, days, table.name)
    _refuse_other_columns(frame, table)
    examined = examine(frame, table, days, known(lakehouse, table, days))
    good, rejected, verdicts = examined.good, examined.rejected, examined.verdicts
    failed = [v for v in verdicts if v.blocks and not v.passed]
    withheld = {v.day: v for v in reversed(failed)}
    kept = good.filter(~_is_withheld(withheld)) if withheld else good
    refused = pl.concat([rejected, _withheld_rows(good, withheld)])

    _write_quarantine(context, lakehouse, table, refused, days)
    yield from _check_events(context, verdicts, table)
    if days is None and not withheld:
        yield _publish_whole(context, lakehouse, table, kept)
    elif days is not None:
        open_days = [d for d in days if name_of(d) not in withheld]
        yield from _publish_days(context, lakehouse, table, kept, refused, open_days)
    if withheld:
        named = ", ".join(day or "all rows" for day in sorted(withheld, key=str))
        raise dg.Failure(
            f"{table.name}: withheld {named}"
            f" ({'; '.join(v.detail for v in failed[:3])}). Their rows are in {table.quarantine};"
            " what was published before stays. Mend the source and materialize again.",
            metadata={WITHHELD: dg.MetadataValue.json(sorted(map(str, withheld)))},
            allow_retries=False,
        )


def _refuse_other_days(frame: pl.DataFrame, days: Sequence[date], name: str) -> None:
    others = frame.filter(~pl.col(DAY).is_in(days).fill_null(False))[DAY].unique().sort()
    if len(others):
        raise dg.Failure(
            f"{name}: the function returned rows whose {DAY} is"
            f" {', '.join(str(day) for day in others[:3])}, which is not among the days asked for"
            f" ({days[0]} to {days[-1]}).",
            allow_retries=False,
        )


def _refuse_other_columns(frame: pl.DataFrame, table: Table) -> None:
    if table.contract is None:
        return
    if unknown := set(frame.columns) - set(table.contract.column_names()):
        raise dg.Failure(
            f"{table.name}: the contract {table.contract.__name__} does not have the columns"
            f" {', '.join(sorted(unknown))}; declare them there, or leave them out.",
            allow_retries=False,
        )


def _is_withheld(withheld: dict[str | None, Verdict]) -> pl.Expr:
    if None in withheld:
        return pl.lit(True)
    return pl.col(DAY).is_in([named(str(day)) for day in withheld])


def _withheld_rows(good: pl.DataFrame, withheld: dict[str | None, Verdict]) -> pl.DataFrame:
    if not withheld:
        return good.clear().with_columns(pl.lit("").alias(RULE))
    rows = good.filter(_is_withheld(withheld))
    if None in withheld:
        return rows.with_columns(pl.lit(f"withheld: {withheld[None].check}").alias(RULE))
    reasons = {named(str(d)): f"withheld: {v.check}" for d, v in withheld.items()}
    return rows.with_columns(
        pl.col(DAY).replace_strict(reasons, return_dtype=pl.String).alias(RULE)
    )


def _write_quarantine(
    context: dg.AssetExecutionContext,
    lakehouse: Lakehouse,
    table: Table,
    refused: pl.DataFrame,
    days: list[date] | None,
) -> None:
    if refused.is_empty() and not lakehouse.exists(table.quarantine):
        return
    commit = Commit(run_id=context.run.run_id, note=f"rows refused by {table.name}")
    if days is None:
        lakehouse.overwrite(table.quarantine, refused, commit)
    else:
        keys = [name_of(d) for d in days]
        lakehouse.overwrite_partitions(
            table.quarantine, refused, by=DAY, partitions=keys, commit=commit
        )


def _check_events(
    context: dg.AssetExecutionContext, verdicts: list[Verdict], table: Table
) -> Iterator[Any]:
    selected = {key.name for key in context.selected_asset_check_keys}
    for check in table.checks:
        if check in selected:
            spec = context.assets_def.get_spec_for_check_key(
                dg.AssetCheckKey(context.asset_key, check)
            )
            yield dg.Output(None, output_name=spec.get_python_identifier())
    for v in verdicts:
        yield dg.AssetCheckEvaluation(
            asset_key=context.asset_key,
            check_name=v.check,
            passed=v.passed,
            partition=v.day,
            severity=dg.AssetCheckSeverity.ERROR if v.blocks else dg.AssetCheckSeverity.WARN,
            description=v.detail,
            metadata=dict(v.facts),
            blocking=v.blocks,
        )


def _publish_whole(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: Table, frame: pl.DataFrame
) -> dg.MaterializeResult[None]:
    version = content_hash(frame)
    commit = Commit(run_id=context.run.run_id, data_versions={"": version})
    delta_version = lakehouse.overwrite(table.name, frame, commit)
    metadata = _metadata(frame, delta_version) | preview(frame) | table_schema(frame)
    metadata |= _profile(frame, table)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(version))


def _publish_days(
    context: dg.AssetExecutionContext,
    lakehouse: Lakehouse,
    table: Table,
    frame: pl.DataFrame,
    refused: pl.DataFrame,
    days: list[date],
) -> Iterator[Any]:
    if not days:
        return
    keys = [name_of(d) for d in days]
    empty = content_hash(frame.clear())
    versions = dict.fromkeys(keys, empty) | content_hashes(frame, by=DAY)
    commit = Commit(run_id=context.run.run_id, data_versions=versions)
    delta_version = lakehouse.overwrite_partitions(
        table.name, frame, by=DAY, partitions=keys, commit=commit
    )
    rows = dict(frame.group_by(DAY).len().iter_rows())
    quarantined = dict(refused.group_by(DAY).len().iter_rows())
    for day, key in zip(days, keys, strict=True):
        metadata: dict[str, Any] = {
            "rows": rows.get(day, 0),
            "quarantined": quarantined.get(day, 0),
            "delta_version": delta_version,
        }
        if day == days[-1]:
            newest = frame.filter(pl.col(DAY) == day)
            metadata |= preview(newest) | table_schema(frame) | _profile(newest, table)
        yield day_event(context, key, versions[key], metadata, table.code_version)


def _profile(frame: pl.DataFrame, table: Table) -> dict[str, Any]:
    """What came from a source, column by column; the newest day of it."""
    if not table.arrives or frame.is_empty():
        return {}
    return {"profile": as_table(profile(frame).drop("alone"))}


def _metadata(frame: pl.DataFrame, delta_version: int) -> dict[str, Any]:
    return {"rows": frame.height, "delta_version": delta_version}
