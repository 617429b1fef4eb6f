"""HOW a declaration becomes assets: the Dagster side of the platform."""

from mlops_assets.components.ml_product.component import MLProduct

__all__ = ["MLProduct"]
