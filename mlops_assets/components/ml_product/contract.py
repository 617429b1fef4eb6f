"""The serving contract of a product: what its declaration says, with types of the spine's table."""

from __future__ import annotations

import re
from typing import Any, Literal

import dagster as dg
import dataframely as dy

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.product import Product
from mlops_assets.ml.serving_contract import Contract, RequestField, clock_of_rows, look_ups
from mlops_assets.stores.model_registry import ModelVersion

Kind = Literal["string", "integer", "number", "datetime", "boolean"]

KINDS: dict[type[dy.Column], Kind] = {
    dy.String: "string",
    dy.Integer: "integer",
    dy.Int64: "integer",
    dy.Float: "number",
    dy.Float64: "number",
    dy.Datetime: "datetime",
    dy.Bool: "boolean",
    dy.Enum: "string",
    **dict.fromkeys((dy.Int8, dy.Int16, dy.Int32, dy.UInt8, dy.UInt16, dy.UInt32), "integer"),
    dy.Float32: "number",
}
"""Types of a column that a request can have."""


def contract_of(product: Product, version: ModelVersion) -> Contract:
    """The contract of a version; family, classes and code are filled in when its Bento is built.

    Raises:
        dagster.Failure: the declaration does not say what a caller gives.
    """
    if product.problem and not (product.serving.request and product.serving.on_demand):
        raise dg.Failure(
            f"{product.name}: `serving` in its defs.yaml declares no request and on_demand, so that"
            " nothing can be asked; docs/serving.md says how.",
            allow_retries=False,
        )
    return Contract(
        product=product.name,
        model_version=str(version.version),
        task=product.target.task,
        family=version.tags["family"],
        threshold=version.threshold,
        device=product.serving.device,
        numeric=product.columns.numeric,
        categorical=product.columns.categorical,
        request=request_fields(product),
        on_demand=product.serving.on_demand,
        clock=None if product.problem else clock_of_rows(product.clock),
        spine_table=product.spine.table,
        entity_keys=tuple(product.spine.entity_keys),
        lookups=look_ups(product.definitions),
    )


def request_fields(product: Product) -> tuple[RequestField, ...]:
    """What a caller gives, in the order of the declaration.

    Raises:
        LookupError: the spine's table has no such column, or no contract.
        TypeError: the column is of a type that JSON does not have.
    """
    contract = product.spine_contract
    if contract is None:
        raise LookupError(f"{product.spine.table}: its columns are not declared")
    columns = contract.columns()
    return tuple(
        _field(name, declared, columns[name]) for name, declared in product.request.items()
    )


def _field(name: str, declared: d.RequestField, column: Any) -> RequestField:
    kind = KINDS.get(type(column))
    if kind is None:
        raise TypeError(f"request field {name!r} is {type(column).__name__}, which JSON has not")
    return RequestField(
        name=name,
        type=kind,
        unit=declared.unit,
        description=declared.description,
        example=declared.example,
        required=declared.required,
        pattern=_pattern(column),
        least=_number(column, "min"),
        most=_number(column, "max"),
    )


def _pattern(column: Any) -> str | None:
    if isinstance(column, dy.Enum):
        return f"^({'|'.join(re.escape(str(name)) for name in column.categories)})$"
    pattern: str | None = getattr(column, "regex", None)
    return pattern


def _number(column: Any, name: str) -> float | None:
    value = getattr(column, name, None)
    return float(value) if isinstance(value, int | float) else None
