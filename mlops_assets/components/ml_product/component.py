"""`MLProduct`: a defs.yaml becomes the assets, checks and jobs of a product's whole lifecycle."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.calendar_retrain import calendar_retrain
from mlops_assets.components.ml_product.drift import drift_asset
from mlops_assets.components.ml_product.evaluation import evaluation_asset
from mlops_assets.components.ml_product.feature_view import feature_view
from mlops_assets.components.ml_product.importance import importance_asset
from mlops_assets.components.ml_product.packaging import bento_asset
from mlops_assets.components.ml_product.performance import performance_asset
from mlops_assets.components.ml_product.product import PRODUCTS, Product
from mlops_assets.components.ml_product.promotion import champion_assets
from mlops_assets.components.ml_product.retrain_decisions import consider_job, decisions_asset
from mlops_assets.components.ml_product.retraining import approve_job, retrain_job
from mlops_assets.components.ml_product.rollback import rollback_job, rollbacks_asset
from mlops_assets.components.ml_product.scoring import predictions_asset
from mlops_assets.components.ml_product.selection import candidate_asset, leaderboard_asset
from mlops_assets.components.ml_product.sensors import retrain_sensor, watch_sensor
from mlops_assets.components.ml_product.shadow import shadow_asset
from mlops_assets.components.ml_product.training import fit_asset
from mlops_assets.components.ml_product.training_set import training_set


class MLProduct(dg.Component, dg.Model, dg.Resolvable):
    """A prediction problem: what to predict, from what, how well, and when to say yes."""

    description: str = Field(description="The question that a prediction answers.")
    owners: list[str] = Field(default=[], description="Teams (team:NAME) or e-mail addresses.")
    problem: str = Field(description="Python module with DAYS, spine(...) and label(...).")
    spine: d.Spine = Field(description="The rows to predict.")
    label: d.Label = Field(description="What is to be predicted.")
    features: d.Features = Field(description="What the model reads.")
    training: d.Training = Field(description="How a candidate comes about.")
    gates: d.Gates = Field(default=d.Gates(), description="What a candidate must meet.")
    promotion: d.Promotion = Field(default=d.Promotion(), description="Who says yes.")
    monitoring: d.Monitoring = Field(default=d.Monitoring(), description="What is watched.")
    retraining: d.Retraining = Field(default=d.Retraining(), description="When to train anew.")

    def product(self, name: str) -> Product:
        """The declaration under its name, resolved and checked."""
        return Product(
            name=name,
            description=self.description,
            owners=tuple(self.owners),
            problem=self.problem,
            spine=self.spine,
            label=self.label,
            features=self.features,
            training=self.training,
            gates=self.gates,
            promotion=self.promotion,
            monitoring=self.monitoring,
            retraining=self.retraining,
        ).check()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets of the product that its folder names, stage by stage."""
        product = PRODUCTS[context.path.name] = self.product(context.path.name)
        fits = (*product.training.families, product.training.baseline)
        retrain, consider, roll_back = (
            retrain_job(product), consider_job(product), rollback_job(product)
        )  # fmt: skip
        return dg.Definitions(
            assets=[
                feature_view(product),
                training_set(product),
                *(fit_asset(product, family) for family in fits),
                leaderboard_asset(product),
                candidate_asset(product),
                evaluation_asset(product),
                bento_asset(product),
                *champion_assets(product),
                predictions_asset(product),
                performance_asset(product),
                drift_asset(product),
                importance_asset(product),
                shadow_asset(product),
                decisions_asset(product),
                rollbacks_asset(product),
            ],
            jobs=[
                retrain,
                consider,
                roll_back,
                *([approve_job(product)] if product.promotion.approval == "required" else []),
            ],
            schedules=[calendar_retrain(product, self.retraining.calendar)],
            sensors=[
                watch_sensor(product, consider, roll_back),
                retrain_sensor(product, retrain),
            ],
        )
