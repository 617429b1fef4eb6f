"""What raw and feature tables share as assets: names, options, the days that a run asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from mlops_assets.components.code_version import Registry
from mlops_assets.components.periods import Calendar, declare, periods_of_asset
from mlops_assets.components.tables.examine import Table
from mlops_assets.components.tables.quality import CHECKS
from mlops_assets.ml.periods import Periods, named

ARRIVES = "arrives"
"""Tag of a raw table whose days arrive by themselves: "daily"."""

TABLES: dict[str, Table] = Registry()
"""Name of each declared raw and feature table to its contract and checks."""

DAYS_OF: dict[str, Calendar] = Registry()
"""Name of each declared table that has days, weeks or months to them."""

LICENCES: dict[str, str] = Registry()
"""Name of each declared raw table to the licence of its data, where that is stated."""

SOURCES_OF: dict[str, tuple[str, ...]] = Registry()
"""Name of each declared feature table to the tables that it is made of."""

_FUNCTIONS: dict[dg.AssetKey, Callable[..., Any]] = {}
_TABLES: dict[dg.AssetKey, Table] = {}


def function_of(asset: dg.AssetsDefinition) -> Callable[..., Any]:
    """The pure function under a table's decorator: to test it, or to call it in a notebook.

    Raises:
        KeyError: when the asset is no raw or feature table.
    """
    return _FUNCTIONS[asset.key]


def table_of(asset: dg.AssetsDefinition) -> Table:
    """What a table's declaration says: its contract, its expectations, its checks.

    Raises:
        KeyError: when the asset is no raw or feature table.
    """
    return _TABLES[asset.key]


def table_periods(name: str) -> Periods:
    """Which periods a table's partitions are; days where nothing is declared of it."""
    return periods_of_asset(dg.AssetKey(name.split("/")))


def domain_of(function: Callable[..., Any]) -> str:
    """The folder under defs/ that a function is declared in, which is its table's schema."""
    return function.__module__.split(".")[-2]


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """The local days, or other periods, that this run is asked for, in order."""
    return sorted(named(key) for key in context.partition_keys)


def asset_options(
    table: Table,
    function: Callable[..., Any],
    days: Calendar | None,
    owners: Sequence[str],
    tags: dict[str, str],
) -> dict[str, Any]:
    """Arguments of `dagster.asset` that follow from the declaration."""
    key = dg.AssetKey(table.name.split("/"))
    _FUNCTIONS[key] = function
    _TABLES[key] = table
    TABLES[table.name] = table
    declare(key, days)
    if days is not None:
        DAYS_OF[table.name] = days
    return {
        "key": key,
        "description": inspect.getdoc(function),
        "group_name": table.name.split("/")[0],
        "partitions_def": days,
        "backfill_policy": dg.BackfillPolicy.single_run() if days else None,
        "output_required": False,
        "dagster_type": dg.Nothing,
        "kinds": {"polars", "deltalake"},
        "owners": list(owners),
        "tags": tags,
        "code_version": table.code_version,
        "check_specs": [
            dg.AssetCheckSpec(
                check,
                asset=key,
                blocking=CHECKS[check][0],
                description=CHECKS[check][1],
                partitions_def=days,
            )
            for check in table.checks
        ],
    }
