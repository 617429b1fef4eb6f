"""The types of requests and answers: what is decoded is what the OpenAPI document says.

The fields of a request are those of the contract. Text that fits the type is taken; for what does
not, `problems` names each field, the value and what would be good.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlops_assets.ml.serving_contract import Contract, RequestField

MAX_ROWS = 1024
_LONGEST_TEXT = 100
_LARGEST = float(2**53)
_SHOWN = 80


_CHANCE = Meta(ge=0, le=1, description="Of the outcome.")
_ANSWERS: dict[str, list[tuple[str, Any]]] = {
    "binary": [
        ("probability", Annotated[float, _CHANCE]),
        ("decision", Annotated[bool, Meta(description="Whether it reaches the threshold.")]),
        ("threshold", Annotated[float, Meta(ge=0)]),
    ],
    "regression": [
        ("prediction", Annotated[float, Meta(description="The number that is expected.")]),
    ],
}
"""What an answer says, by the task; `_one_of` says it of several classes."""


def _one_of(classes: tuple[str, ...]) -> list[tuple[str, Any]]:
    """What an answer says that is one of these classes; that of an older Bento names none."""
    each = {"propertyNames": {"enum": list(classes)}, "required": list(classes)} if classes else {}
    chances = Meta(description="Of each class.", extra_json_schema=each)
    said = Literal[classes] if classes else str
    return [
        ("predicted", Annotated[said, Meta(description="The likeliest class.")]),
        ("probability", Annotated[float, Meta(ge=0, le=1, description="Of that class.")]),
        ("probabilities", Annotated[dict[str, float], chances]),
    ]


def answer_types(contract: Contract) -> tuple[Any, Any]:
    """The type of the answer to one row, and of the answers to many."""
    several = contract.task == "multiclass"
    one = msgspec.defstruct(
        "Prediction",
        [
            ("prediction_id", Annotated[str, Meta(description="`mlops trace` takes it.")]),
            *(_one_of(contract.classes) if several else _ANSWERS[contract.task]),
            ("model_version", Annotated[int, Meta(description="Of the model registry.")]),
            ("as_of", Annotated[datetime, Meta(tz=True, description="Nothing later was known.")]),
            ("missing", Annotated[list[str], Meta(description="Features that are not known.")]),
            ("stale", Annotated[list[str], Meta(description="Whose table ends before `as_of`.")]),
        ],
        module=__name__,
    )
    one.__doc__ = "The answer to one row."
    many = msgspec.defstruct("Predictions", [("predictions", list[one])])  # type: ignore[valid-type]
    many.__doc__ = "The answers to many rows, in the order of the rows."
    return one, many


class Problem(msgspec.Struct):
    """One field that is wrong."""

    field: Annotated[str, Meta(description="Where it stands.")]
    value: Annotated[str, Meta(description="What was given, as JSON; cut where it is long.")]
    expected: Annotated[str, Meta(description="What would be good.")]


class Refusal(msgspec.Struct):
    """Why a request was not answered."""

    error: str
    problems: list[Problem] = []


def request_types(contract: Contract) -> tuple[Any, Any]:
    """The type of one row, and of many: a struct with the contract's fields, and no others."""
    required = [(f.name, _type(f)) for f in contract.request if f.required]
    optional = [(f.name, _type(f) | None, None) for f in contract.request if not f.required]
    row = msgspec.defstruct(
        "Row", [*required, *optional], forbid_unknown_fields=True, kw_only=True, module=__name__
    )
    row.__doc__ = "What the caller knows of a row; what may be null is looked up."
    bounded = Annotated[list[row], Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
    many = msgspec.defstruct("Rows", [("rows", bounded)], forbid_unknown_fields=True)
    many.__doc__ = f"At most {MAX_ROWS} rows."
    return row, many


def whole_numbers(contract: Contract, body: Any) -> Any:
    """A row with 3 for 3.0 in its whole numbers: to JSON, and to the document, they are the same.

    Anything else is returned as it is.
    """
    if not isinstance(body, dict):
        return body
    whole = {field.name for field in contract.request if field.type == "integer"}
    return {
        name: int(value)
        if name in whole and isinstance(value, float) and value.is_integer()
        else value
        for name, value in body.items()
    }


def problems(contract: Contract, body: Any, at: str = "") -> Iterator[Problem]:
    """What is wrong with a row that is JSON but does not fit its type, field by field."""
    if not isinstance(body, dict):
        yield Problem(at or "body", shown(body), f"an object with {_names(contract)}")
        return
    known = {field.name: field for field in contract.request}
    for name in body.keys() - known.keys():
        yield Problem(
            f"{at}{name}", shown(body[name]), f"no such field; there are {_names(contract)}"
        )
    for name, field in known.items():
        value = body.get(name)
        if value is None and (name in body or field.required):
            if field.required:
                given = "null" if name in body else "nothing"
                yield Problem(f"{at}{name}", given, f"{_good(field)}; it is required")
        elif name in body and not _fits(field, value):
            yield Problem(f"{at}{name}", shown(value), _good(field))


def many_problems(contract: Contract, body: Any) -> Iterator[Problem]:
    """What is wrong with a request of many rows."""
    rows = body.get("rows") if isinstance(body, dict) else None
    if not isinstance(rows, list) or len(body) > 1 or not 0 < len(rows) <= MAX_ROWS:
        given = f"{len(rows)} rows" if isinstance(rows, list) else shown(body)
        yield Problem(
            "rows", given, f'{{"rows": [...]}} with 1 to {MAX_ROWS} rows and nothing else'
        )
        return
    for number, row in enumerate(rows):
        yield from problems(contract, row, f"rows[{number}].")


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _type(field: RequestField) -> Any:
    about: dict[str, Any] = {
        "description": ", ".join(filter(None, [field.description, field.unit])) or field.name,
        "examples": [field.example],
    }
    if field.type == "boolean":
        return Annotated[bool, Meta(**about)]
    if field.type == "string":
        return Annotated[str, Meta(pattern=field.pattern, max_length=_LONGEST_TEXT, **about)]
    if field.type == "datetime":
        return Annotated[datetime, Meta(tz=True, **about)]
    least, most = _bounds(field)
    if field.type == "integer":
        return Annotated[int, Meta(ge=int(least), le=int(most), **about)]
    return Annotated[float, Meta(ge=least, le=most, **about)]


def _bounds(field: RequestField) -> tuple[float, float]:
    # Beyond these, whole numbers have no place in a float, in which models compute.
    least = -_LARGEST if field.least is None else field.least
    return least, _LARGEST if field.most is None else field.most


def _fits(field: RequestField, value: Any) -> bool:
    try:
        msgspec.convert(value, _type(field))
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


def _good(field: RequestField) -> str:
    """What a good value is, in words."""
    example = f"for example {shown(field.example)}"
    if field.type == "datetime":
        return f"a time with its offset (RFC 3339), {example}"
    if field.type == "boolean":
        return "true or false"
    if field.type == "string":
        like = f" like {field.pattern}" if field.pattern else f" of at most {_LONGEST_TEXT} letters"
        return f"text{like}, {example}"
    least, most = _bounds(field)
    kind = "a whole number" if field.type == "integer" else "a number"
    return f"{kind} from {least:g} to {most:g}, {example}"


def _names(contract: Contract) -> str:
    return ", ".join(field.name for field in contract.request)


def utc(value: Any) -> Any:
    """A time in UTC; other values as they are.

    Raises:
        OverflowError: a time at the end of the calendar that UTC cannot say.
    """
    if isinstance(value, datetime) and value.tzinfo is not UTC:
        return value.astimezone(UTC)
    return value
