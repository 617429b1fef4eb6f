"""Where a registered version comes from: what it was fitted on, and whose evaluation speaks for it.

A candidate is evaluated as it is. With `training.refit_on_all` what is registered after it is the
same family with the same parameters, fitted on all labels; nothing is left to judge that one on, so
that the evaluation of the first speaks for both (refit.py). No writing.
"""

from __future__ import annotations

import polars as pl

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

REFIT = "refit"
"""Table of the refits: which version, of which that was evaluated."""
REFIT_SET = "refit_set"
"""Table of the rows that refits were fitted on."""
REFIT_OF = "refit_of"
"""Tag of a refit: the version that was evaluated. It tells people; the table decides."""
FITTED_ON = "fitted_on"
"""Tag of a refit: the name of the table that `training_set_version` counts."""
FALLBACK = "fallback"
"""Tag of a baseline that stands in for a candidate: why."""


def set_of(product: Product, version: ModelVersion) -> tuple[str, int]:
    """The table, "product/name", and its version that a registered version says it was fitted on.

    It is a tag, which anybody can change; gates hold it against what the training wrote down.
    """
    name = version.tags.get(FITTED_ON, TRAINING_SET)
    return product.table(name), int(version.tags["training_set_version"])


def fitted_rows(store: Lakehouse, product: Product, version: ModelVersion) -> pl.LazyFrame:
    """The rows that a registered version was fitted on, as they were pinned."""
    table, pinned = set_of(product, version)
    return store.scan(table, version=pinned)


def evaluated(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> ModelVersion:
    """The version whose evaluation speaks for this one: itself, but for a refit."""
    table = product.table(REFIT)
    if not store.exists(table):
        return version
    of_it = store.scan(table).filter(pl.col("digest") == version.digest)
    numbers = of_it.select("evaluated_version").collect().to_series()
    return models.get(product.name, numbers[0]) if len(numbers) else version


def described(version: ModelVersion) -> str:
    """In words for the UI: what it was fitted on, and what was evaluated."""
    through = version.tags["cutoff"]
    if first := version.tags.get(REFIT_OF):
        return f"all labels through {through}; version {first}, of the same settings, was evaluated"
    said = f"labels through {through}, evaluated as it is on later ones"
    fallback = version.tags.get(FALLBACK)
    return f"{said}; the baseline stands in, {fallback}" if fallback else said
