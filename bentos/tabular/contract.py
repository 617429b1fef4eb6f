"""What a served model promises: its features, its version and the threshold of its decisions.

`contract.json` lies beside the service in a Bento. Its features become the type of a request's
rows, so that a wrong row is refused by name and the OpenAPI document lists the features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

Value = float | str | None


class Contract(BaseModel):
    """The contract of one version of one product's model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    model_version: str
    task: Literal["binary_classification"]
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

    Numbers are finite; a string is no number and a number no category.
    """
    number = Annotated[float, Field(strict=True, allow_inf_nan=False)] | None
    category = Annotated[str, Field(strict=True)] | None
    features = dict.fromkeys(contract.numeric, number) | dict.fromkeys(
        contract.categorical, category
    )
    row = TypedDict("Row", features)  # type: ignore[operator]
    row.__pydantic_config__ = ConfigDict(extra="forbid", title="Row")
    return row
