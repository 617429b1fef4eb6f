"""The OpenAPI document, from the very types that requests are decoded to."""

from __future__ import annotations

from typing import Any

import msgspec

from bentos.tabular.rows import Refusal, answer_types
from mlops_assets.ml.serving_contract import Contract

_REF = "#/components/schemas/{name}"
_WHY = {
    "400": "The body is not JSON.",
    "401": "No bearer token, or one that is not known.",
    "405": "Another method than POST.",
    "413": "The body is too large.",
    "415": "The body is of another type than JSON.",
    "422": "A field is missing, unknown or wrong; each is named.",
    "429": "Too many requests wait for their answer.",
    "503": "Features cannot be looked up, or the request cannot be logged.",
}


def document(contract: Contract, row: Any, rows: Any, *, tokens: bool) -> dict[str, Any]:
    """The document of a contract whose requests are of the types `row` and `rows`."""
    _, schemas = msgspec.json.schema_components(
        [row, rows, *answer_types(contract), Refusal], ref_template=_REF
    )
    example = {field.name: field.example for field in contract.request}
    security: dict[str, Any] = {"security": [{"token": []}]} if tokens else {}
    components: dict[str, Any] = {"schemas": schemas}
    if tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": contract.product,
            "version": contract.model_version,
            "description": f"Predictions of {contract.product}. What a request does not give is"
            " looked up as of the row's own prediction time.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "The prediction of one row.",
                    **_asked("Row", example),
                    **_answered("Prediction"),
                    **security,
                }
            },
            "/predict_batch": {
                "post": {
                    "operationId": "predict_batch",
                    "summary": "The predictions of many rows, in their order.",
                    **_asked("Rows", {"rows": [example]}),
                    **_answered("Predictions"),
                    **security,
                }
            },
            "/livez": {"get": _probe("livez", "The process lives.", {})},
            "/readyz": {
                "get": _probe("readyz", "Requests are answered.", {"503": "They are not."})
            },
            "/metrics": {"get": _probe("metrics", "What the server counts, for Prometheus.", {})},
        },
        "components": components,
    }


def _asked(name: str, example: Any) -> dict[str, Any]:
    content = {"schema": {"$ref": _REF.format(name=name)}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _answered(name: str) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": _REF.format(name="Refusal")}}}
    answer = {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}
    return {
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{status: {"description": why, "content": refusal} for status, why in _WHY.items()},
        }
    }


def _probe(name: str, summary: str, others: dict[str, str]) -> dict[str, Any]:
    responses = {"200": {"description": summary}} | {
        status: {"description": why} for status, why in others.items()
    }
    return {"operationId": name, "summary": summary, "responses": responses}
