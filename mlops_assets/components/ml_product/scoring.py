"""Stage 8: predictions, made as of each row's prediction time, append-only.

They begin after the champion's training cut-off: nothing is scored in sample. Every row says which
model and which feature content made it. A day that is scored again by the same champion on the same
features adds nothing; otherwise it adds a revision.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import once
from mlops_assets.components.ml_product import feature_view
from mlops_assets.components.ml_product.evaluation import trained_through
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.promotion import refusals
from mlops_assets.components.ml_product.training_set import DAY
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.tables.day_events import day_event
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.families import Model
from mlops_assets.stores.content import content_hashes
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelVersion

NAME = "predictions"


def score(
    view: pl.DataFrame, model: Model, version: ModelVersion, product: Product
) -> pl.DataFrame:
    """One prediction a row of the feature view, without its revision and id.

    Columns: the entity keys, `as_of` (UTC), `probability`, `decision`, `threshold`,
    `model_version`, `family`, `features_version` (content of the day's feature view).
    """
    probability = model.predict(view)
    threshold = float(version.tags["threshold"])
    contents = content_hashes(view, by=DAY)
    return view.select(
        *product.spine.entity_keys,
        pl.col("prediction_time").alias("as_of"),
        pl.Series("probability", probability),
        pl.Series("decision", np.asarray(probability >= threshold)),
        pl.lit(threshold).alias("threshold"),
        pl.lit(version.version, pl.Int64).alias("model_version"),
        pl.lit(version.tags["family"]).alias("family"),
        pl.col(DAY).cast(pl.String).replace_strict(contents).alias("features_version"),
    )


def revise(scored: pl.DataFrame, existing: pl.DataFrame | None, product: Product) -> pl.DataFrame:
    """The rows to append: those of days not yet scored by this model on these features.

    `prediction_id` names the product, the key, the model version and the revision.
    """
    made_by = [DAY, "model_version", "features_version"]
    scored = scored.with_columns(pl.lit(1, pl.Int64).alias("revision"))
    if existing is not None and existing.height:
        newest = existing.group_by(DAY).agg(pl.col("revision").max().alias("newest"))
        scored = (
            scored.join(existing.select(made_by).unique(), on=made_by, how="anti")
            .join(newest, on=DAY, how="left", maintain_order="left")
            .with_columns((pl.col("newest").fill_null(0) + 1).alias("revision"))
            .drop("newest")
        )
    parts = [pl.lit(product.name), *(pl.col(k).cast(pl.String) for k in product.spine.entity_keys)]
    name = [*parts, pl.format("v{}", "model_version"), pl.format("r{}", "revision")]
    return scored.select(pl.concat_str(name, separator=":").alias("prediction_id"), pl.all())


def predictions_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, one partition a local day after the first cut-off."""
    code = product.code_version(score, product.columns)

    @product.asset(
        NAME,
        code,
        days=product.scored_days,
        description="One row a prediction, made as of its own prediction time; append-only.",
        deps=[product.read_from(product.table(feature_view.NAME), 0, 0), product.key(CHAMPION)],
        automation_condition=once(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        version = models.champion(product.name)
        if version is None:
            raise dg.Failure(f"{product.name} has no champion; materialize one first")
        if refused := refusals(store, product, version):
            raise dg.Failure(
                f"{product.name}: the alias champion names version {version.version}, which did not"
                f" pass {'; '.join(refused)}. Give the alias back to a version that did.",
                allow_retries=False,
            )
        days = days_of(context)
        _refuse_in_sample(product, days, version)
        view = store.scan(product.table(feature_view.NAME), first=days[0], last=days[-1]).collect()
        scored = score(view, models.load(version), version, product)
        added = revise(scored, _existing(store, product, days), product)
        if added.height:
            commit = Commit(run_id=context.run.run_id, note=f"model version {version.version}")
            store.append(product.table(NAME), added, commit, by=DAY)
        yield from _events(context, store, product, days, version, code)

    return asset


def newest_revision(predictions: pl.LazyFrame, product: Product) -> pl.LazyFrame:
    """Of each key, the newest prediction."""
    newest = pl.col("revision") == pl.col("revision").max().over(product.spine.entity_keys)
    return predictions.filter(newest)


def _existing(store: Lakehouse, product: Product, days: list[date]) -> pl.DataFrame | None:
    if not store.exists(product.table(NAME)):
        return None
    return (
        store.scan(product.table(NAME), first=days[0], last=days[-1])
        .select(DAY, "model_version", "features_version", "revision")
        .unique()
        .collect()
    )


def _refuse_in_sample(product: Product, days: list[date], version: ModelVersion) -> None:
    through = trained_through(version)
    if seen := [d for d in days if d <= through]:
        raise dg.Failure(
            f"{product.name}: {seen[0]} to {seen[-1]} lie in the champion's training set, which"
            f" reaches through {through}; predictions begin the day after.",
            allow_retries=False,
        )


def _events(
    context: dg.AssetExecutionContext,
    store: Lakehouse,
    product: Product,
    days: list[date],
    version: ModelVersion,
    code_version: str,
) -> Iterator[Any]:
    there = store.scan(product.table(NAME), first=days[0], last=days[-1])
    newest = newest_revision(there, product).collect()
    versions = content_hashes(newest, by=DAY)
    delta_version = store.version(product.table(NAME))
    rows = dict(newest.group_by(DAY).agg(pl.len()).iter_rows())
    means = dict(newest.group_by(DAY).agg(pl.col("probability").mean()).iter_rows())
    for day in days:
        key = day.isoformat()
        if key not in versions:
            continue
        metadata = {
            "rows": rows[day],
            "mean_prediction": means[day],
            "model_version": version.version,
            "delta_version": delta_version,
        }
        yield day_event(context, key, versions[key], metadata, code_version)
