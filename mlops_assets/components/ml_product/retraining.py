"""Stage 9: the jobs that a person or a sensor launches to change the champion.

`<product>_retrain` cuts a new training set; automation carries on from there. `<product>_approve`
settles a waiting promotion and asks who approves it.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET


def retrain_job(product: Product) -> dg.UnresolvedAssetJobDefinition:
    """Cut a training set at the cut-off given; what follows from it follows by automation."""
    return dg.define_asset_job(
        f"{product.name}_retrain",
        selection=dg.AssetSelection.assets(product.key(TRAINING_SET)),
        description="Cut a new training set; fit, evaluation and promotion follow by themselves.",
    )


def approve_job(product: Product) -> dg.UnresolvedAssetJobDefinition:
    """Promote the candidate that waits; the Launchpad asks for `approved_by`."""
    return dg.define_asset_job(
        f"{product.name}_approve",
        selection=dg.AssetSelection.assets(product.key(CHAMPION)),
        description="Promote the candidate that waits for a person.",
    )
