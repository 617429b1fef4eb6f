"""Stage 3b: the newest days of the feature tables, in the online store where a server reads them.

A generation is the hash of its content. Which version of which table it was made of is a row in the
product's own table, written before the store points to the generation: whatever is answered with
it can be computed again from the lake.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import days_changed
from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.resources import LakehouseResource, OnlineStoreResource
from mlops_assets.components.tables.table_asset import table_periods
from mlops_assets.ml.periods import Periods, named
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.online_features import Spine
from mlops_assets.stores.online_snapshot import snapshot_of
from mlops_assets.stores.online_store import (
    Snapshot,
    Table,
    all_chunks,
    described,
    without_password,
)

NAME = "online_features"
_TIME = pl.Datetime("us", "UTC")
_SCHEMA: dict[str, Any] = {
    "generation": pl.String,
    "published_at": _TIME,
    "table": pl.String,
    "delta_version": pl.Int64,
    "first_day": pl.Date,
    "known_from": _TIME,
    "known_through": _TIME,
    "keys": pl.Int64,
    "chunks": pl.Int64,
    "bytes": pl.Int64,
}


def newest_days(store: Lakehouse, product: Product) -> dict[str, Table]:
    """The snapshot of the newest days that are declared to be asked for online.

    Of rows without a time it is all of them: a day that is a hash of their keys is never old.

    Raises:
        dagster.Failure: the spine has no day yet.
    """
    days = store.partitions(product.spine.table) if store.exists(product.spine.table) else []
    if not days:
        raise dg.Failure(
            f"{product.name}: {product.spine.table} has no day yet; materialize one first.",
            allow_retries=False,
        )
    newest = product.partitions.last_day(named(days[-1]))
    first = product.partitions.of(newest - timedelta(days=product.serving.online_days - 1))
    if not product.problem and not product.spine.time:
        first = named(days[0])
    return snapshot_of(
        store,
        product.definitions,
        online_spine(product),
        first,
        lead=product.lead,
        zone=product.days.timezone,
        periods=read_online(product),
    )


def read_online(product: Product) -> dict[str, Periods]:
    """The tables that are looked up online, to the periods that they come in."""
    tables = [product.spine.table, *product.features.tables]
    return {table: table_periods(table) for table in tables}


def online_spine(product: Product) -> Spine | None:
    """What of the spine is looked up online: the request fields that a caller may leave out."""
    fields = product.request
    keys = tuple(name for name, field in fields.items() if field.required)
    columns = tuple(name for name, field in fields.items() if not field.required)
    return Spine(product.spine.table, keys, columns) if columns else None


def versions_of(store: Lakehouse, product: Product, generation: str) -> pl.DataFrame:
    """The rows of a generation: table, version, and the times that are covered."""
    rows = store.scan(product.table(NAME)).filter(pl.col("generation") == generation)
    return rows.sort("table").collect()


def online_features_asset(product: Product) -> dg.AssetsDefinition:
    """The asset."""
    read = read_online(product)

    @product.asset(
        NAME,
        product.code_version(
            newest_days,
            described,
            product.definitions,
            online_spine(product),
            product.spine.time,
            product.serving.online_days,
        ),
        kinds=("lmdb", "polars"),
        description="What is known of the newest days, by key, where the endpoint reads it.",
        deps=[dg.AssetKey(name.split("/")) for name in read],
        automation_condition=days_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        online_store: OnlineStoreResource,
    ) -> dg.MaterializeResult[Any]:
        begun = time.perf_counter()
        tables = newest_days(lakehouse.store, product)
        snapshot = described(product.name, tables, datetime.now(UTC))
        delta_version = _record(lakehouse.store, product, snapshot, context.run.run_id)
        online_store.store.write(snapshot, all_chunks(snapshot, tables))
        seconds = time.perf_counter() - begun
        return dg.MaterializeResult(
            data_version=dg.DataVersion(snapshot.generation),
            metadata=_shown(snapshot, tables)
            | {
                "delta_version": delta_version,
                "seconds": round(seconds, 2),
                "store": without_password(online_store.uri),
            },
        )

    return asset


def rows_of(snapshot: Snapshot) -> pl.DataFrame:
    """One row a table of a generation."""
    rows = [
        {
            "generation": snapshot.generation,
            "published_at": snapshot.published_at,
            "table": name,
            "delta_version": held.covered.delta_version,
            "first_day": held.covered.first_day,
            "known_from": held.covered.known_from,
            "known_through": held.covered.known_through,
            "keys": held.keys,
            "chunks": held.chunks,
            "bytes": held.bytes,
        }
        for name, held in snapshot.held.items()
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def _record(store: Lakehouse, product: Product, snapshot: Snapshot, run_id: str) -> int:
    """Write down what a generation is made of, once; return a version that says so."""
    name = product.table(NAME)
    if store.exists(name) and versions_of(store, product, snapshot.generation).height:
        return store.version(name)
    return store.append(name, rows_of(snapshot), Commit(run_id=run_id))


def _shown(snapshot: Snapshot, tables: Mapping[str, Table]) -> dict[str, Any]:
    rows = rows_of(snapshot).drop("generation", "published_at")
    return {
        "generation": snapshot.generation,
        "keys": int(rows["keys"].sum()),
        "bytes": int(rows["bytes"].sum()),
        "known_through": table(
            rows.select("table", "known_from", "known_through", "delta_version")
        ),
        "tables": len(tables),
    }
