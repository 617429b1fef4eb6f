"""`@feature_table`: a function from tables to a feature table with two times.

Each parameter of the function names a table that it reads: of its own domain, or of any other by
`reads`. A row has the definition's keys, `event_time` and `available_at` (UTC), and on a table
with days `date`, the local day (or the first one of its week or month). What a product may look up
in it is the `Latest` or `Trailing` definition: training, batch scoring and the endpoint share it.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import dataframely as dy
import polars as pl
from dagster._utils.warnings import suppress_dagster_warnings

from mlops_assets.components.automation import content_changed
from mlops_assets.components.code_version import Registry, code_version
from mlops_assets.components.periods import Calendar, periods_of
from mlops_assets.components.recorded import recorded
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables.examine import Table
from mlops_assets.components.tables.publish import publish
from mlops_assets.components.tables.quality import DAY, Quality
from mlops_assets.components.tables.table_asset import (
    DAYS_OF,
    SOURCES_OF,
    TABLES,
    asset_options,
    days_of,
    domain_of,
    table_periods,
)
from mlops_assets.ml.periods import Periods, name_of
from mlops_assets.ml.point_in_time import EVENT_TIME, Definition, Latest
from mlops_assets.stores.lakehouse import Lakehouse

Compute = Callable[..., pl.LazyFrame]

DEFINITIONS: dict[str, Definition] = Registry()
"""Name of each declared feature table to what a product looks up in it."""


def feature_table(
    *,
    definition: Definition,
    days: Calendar | None = None,
    days_later: int = 0,
    reads: Mapping[str, str] | None = None,
    contract: type[dy.Schema] | None = None,
    quality: Quality | None = None,
    owners: Sequence[str] = (),
    tags: dict[str, str] | None = None,
    name: str | None = None,
) -> Callable[[Compute], dg.AssetsDefinition]:
    """Turn a pure polars function into a feature table that products share.

    Args:
        definition: what products look up in it, by which keys, windows or time to live.
        days: its local days, weeks or months; the function then sees the same ones of the tables
            that it reads and that have them, and all of the others.
        days_later: how many of these after its own a row becomes known: the function sees the rows
            of so many before, with the `date` on which they are known.
        reads: parameter to table name ("domain/table") where it is not a table of this domain.
        contract: what a row must be.
        quality: what a day is expected to be.
        owners: teams or e-mail addresses.
        tags: further Dagster tags.
        name: the table's name where one function makes several tables; "domain/table" where the
            function is declared elsewhere.
    """

    # Checks by day and single-run backfills are marked preview and beta.
    @suppress_dagster_warnings
    def decorate(compute: Compute) -> dg.AssetsDefinition:
        domain, _, own = (name or "").rpartition("/")
        domain = domain or domain_of(compute)
        table_name = f"{domain}/{own or compute.__name__}"
        sources = {p: f"{domain}/{p}" for p in inspect.signature(compute).parameters}
        sources |= reads or {}
        daily = {s: s in DAYS_OF or s not in TABLES for s in sources.values()}
        earlier = {s: days_later if days and daily[s] else 0 for s in daily}
        _require_one_calendar(table_name, days, sources.values())
        version = code_version(
            compute, definition, quality or Quality(), *([days_later] if days_later else [])
        )
        # Only a look-up that reads some of the days relies on their order; see ml/point_in_time.py.
        by_days = days is not None and definition.reach is not None
        order_by = definition.keys if by_days and isinstance(definition, Latest) else ()
        table = Table(table_name, contract, quality or Quality(), version, order_by=order_by)
        DEFINITIONS[table_name] = definition
        SOURCES_OF[table_name] = tuple(sources.values())

        @dg.asset(
            **asset_options(table, compute, days, owners, {"layer": "feature"} | (tags or {})),
            deps=[_dep(source, earlier[source]) for source in sources.values()],
            metadata={
                "entity_keys": list(definition.keys),
                "features": list(definition.features),
                "definition": repr(definition),
            },
            automation_condition=content_changed(),
        )
        @recorded
        def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
            store = lakehouse.store
            asked = _published_upstream(context, earlier, days) if days else None
            if asked == []:
                raise dg.Failure(
                    f"{table_name}: none of the days asked for is published upstream"
                    f" ({', '.join(sources.values())}); materialize those first."
                )
            periods = periods_of(days)
            frames = {p: _scan(store, s, asked, periods, earlier[s]) for p, s in sources.items()}
            frame = compute(**frames).collect()
            _require_columns(frame, table_name, definition, bool(days))
            yield from publish(context, store, table, frame, asked)

        return asset

    return decorate


def _require_one_calendar(table: str, days: Calendar | None, sources: Iterable[str]) -> None:
    own = periods_of(days)
    for source in sources:
        if days and source in DAYS_OF and (its := table_periods(source)) != own:
            raise ValueError(f"{table} comes in {own}, and {source}, which it reads, in {its}")


def _require_columns(frame: pl.DataFrame, table: str, definition: Definition, daily: bool) -> None:
    wanted = [*definition.reads, EVENT_TIME, *([DAY] if daily else [])]
    if missing := sorted(set(wanted) - set(frame.columns)):
        raise dg.Failure(
            f"{table}: the function returned no column {', '.join(missing)}; a feature table has"
            f" its keys, event_time, available_at{', date' if daily else ''} and what its"
            f" definition reads. It has {', '.join(frame.columns)}.",
            allow_retries=False,
        )


def _dep(source: str, earlier: int) -> dg.AssetDep:
    """A table that is read, of the same day or of one before, which the first days do not have."""
    key = dg.AssetKey(source.split("/"))
    if not earlier:
        return dg.AssetDep(key)
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=-earlier, end_offset=-earlier, allow_nonexistent_upstream_partitions=True
    )
    return dg.AssetDep(key, partition_mapping=mapping)


def _scan(
    store: Lakehouse, source: str, days: list[date] | None, periods: Periods, earlier: int
) -> pl.LazyFrame:
    declared = TABLES.get(source)
    if earlier and declared and declared.contract and not store.exists(source):
        # Before anything has come, nothing is known: the first days are empty.
        return declared.contract.create_empty(lazy=True)
    rows = store.scan(source)
    if days is None or DAY not in rows.collect_schema():
        return rows
    # The range reads few files; a day in it that another table has withheld is left out.
    own = [periods.step(day, -earlier) for day in days]
    rows = store.scan(source, first=own[0], last=own[-1]).filter(pl.col(DAY).is_in(own))
    known_on = dict(zip(own, days, strict=True))
    return rows.with_columns(pl.col(DAY).replace_strict(known_on)) if earlier else rows


def _published_upstream(
    context: dg.AssetExecutionContext,
    sources: Mapping[str, int],
    calendar: Calendar,
) -> list[date]:
    """The days asked for, less those that a table read here has not published.

    Of a table that is read some days later, those before the calendar count as published.
    """
    days, periods = days_of(context), periods_of(calendar)
    begins = str(calendar.get_first_partition_key())
    for source, earlier in sources.items():
        key = dg.AssetKey(source.split("/"))
        there = context.instance.get_materialized_partitions(key)
        if not there:
            continue
        own = {d: name_of(periods.step(d, -earlier)) for d in days}
        absent = [d for d, name in own.items() if name not in there and name >= begins]
        if absent:
            context.log.warning(
                "%s has not published %s: skipped", source, ", ".join(map(str, absent))
            )
        days = [d for d in days if d not in absent]
    return days
