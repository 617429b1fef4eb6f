"""What stage 5 asks of compliance: where personal data goes, whom the model serves worse, licences.

Marks stand where the data is declared: `metadata={"personal": True}` on a column of a contract, and
`compliance` in the product's declaration. Each outcome is a row in `gate_results`, as all gates'.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.table_asset import SOURCES_OF, TABLES
from mlops_assets.ml.compliance_gates import even_for_groups, licences_stated, no_personal_data
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.ml.point_in_time import Latest
from mlops_assets.ml.targets import Target
from mlops_assets.stores.lakehouse import Lakehouse

PERSONAL = "personal"
"""Key of a column's metadata in a contract; true where the column is personal data."""


def judge_compliance(
    store: Lakehouse, product: Product, target: Target, rows: pl.DataFrame, scores: np.ndarray
) -> list[GateOutcome]:
    """The gates; that on groups is left out where the scores are not sound.

    Args:
        store: the lake.
        product: the declaration.
        target: what the candidate predicts.
        rows: the judged rows.
        scores: the candidate's.
    """
    logged = dict.fromkeys([*product.request, *product.spine.entity_keys])
    found = [
        no_personal_data(product.columns.names, logged, personal(product)),
        licences_stated(
            raw_tables(product), licences_of(product), product.compliance.refused_licences
        ),
    ]
    limits = product.compliance.sensitive
    try:
        groups = {name: _groups(store, product, rows, name) for name in limits}
        found.append(even_for_groups(rows[LABEL], scores, groups, limits, target))
    except ValueError:
        pass  # Another gate refuses such scores, and one that was not judged has not passed.
    return found


def personal(product: Product) -> dict[str, str]:
    """Column or feature that is personal to where it says so."""
    found = dict.fromkeys(product.compliance.personal, "compliance.personal")
    for table in (product.spine.table, product.label.table):
        found |= dict.fromkeys(_marked(table), f"the contract of {table}")
    for table in product.features.tables:
        definition, marked = DEFINITIONS[table], set(_marked(table)) | set(found)
        if isinstance(definition, Latest):
            read = definition.columns
            found |= {f: f"the contract of {table}" for f, c in read.items() if c in marked}
    return found


def licences_of(product: Product) -> dict[str, str]:
    """The raw tables that a product is made of to the licence of their data; empty for none."""
    return {t: product.licences.get(t, "") for t in sorted(raw_tables(product))}


def raw_tables(product: Product) -> set[str]:
    """The raw tables that the rows, the label and the features are made of."""
    pending = [product.spine.table, product.label.table, *product.features.tables]
    found: set[str] = set()
    seen: set[str] = set()
    while pending:
        table = pending.pop()
        if table in seen:
            continue
        seen.add(table)
        sources = SOURCES_OF.get(table, ())
        pending += sources
        if not sources:
            found.add(table)
    return found


def _marked(table: str) -> Iterator[str]:
    declared = TABLES.get(table)
    if declared is None or declared.contract is None:
        return
    for name, column in declared.contract.columns().items():
        if (column.metadata or {}).get(PERSONAL):
            yield name


def _groups(store: Lakehouse, product: Product, rows: pl.DataFrame, name: str) -> pl.Series:
    """A sensitive column of the judged rows: of the feature view, else of the spine's table."""
    if name in rows.columns:
        return rows[name]
    keys = product.spine.entity_keys
    days = rows[DAY]
    spine = store.scan(product.spine.table, first=days.min(), last=days.max())  # type: ignore[arg-type]
    known = product.module.spine(spine).select(*keys, name).unique(keys).collect()
    return rows.select(keys).join(known, on=keys, how="left", maintain_order="left")[name]
