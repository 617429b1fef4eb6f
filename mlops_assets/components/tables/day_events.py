"""The materialization events of single days, in runs of one day and of many."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg

from mlops_assets.ml.periods import name_of


def day_event(
    context: dg.AssetExecutionContext,
    key: str,
    data_version: str,
    metadata: dict[str, Any],
    code_version: str,
) -> Any:
    """The materialization of one day.

    A run of one day yields an output, so that what is downstream in the same run goes on. A run of
    many days yields plain events instead: an output would stamp one data version on all of them.
    It goes on as well, see `recorded`.
    """
    if len(context.partition_keys) == 1:
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(data_version))
    tags = {
        "dagster/data_version": data_version,
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": code_version,
    }
    return dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata, tags=tags)


def is_of(event: Any, day: date) -> bool:
    """Whether an event that `publish` yields is the materialization of a day."""
    if isinstance(event, dg.MaterializeResult):
        return True
    return isinstance(event, dg.AssetMaterialization) and event.partition == name_of(day)


def with_metadata(metadata: dict[str, Any], event: Any) -> Any:
    """The same materialization, showing more."""
    if isinstance(event, dg.MaterializeResult):
        return event._replace(metadata={**(event.metadata or {}), **metadata})
    return event.with_metadata({**event.metadata, **metadata})
