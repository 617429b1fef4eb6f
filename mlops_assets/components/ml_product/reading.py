"""A declaration read field by field: what fits is taken, each field that does not is a finding.

Pydantic alone stops a part at its first wrong field for all that comes after; here the remaining
fields are still there to be checked. A field that is wrong or missing is absent from the result:
to read it raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Finding:
    """What is wrong with one field.

    Attributes:
        path: keys and positions that lead to the field; empty for the declaration as a whole.
        says: the value, and what would be good.
    """

    path: Path
    says: str

    def __str__(self) -> str:
        dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in self.path)
        return ": ".join(filter(None, [dotted.removeprefix("."), self.says]))


def unknown(value: object, kind: str, known: Sequence[str]) -> str:
    """That a name is not known, which one is near, and which there are."""
    near = get_close_matches(str(value), known, 1)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return f"{value!r} is no {kind}; {hint} {', '.join(sorted(known))}"


def read(model: type[M], given: Mapping[str, Any], at: Path = ()) -> tuple[M, list[Finding]]:
    """An instance of the model with every field that fits, and what is wrong with the others."""
    values, findings = model.model_construct(), list[Finding]()
    for name, value in given.items():
        field = model.model_fields.get(name)
        here = (*at, name)
        if field is None:
            findings.append(Finding(here, unknown(name, "field", list(model.model_fields))))
        elif (part := _part(field.annotation)) is None:
            findings += _assign(values, name, value, at)
        elif isinstance(value, Mapping):
            inner, wrong = read(part, value, here)
            setattr(values, name, inner)
            findings += wrong
        else:
            setattr(values, name, part.model_construct())
            says = f"{value!r} is no mapping; it has the fields {', '.join(part.model_fields)}"
            findings.append(Finding(here, says))
    for name, field in model.model_fields.items():
        if name not in given and field.is_required():
            findings.append(Finding((*at, name), f"is missing. {field.description}"))
            if part := _part(field.annotation):
                setattr(values, name, part.model_construct())
    return values, findings


def _assign(values: BaseModel, name: str, value: Any, at: Path) -> Iterator[Finding]:
    field = type(values).model_fields[name]
    if isinstance(value, bool) and field.annotation in (int, float):
        vars(values).pop(name, None)
        yield Finding((*at, name), f"{value!r} is no number. {field.description}")
        return
    try:
        type(values).__pydantic_validator__.validate_assignment(values, name, value)
    except ValidationError as error:
        vars(values).pop(name, None)
        for wrong in error.errors(include_url=False):
            yield Finding((*at, *wrong["loc"]), _sentence(wrong, field.description))


def _sentence(wrong: Any, description: str | None) -> str:
    if wrong["type"] == "literal_error":
        expected = wrong["ctx"]["expected"].replace("'", "")
        return unknown(wrong["input"], "choice", expected.replace(" or ", ", ").split(", "))
    reason = wrong["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{wrong['input']!r} {reason}. {description or ''}".strip()


def _part(annotation: Any) -> type[BaseModel] | None:
    is_part = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_part else None
