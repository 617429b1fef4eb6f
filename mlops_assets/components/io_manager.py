"""The Delta IO manager: the code location's default.

A plain `@dg.asset` that returns a polars frame is stored as the table that its key names, a daily
one by its `date` column; an asset that reads it gets a LazyFrame, or a DataFrame if it says so.
"""

from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.metadata import preview, table_schema
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.stores.content import content_hash, content_hashes
from mlops_assets.stores.lakehouse import Commit

DAY = "date"


class DeltaIOManager(dg.ConfigurableIOManager):
    """Stores polars frames as Delta tables of the lakehouse."""

    lakehouse: dg.ResourceDependency[LakehouseResource]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write a frame: the whole table, or the partitions of this run."""
        if obj is None:
            return
        frame = obj.collect() if isinstance(obj, pl.LazyFrame) else obj
        name = "/".join(context.asset_key.path)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(
                f"{name} returned {type(obj).__name__}; the lakehouse stores polars frames. Return"
                " a DataFrame or LazyFrame, or give the asset an IO manager of its own."
            )
        store = self.lakehouse.store
        days = list(context.asset_partition_keys) if context.has_asset_partitions else None
        hashes = content_hashes(frame, by=DAY) if days else {"": content_hash(frame)}
        commit = Commit(run_id=context.step_context.run_id, data_versions=hashes)
        if days:
            version = store.overwrite_partitions(
                name, frame, by=DAY, partitions=days, commit=commit
            )
        else:
            version = store.overwrite(name, frame, commit)
        if len(hashes) == 1:
            # Content is the data version, so that the same content stops what is downstream. A run
            # of many days has one data version only: Dagster's own, from the run.
            context.step_context.set_data_version(
                context.asset_key, dg.DataVersion(next(iter(hashes.values())))
            )
        metadata: dict[str, Any] = {"rows": frame.height, "delta_version": version}
        context.add_output_metadata(metadata | preview(frame) | table_schema(frame))

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame | pl.DataFrame:
        """Scan the table, or the partitions that this run reads."""
        name = "/".join(context.asset_key.path)
        if context.has_asset_partitions:
            days = sorted(context.asset_partition_keys)
            rows = self.lakehouse.store.scan(name, first=days[0], last=days[-1])
        else:
            rows = self.lakehouse.store.scan(name)
        return rows.collect() if context.dagster_type.typing_type is pl.DataFrame else rows
