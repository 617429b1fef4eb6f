"""What a served model promises: its features, its version and the threshold of its decisions.

`contract.json` lies beside the service in a Bento. Its features become the type of a request's
rows, so that a wrong row is refused by name and the OpenAPI document lists the features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

Value = float | str | None


class Contract(BaseModel):
    """The contract of one version of one product's model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    model_version: str
    task: Literal["binary"]
    threshold: float = Field(ge=0, le=1)
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the contract at `path`."""
        return cls.model_validate_json(path.read_bytes())

    @model_validator(mode="after")
    def _names_each_feature_once(self) -> Self:
        names = [*self.numeric, *self.categorical]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: named twice among the features")
        if not names:
            raise ValueError("no features; a model needs at least one")
        return self


def row_type(contract: Contract) -> type[dict[str, Value]]:
    """Return the type of one row: every feature of the contract, each possibly null, no other.

    Numbers are finite in single precision, in which models compute. What is declared is a number or
    a string; booleans are read as either and whole numbers as a level, as in training.
    """
    features: dict[str, Any] = dict.fromkeys(contract.numeric, _NUMBER | None)
    features |= dict.fromkeys(contract.categorical, _LEVEL | None)
    typed_dict: Any = TypedDict  # The type checker knows literal fields only.
    row = typed_dict("Row", features)
    row.__pydantic_config__ = ConfigDict(extra="forbid")
    return row


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


def _in_single_precision(value: float) -> float:
    if abs(value) > _LARGEST:
        raise ValueError(f"{value} is out of range: models compute in single precision")
    return value


def _as_level(value: Any) -> Any:
    """Write a whole number or a boolean as polars casts it to text: 3 and true."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = Annotated[
    float,
    BeforeValidator(_as_number),
    Field(strict=True, allow_inf_nan=False),
    AfterValidator(_in_single_precision),
]
_LEVEL = Annotated[str, BeforeValidator(_as_level), Field(strict=True)]
