"""What can be wrong with what a caller of the endpoint gives, and with what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from mlops_assets.components.loading import told
from mlops_assets.components.ml_product.contract import KINDS
from mlops_assets.components.ml_product.problem import Unresolved, more_of
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.reading import Finding, unknown
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.quality import DAY
from mlops_assets.components.tables.table_asset import TABLES
from mlops_assets.ml.point_in_time import PREDICTION_TIME

_EXAMPLES = {
    "string": str, "integer": int, "number": int | float, "datetime": str, "boolean": bool,
}  # fmt: skip


def request(product: Product) -> Iterator[Finding]:
    """What a caller gives are columns of the spine's table, of types that JSON has."""
    path, fields = ("serving", "request"), product.request
    if not any(field.required for field in fields.values()):
        says = "names no column that a caller must give, by which a row of the spine is found"
        yield Finding(path, says)
    columns = _columns(product)
    for name, field in fields.items():
        if name not in columns:
            yield Finding(
                (*path, name), unknown(name, "column of the spine's table", list(columns))
            )
        elif (kind := KINDS.get(type(columns[name]))) is None:
            says = f"is {type(columns[name]).__name__}; JSON has text, numbers and times"
            yield Finding((*path, name), says)
        elif not isinstance(field.example, _EXAMPLES[kind]):
            says = f"{field.example!r} is no {kind}, which the column is"
            yield Finding((*path, name, "example"), says)


def on_demand(product: Product) -> Iterator[Finding]:
    """What follows from a request alone is what look-ups and the model need of the spine."""
    path, named = ("serving", "on_demand"), product.serving.on_demand
    if not named:
        if product.problem:
            says = "is missing: name a function that gives polars expressions, module.function"
            yield Finding(path, says)
        return
    try:
        more = more_of(named)
    except Unresolved as error:
        yield Finding(path, str(error))
        return
    columns = _columns(product)
    if product.request.keys() - columns.keys():
        return  # That is reported.
    given = {name: columns[name].dtype for name in product.request}
    make_spine = product.module.spine
    try:
        spine = make_spine(pl.LazyFrame(schema=_dtypes(columns))).collect_schema()
    except Exception:
        return  # That is reported.
    of_clock = [] if product.problem else product.clock.expressions()
    try:
        schema = pl.LazyFrame(schema=given).with_columns([*of_clock, *more()]).collect_schema()
    except Exception as error:
        yield Finding(path, f"{named!r} fails on a request: {told(error)}")
        return
    looked_up = [
        k for t in product.features.tables if t in DEFINITIONS for k in DEFINITIONS[t].keys
    ]
    own = [*product.features.numeric, *product.features.categorical]
    wanted = [DAY, PREDICTION_TIME, *product.spine.entity_keys, *looked_up, *own]
    # What the spine itself lacks is reported there.
    if lost := [n for n in dict.fromkeys(wanted) if n in spine and n not in schema]:
        says = f"and the request give no {', '.join(lost)}; they give {', '.join(schema)}"
        yield Finding(path, f"{named!r} {says}")


def _dtypes(columns: dict[str, Any]) -> dict[str, pl.DataType]:
    return {name: column.dtype for name, column in columns.items()}


CHECKS = (request, on_demand)


def _columns(product: Product) -> dict[str, Any]:
    declared = TABLES.get(product.spine.table)
    if declared is None or declared.contract is None:
        raise Unresolved(f"{product.spine.table}: its columns are not declared")
    return declared.contract.columns()
