"""Logged answers, read back: the features as a server used them, and as the offline path has them.

The offline path is training's own: the product's definitions and its spine, on the versions of the
tables that the generation of the online store was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.online_features import online_spine
from mlops_assets.components.ml_product.product import Product
from mlops_assets.ml.families import FeatureColumns
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.offline_features import Known, generation, offline, requests_frame


def used_features(rows: pl.DataFrame, columns: FeatureColumns) -> pl.DataFrame:
    """`prediction_id` and the features of rows of `requests`, as a server used them.

    Numbers are floats, the others text; a feature that was not logged is null.
    """
    types: dict[str, Any] = dict.fromkeys(columns.numeric, pl.Float64())
    types |= dict.fromkeys(columns.categorical, pl.String())
    decoded = rows["features"].str.json_decode(pl.Struct(types)).struct.unnest()
    return rows.select("prediction_id").hstack(decoded)


def offline_features(
    store: Lakehouse, product: Product, rows: pl.DataFrame, known: Mapping[str, Known]
) -> pl.DataFrame:
    """The product's features of the requests in rows of `requests`, in their order.

    Raises:
        KeyError: a table that the generation, `known`, does not hold.
    """
    schema = store.schema(product.spine.table)
    types = {name: schema[name] for name in product.request}
    asked = requests_frame(rows["request"].to_list(), types)
    found = offline(
        store, asked, online_spine(product), product.module.spine, product.definitions, known
    )
    return found.select(product.columns.names)


def held(store: Lakehouse, product: Product, name: str) -> Mapping[str, Known]:
    """What a generation held of each table. Raises `UnknownGeneration`."""
    return generation(store, product.name, name)


def answers_again(
    models: ModelRegistry, product: Product, version: int, rows: pl.DataFrame
) -> np.ndarray:
    """A version's probability of each row of `requests`, from the features that were used.

    Raises:
        VersionNotFound, DigestMismatch: the registry has not the model as it was.
    """
    found = models.get(product.name, version)
    model = models.load(found)
    return model.predict(used_features(rows, model.columns).drop("prediction_id"))
