"""What a served model promises: its request, its look-ups, its features, its threshold.

`contract.json` lies beside the service in a Bento. A server takes another model over while it runs
only where all but the version and its threshold is the same: `Contract.hash` says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlops_assets.ml.declared_spine import Clock
from mlops_assets.ml.periods import Every, Periods
from mlops_assets.ml.point_in_time import Definition, Latest, Trailing

_OF_A_VERSION = {"model_version", "threshold"}


Expressions = Callable[[], list[pl.Expr]]
"""What a name under `on_demand` stands for."""


def function_named(name: str) -> Expressions:
    """The function of a dotted name, module.function.

    Raises:
        ImportError, ValueError, AttributeError: there is no such function.
    """
    module, _, function = name.rpartition(".")
    found: Expressions = getattr(import_module(module), function)
    return found


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestField(_Part):
    """One field that a caller gives.

    Attributes:
        name: as in the spine table.
        type: "datetime" is a UTC moment with its offset.
        unit: in words, as "miles"; empty where there is none.
        description: what it is.
        example: a good value.
        required: whether a caller must give it; the others are looked up in the spine.
        pattern: regular expression of good text; None for any.
        least, most: bounds of a good number.
    """

    name: str
    type: Literal["string", "integer", "number", "datetime", "boolean"]
    unit: str = ""
    description: str = ""
    example: str | bool | int | float
    required: bool = True
    pattern: str | None = None
    least: float | None = None
    most: float | None = None


class LatestLookUp(_Part):
    """`Latest`, ready for JSON; pairs keep their order."""

    kind: Literal["latest"] = "latest"
    keys: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    ttl_us: int | None

    def definition(self) -> Latest:
        """The definition itself."""
        ttl = None if self.ttl_us is None else timedelta(microseconds=self.ttl_us)
        return Latest(self.keys, dict(self.columns), ttl)


class TrailingLookUp(_Part):
    """`Trailing`, ready for JSON; pairs keep their order."""

    kind: Literal["trailing"] = "trailing"
    keys: tuple[str, ...]
    prefix: str
    ratios: tuple[tuple[str, tuple[str, str | None]], ...]
    windows_us: tuple[tuple[str, int], ...]

    def definition(self) -> Trailing:
        """The definition itself."""
        windows = {label: timedelta(microseconds=us) for label, us in self.windows_us}
        return Trailing(self.keys, self.prefix, dict(self.ratios), windows)


LookUp = Annotated[LatestLookUp | TrailingLookUp, Field(discriminator="kind")]


class ClockOfRows(_Part):
    """`Clock`, ready for JSON: how a row's day and prediction time follow, without code."""

    time: str
    lead_us: int
    zone: str
    every: Every = "day"
    weekday: int = 0
    keys: tuple[str, ...] = ()
    first: date
    blocks: int = 0

    def clock(self) -> Clock:
        """The clock itself."""
        lead = timedelta(microseconds=self.lead_us)
        periods = Periods(self.every, self.weekday)
        return Clock(self.time, lead, self.zone, self.keys, self.first, self.blocks, periods)


def clock_of_rows(clock: Clock) -> ClockOfRows:
    """A clock, ready for a contract."""
    return ClockOfRows(
        time=clock.time, lead_us=_us(clock.lead), zone=clock.zone,
        every=clock.periods.every, weekday=clock.periods.weekday,
        keys=clock.keys, first=clock.first, blocks=clock.blocks,
    )  # fmt: skip


class Contract(_Part):
    """The contract of one version of one product's model.

    Attributes:
        product: its name.
        model_version: which version the Bento was built with.
        task: binary, multiclass or regression: what an answer is.
        classes: of a multiclass task: what can be predicted, in the model's order.
        family: of the model; the image holds this family's library.
        threshold: of a binary task: probability from which on the decision is yes.
        device: "cpu", "cuda" (a server without a GPU refuses to start) or "auto".
        numeric, categorical: the model's features, in order.
        request: what a caller gives, in order.
        on_demand: dotted name of the function that gives the expressions (polars) by which a
            request's row gets its look-up keys and on-demand features, and without a clock also
            its `date` and `prediction_time`.
        clock: how these two follow from its columns; None where `on_demand` says it.
        spine_table: domain/table of the rows that can be asked for.
        entity_keys: its columns that identify a row, `date` among them.
        lookups: feature table and what is looked up in it, in order.
        code: digest of the code that serves; another code is another contract.
    """

    product: str
    model_version: str
    task: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] = ()
    family: str
    threshold: float | None = Field(default=None, ge=0)
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    request: tuple[RequestField, ...] = Field(min_length=1)
    on_demand: str = ""
    clock: ClockOfRows | None = None
    spine_table: str
    entity_keys: tuple[str, ...]
    lookups: tuple[tuple[str, LookUp], ...]
    code: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the contract at `path`."""
        return cls.model_validate_json(path.read_bytes())

    @property
    def features(self) -> tuple[str, ...]:
        """The model's features in its order, the numeric ones first."""
        return (*self.numeric, *self.categorical)

    @property
    def hash(self) -> str:
        """32 hex digits of all but the version and its threshold; equal ones are swappable."""
        # Where there are no classes the field does not count, as in the contract of an older Bento.
        none = set() if self.classes else {"classes"}
        rest = self.model_dump(mode="json", exclude=_OF_A_VERSION | none)
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def spine_keys(self) -> tuple[str, ...]:
        """What a caller must give: by it the row is found in the spine's table."""
        return tuple(field.name for field in self.request if field.required)

    @property
    def spine_columns(self) -> tuple[str, ...]:
        """What the spine's table gives where a caller does not."""
        return tuple(field.name for field in self.request if not field.required)

    def expressions(self) -> list[pl.Expr]:
        """The on-demand expressions, to be built once.

        Raises:
            ImportError, AttributeError: there is no such function.
        """
        of_clock = self.clock.clock().expressions() if self.clock else []
        return [*of_clock, *(function_named(self.on_demand)() if self.on_demand else [])]

    def definitions(self) -> dict[str, Definition]:
        """Feature table to what is looked up in it."""
        return {table: look_up.definition() for table, look_up in self.lookups}

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for what, names in {
            "the features": self.features,
            "the request": tuple(field.name for field in self.request),
        }.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{', '.join(twice)}: named twice among {what}")
        if not self.on_demand and self.clock is None:
            raise ValueError("either on_demand or a clock says when a row is; give one of them")
        if self.classes and self.task != "multiclass":
            named = ", ".join(self.classes)
            raise ValueError(f"a {self.task} task has no classes; the contract names {named}")
        if not self.features:
            raise ValueError("no features; a model needs at least one")
        return self


def look_ups(definitions: Mapping[str, Definition]) -> tuple[tuple[str, LookUp], ...]:
    """Definitions by table, ready for a contract."""
    return tuple((table, _look_up(definition)) for table, definition in definitions.items())


def _look_up(definition: Definition) -> LookUp:
    if isinstance(definition, Latest):
        ttl = None if definition.ttl is None else _us(definition.ttl)
        return LatestLookUp(
            keys=definition.keys, columns=tuple(definition.columns.items()), ttl_us=ttl
        )
    return TrailingLookUp(
        keys=definition.keys,
        prefix=definition.prefix,
        ratios=tuple(definition.ratios.items()),
        windows_us=tuple((label, _us(length)) for label, length in definition.windows.items()),
    )


def _us(length: Any) -> int:
    return length // timedelta(microseconds=1)
