"""Tables of the lakehouse as assets: a pure polars function under a decorator is all it takes."""

from mlops_assets.components.tables.feature_table import feature_table
from mlops_assets.components.tables.history import history
from mlops_assets.components.tables.masking import masked
from mlops_assets.components.tables.quality import Quality
from mlops_assets.components.tables.raw_table import raw_table
from mlops_assets.components.tables.registered import register_feature_table
from mlops_assets.components.tables.table_asset import function_of, table_of

__all__ = [
    "Quality",
    "feature_table",
    "function_of",
    "history",
    "masked",
    "raw_table",
    "register_feature_table",
    "table_of",
]
