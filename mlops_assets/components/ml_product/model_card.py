"""Stage 20: the champion's card, from its own records; in MLflow beside the model, and in the UI.

Reads the registry, the evaluation, the gates and what the model leans on. It decides nothing.
"""

from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product import importance
from mlops_assets.components.ml_product.compliance import licences_of
from mlops_assets.components.ml_product.evaluation import SEGMENTS, as_judged
from mlops_assets.components.ml_product.incumbent import last_outcomes, serving_version
from mlops_assets.components.ml_product.origin import described, evaluated, fitted_rows, set_of
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import (
    DAY,
    LABEL,
    days_of_rows,
    label_summary,
    made_of,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.model_card import Card, markdown
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "model_card"
FILE = "model_card.md"


def card_of(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> Card:
    """What the records say of a version."""
    fitted = fitted_rows(store, product, version).select(DAY, LABEL).collect()
    days = days_of_rows(fitted)
    table, pinned = set_of(product, version)
    judged = evaluated(store, models, product, version)
    return Card(
        name=product.name,
        version=version.version,
        question=product.description,
        owners=product.owners,
        family=version.tags["family"],
        intended_use=product.card.intended_use,
        limits=product.card.limits,
        licences=licences_of(product),
        trained_on={
            "rows": f"{fitted.height:,} labelled rows of {days.n_unique()} {product.periods}",
            "fitted on": described(version),
            "label": label_summary(fitted[LABEL]),
        },
        made_of=made_of(store, product, pinned, table.split("/")[1]),
        evaluation=as_judged(store, product, judged),
        segments=as_judged(store, product, judged, SEGMENTS),
        gates=_gates(store, product, version),
        leans_on=store.scan(product.table(importance.NAME))
        .filter(pl.col("digest") == version.digest)
        .collect(),
    )


def model_card_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: a row with the card of what serves now."""

    @product.asset(
        NAME,
        product.code_version(card_of, markdown, product.card, product.description),
        kinds=["mlflow"],
        description="The champion's model card: data, figures, slices, gates, limits, use.",
        deps=[product.key(importance.NAME)],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models = lakehouse.store, registry.store
        version = serving_version(store, models, product.name)
        text = markdown(card_of(store, models, product, version))
        models.open(product.name, version.run_id).log_text(FILE, text)
        row = {"model_version": version.version, "digest": version.digest, "card": text}
        data_version = combine(digest=version.digest, card=text)
        commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
        store.overwrite(product.table(NAME), pl.DataFrame([row]), commit)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                "model_version": version.version,
                "card": dg.MetadataValue.md(text),
                "in_mlflow": dg.MetadataValue.url(models.link(product.name, version.run_id, FILE)),
            },
        )

    return asset


def _gates(store: Lakehouse, product: Product, version: ModelVersion) -> pl.DataFrame:
    last = last_outcomes(store, product.name, version).values()
    return pl.DataFrame(list(last)).select("gate", "passed", "detail")
