"""`@raw_table`: a function that reads a source becomes a table of the lakehouse.

A table with days (or weeks, or months) is a function of the first and last local day to read; one
without takes nothing. Its partitions arrive by `mlops advance` or the arrival schedule, never by
automation.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import dataframely as dy
import polars as pl
from dagster._utils.warnings import suppress_dagster_warnings

from mlops_assets.components.automation import code_changed, missing_or_code_changed
from mlops_assets.components.code_version import code_version
from mlops_assets.components.periods import Calendar, periods_of
from mlops_assets.components.recorded import recorded
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables.examine import Table
from mlops_assets.components.tables.publish import publish
from mlops_assets.components.tables.quality import DAY, Quality
from mlops_assets.components.tables.table_asset import (
    ARRIVES,
    DAYS_OF,
    LICENCES,
    TABLES,
    asset_options,
    days_of,
    domain_of,
    table_periods,
)
from mlops_assets.stores.source_files import SourceError

Read = Callable[..., pl.DataFrame]


def raw_table(
    *,
    contract: type[dy.Schema],
    days: Calendar | None = None,
    quality: Quality | None = None,
    owners: Sequence[str] = (),
    licence: str = "",
    tags: dict[str, str] | None = None,
) -> Callable[[Read], dg.AssetsDefinition]:
    """Turn a function that reads a source into a raw table.

    Args:
        contract: what a row must be; others go to the table's quarantine.
        days: the source's local days, hours, weeks or months, bounded or open-ended; None for a
            table without. The function then takes `(first, last)` days, both inclusive, and
            returns a `date` column with each row's day; in the table it is the first day of its
            period. Of hours it takes their beginnings (UTC), and `date` is a moment (UTC).
        quality: what a day is expected to be.
        owners: teams ("team:data-engineering") or e-mail addresses.
        licence: of the data, an SPDX name or in words; nothing is promoted that is made of data
            without one.
        tags: further Dagster tags.
    """

    # Checks by day and single-run backfills are marked preview and beta.
    @suppress_dagster_warnings
    def decorate(read: Read) -> dg.AssetsDefinition:
        name = f"{domain_of(read)}/{read.__name__}"
        version = code_version(read, contract, quality or Quality())
        table = Table(name, contract, quality or Quality(), version, arrives=True)

        if licence:
            LICENCES[name] = licence

        periods = periods_of(days)
        _require_one_clock(name, days)
        own_tags = {"layer": "raw"} | ({ARRIVES: "daily"} if days else {})

        @dg.asset(
            **asset_options(table, read, days, owners, own_tags | (tags or {})),
            metadata={"licence": licence} if licence else None,
            automation_condition=code_changed() if days else missing_or_code_changed(),
        )
        @recorded
        def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
            asked = days_of(context) if days else None
            try:
                frame = read(asked[0], periods.read_through(asked[-1])) if asked else read()
            except SourceError as error:
                raise dg.Failure(f"{name}: {error}.", allow_retries=False) from None
            if asked and DAY in frame.columns:
                frame = frame.with_columns(periods.column(pl.col(DAY)))
            yield from publish(context, lakehouse.store, table, frame, asked)

        return asset

    return decorate


def _require_one_clock(name: str, days: Calendar | None) -> None:
    """The raw tables of a domain come in together, so they come in the same periods."""
    domain = name.split("/")[0]
    for other in DAYS_OF:
        together = days and other != name and other.split("/")[0] == domain
        own, its = periods_of(days), table_periods(other)
        if together and TABLES[other].arrives and its != own:
            raise ValueError(
                f"{name} comes in {own}, {other} in {its}: raw tables of a domain have"
                " one clock; declare one of them in a folder of its own"
            )
