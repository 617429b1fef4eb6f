"""Stage 11: what the champion leans on, one row a feature; the weights of the covariate signal.

Judged on the validation days of the champion's own training set, which it was not fitted on; of a
refit, by the model that was evaluated. It follows the champion, also one that came back.
"""

from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import picture, table
from mlops_assets.components.ml_product.enough_labels import validation_days
from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.origin import evaluated, fitted_rows
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.training_set import LABEL, days_of_rows
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.contributions import unit
from mlops_assets.ml.importance import importance_of
from mlops_assets.ml.importance_picture import importance_picture
from mlops_assets.ml.splits import split_by_day
from mlops_assets.stores.content import content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "importance"
PICTURE = "leans_on"


def importance(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> tuple[pl.DataFrame, bytes]:
    """The table of `Importance`, with the version and the digest of the model, and a picture."""
    # A refit was fitted on its validation days as well; the model that was evaluated was not.
    judge = evaluated(store, models, product, version)
    rows = fitted_rows(store, product, judge).collect()
    days = days_of_rows(rows)
    last: Any = days.max()
    _, valid = split_by_day(days.to_numpy(), last, validation_days(product, rows))
    judged = rows.filter(valid)
    model = models.load(judge)
    found = importance_of(model, judged, judged[LABEL].to_numpy(), seed=product.training.seed)
    rows_of_it = found.table.with_columns(
        pl.lit(version.version, pl.Int64).alias("model_version"),
        pl.lit(version.digest).alias("digest"),
    )
    return rows_of_it, importance_picture(found, unit(model.target), model.target.metric)


def weights(store: Lakehouse, product: Product, version: ModelVersion) -> dict[str, float]:
    """Column to weight; none where this model's importance is not known yet."""
    if not store.exists(product.table(NAME)):
        return {}
    of_it = store.scan(product.table(NAME)).filter(pl.col("digest") == version.digest)
    return dict(of_it.select("column", "weight").collect().iter_rows())


def importance_asset(product: Product) -> dg.AssetsDefinition:
    """The asset."""

    @product.asset(
        NAME,
        product.code_version(importance, product.training.validation_days, product.training.seed),
        description="How much the champion's loss rises when a feature tells it nothing, and how"
        " much each feature moves its answers.",
        deps=[product.key(CHAMPION)],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models = lakehouse.store, registry.store
        version = incumbent(store, models, product.name)
        if version is None:
            raise dg.Failure(f"{product.name} has no champion; materialize one first")
        found, png = importance(store, models, product, version)
        data_version = content_hash(found)
        commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
        delta_version = store.overwrite(product.table(NAME), found, commit)
        models.open(product.name, version.run_id).log_bytes(f"evaluation/{PICTURE}.png", png)
        shown = found.select("column", pl.selectors.float().round(4)).head(15)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                "rows": found.height,
                "model_version": version.version,
                "delta_version": delta_version,
                "leans_on": table(shown),
                "picture": picture(png, PICTURE),
            },
        )

    return asset
