"""An open MLOps platform: a lakehouse modeled as Dagster software-defined assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["read"]


def read(table: str, version: int | None = None) -> pl.LazyFrame:
    """A table of the lake as a polars LazyFrame; see `mlops_assets.lake.read`."""
    from mlops_assets import lake

    return lake.read(table, version)
