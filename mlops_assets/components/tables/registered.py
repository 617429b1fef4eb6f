"""`register_feature_table`: a table that some other asset writes becomes a feature table.

Any asset whose key names a Delta table of the lake will do, and so will a plain `@dg.asset` that
returns a polars frame: the Delta IO manager stores it under its key. It is then named in
`features.tables` of a product like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import dataframely as dy

from mlops_assets.components.tables.examine import Table
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.quality import DAY, Quality
from mlops_assets.components.tables.table_asset import TABLES
from mlops_assets.ml.point_in_time import EVENT_TIME, Definition


def register_feature_table(
    asset: dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey | Sequence[str] | str,
    definition: Definition,
    contract: type[dy.Schema] | None = None,
) -> str:
    """Name what products may look up in a table that is not declared by `@feature_table`.

    A row has the definition's keys and columns, `event_time` and `available_at` (UTC) and `date`,
    the local day that is its partition.

    Args:
        asset: the asset, its key, or the table's name, "domain/table".
        definition: what is looked up, by which keys, windows or time to live.
        contract: the table's columns, where they are declared; they are checked here.

    Returns:
        The table's name, for `features.tables`.

    Raises:
        ValueError: when the look-up has no end, or the contract lacks what it reads.
    """
    key = asset if isinstance(asset, str) else _key(asset).to_user_string()
    if definition.reach is None:
        raise ValueError(
            f"{key}: the look-up reaches back for ever; give its definition a ttl, as in"
            " Latest(..., ttl=timedelta(days=7))"
        )
    if contract is not None:
        wanted = [*definition.reads, EVENT_TIME, DAY]
        if missing := sorted(set(wanted) - set(contract.column_names())):
            raise ValueError(
                f"{key}: {contract.__name__} has no {', '.join(missing)}; a feature table has its"
                f" keys, event_time, available_at, date and what its definition reads"
            )
    DEFINITIONS[key] = definition
    if key not in TABLES:
        TABLES[key] = Table(key, contract, Quality(), code_version="")
    return key


def _key(asset: dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey | Sequence[str]) -> dg.AssetKey:
    if isinstance(asset, dg.AssetsDefinition | dg.AssetSpec):
        return asset.key
    return asset if isinstance(asset, dg.AssetKey) else dg.AssetKey(list(asset))
