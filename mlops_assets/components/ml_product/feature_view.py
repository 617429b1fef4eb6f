"""Stage 1: the rows to predict, each with what was known at its own prediction time.

Reads the spine and the feature tables as far back as their definitions reach; writes one partition
a local day, week or month. Training, scoring and drift all read this table, so that they see the
same numbers.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables.publish import Table, publish
from mlops_assets.components.tables.quality import Quality
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.point_in_time import join_all
from mlops_assets.stores.lakehouse import Lakehouse

NAME = "feature_view"


def compute(store: Lakehouse, product: Product, first: date, last: date) -> pl.DataFrame:
    """The feature view of the periods `first` to `last`: keys, prediction time, features."""
    until = product.partitions.read_through(last)
    spine = product.module.spine(store.scan(product.spine.table, first=first, last=last))
    rows = spine.with_columns(_as_text(product)).collect()
    reads = [
        (
            store.scan(table, first=product.first_read(table, first), last=until),
            definition,
        )
        for table, definition in product.definitions.items()
    ]
    keys = [*product.spine.entity_keys, "prediction_time"]
    features = [*product.columns.numeric, *product.columns.categorical]
    return join_all(rows, reads).select(list(dict.fromkeys([*keys, *features])))


def feature_view(product: Product) -> dg.AssetsDefinition:
    """The asset."""
    version = product.code_version(
        compute, product.spine, product.features, product.definitions, product.module.spine
    )
    table = Table(product.table(NAME), None, Quality(), version)

    @product.asset(
        NAME,
        version,
        days=product.days,
        description="The rows to predict, with what was known at their prediction time.",
        deps=[
            dg.AssetKey(product.spine.table.split("/")),
            *(product.read_from(t, -product.days_back(t), 0) for t in product.features.tables),
        ],
        automation_condition=content_changed(),
    )
    def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
        days = days_of(context)
        frame = compute(lakehouse.store, product, days[0], days[-1])
        yield from publish(context, lakehouse.store, table, frame, days)

    return asset


def _as_text(product: Product) -> list[pl.Expr]:
    return [pl.col(c).cast(pl.String) for c in product.columns.categorical]
