"""Stage 11: the jobs by which a person or a sensor changes the champion.

`<product>_retrain` cuts a new training set and carries on to the champion in one run, which is one
MLflow run too, by dagster-mlflow; the fits are nested below it. `<product>_approve` settles a
waiting promotion and asks who approves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.promotion import REQUEST
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


def retrain_job(product: Product) -> UnresolvedAssetJobDefinition:
    """A new training set, the fits, the evaluation, the Bento, the champion."""
    first, last = product.key(TRAINING_SET), product.key(_last(product))
    between = (
        dg.AssetSelection.assets(first).downstream() & dg.AssetSelection.assets(last).upstream()
    )
    return dg.define_asset_job(
        f"{product.name}_retrain",
        selection=between,
        description="Cut a new training set and carry on to the champion, in one run.",
        hooks={end_with_the_last_step, end_with_a_failure},
    )


def approve_job(product: Product) -> UnresolvedAssetJobDefinition:
    """Promote the candidate that waits; the Launchpad asks for `approved_by`."""
    return dg.define_asset_job(
        f"{product.name}_approve",
        selection=dg.AssetSelection.assets(product.key(CHAMPION)),
        description="Promote the candidate that waits for a person.",
    )


# dagster-mlflow's own hook ends the run with the last node of the whole graph, which need not be
# the last of those that a job selects (docs/decisions/dagster-mlflow.md). So the job has its own.
@dg.success_hook(required_resource_keys={"mlflow_run"})
def end_with_the_last_step(context: dg.HookContext) -> None:
    """End the job's MLflow run when its last step has succeeded."""
    if context.op.name.endswith((f"__{CHAMPION}", f"__{REQUEST}")):
        context.resources.mlflow_run.end_run()


@dg.failure_hook(required_resource_keys={"mlflow_run"})
def end_with_a_failure(context: dg.HookContext) -> None:
    """End the job's MLflow run as failed when a step fails."""
    context.resources.mlflow_run.end_run(status="FAILED")


def _last(product: Product) -> str:
    return CHAMPION if product.promotion.approval == "none" else REQUEST
