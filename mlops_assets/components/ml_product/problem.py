"""A product's problem: the rows to predict, their label, and what a caller knows of a row.

A module says it in polars, or the declaration says it by columns; the stages see no difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from importlib import import_module
from typing import Any

import dataframely as dy
import polars as pl

from mlops_assets.components.loading import told
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.periods import Calendar, periods_of
from mlops_assets.components.tables.table_asset import DAYS_OF
from mlops_assets.ml.declared_spine import DAY, Clock
from mlops_assets.ml.declared_spine import label as label_of
from mlops_assets.ml.periods import day_of, named
from mlops_assets.ml.serving_contract import Expressions, function_named


class Unresolved(ValueError):
    """What a declaration names is not there."""


@dataclass(frozen=True)
class Problem:
    """The rows to predict and their label, by a module or by what is declared of columns.

    Attributes:
        days: local days of the spine, or weeks or months.
        spine: the spine's table to the rows, each with `date` and `prediction_time`.
        label: the label's table to the entity keys and `label`.
        lead: what the module says of the time between prediction and row; None where it does not.
    """

    days: Calendar
    spine: Callable[[pl.LazyFrame], pl.LazyFrame]
    label: Callable[[pl.LazyFrame], pl.LazyFrame]
    lead: timedelta | None = None


def imported(name: str) -> Problem:
    """The problem of a module that has `DAYS`, `spine(...)` and `label(...)`.

    Raises:
        Unresolved: it cannot be imported, or lacks one of these.
    """
    try:
        module = import_module(name)
    except Exception as error:
        raise Unresolved(f"{name!r} cannot be imported: {told(error)}") from error
    if absent := [n for n in ("DAYS", "spine", "label") if not hasattr(module, n)]:
        raise Unresolved(f"{name!r} lacks {', '.join(absent)}")
    try:
        periods_of(module.DAYS)
    except ValueError as error:
        raise Unresolved(f"{name!r} has DAYS that do not do: {error}") from None
    return Problem(module.DAYS, module.spine, module.label, getattr(module, "LEAD", None))


def declared(spine: d.Spine, label: d.Label, lead: timedelta, on_demand: str = "") -> Problem:
    """The problem that columns say.

    Args:
        spine, label: the declaration.
        lead: time between the prediction and the row's own time.
        on_demand: function whose expressions give further columns of a row, module.function.

    Raises:
        Unresolved: the spine's table is not there, or has no days; or there is no such function.
    """
    days = DAYS_OF.get(spine.table)
    if days is None:
        raise Unresolved(f"{spine.table!r} is no declared table with days")
    return Problem(
        days=days,
        spine=partial(_on_the_clock, clock=clock_of(spine, lead), more=more_of(on_demand)),
        label=partial(
            label_of,
            keys=tuple(spine.entity_keys),
            column=label.column,
            positive=label.positive,
        ),
    )


def more_of(on_demand: str) -> Expressions:
    """The function that `serving.on_demand` names; one that gives nothing where it names none.

    Raises:
        Unresolved: there is no such function, or it gives no expressions.
    """
    if not on_demand:
        return _nothing
    says = f"{on_demand!r} names a function that gives polars expressions, module.function"
    try:
        found = function_named(on_demand)
        given = list(found())
    except Exception as error:
        raise Unresolved(f"{says}: {told(error)}") from error
    if odd := [each for each in given if not isinstance(each, pl.Expr)]:
        raise Unresolved(f"{says}: it gives {odd[0]!r}")
    return found


def clock_of(spine: d.Spine, lead: timedelta) -> Clock:
    """How the day and the prediction time of a row follow from its columns."""
    days = DAYS_OF[spine.table]
    clock = Clock(spine.time, lead, days.timezone, periods=periods_of(days))
    if spine.time:
        return clock
    names = days.get_partition_keys()
    return replace(
        clock,
        keys=tuple(k for k in spine.entity_keys if k != DAY),
        first=day_of(named(names[0])),
        blocks=len(names),
    )


def request_of(
    contract: type[dy.Schema], spine: d.Spine, read: Sequence[str], day: date
) -> dict[str, d.RequestField]:
    """What a caller gives where nothing is declared: what a row is known by, and as it likes the
    columns that are read, which are looked up where they are not given.

    Args:
        contract: of the spine's table.
        spine: the declaration.
        read: columns that the model or a look-up reads.
        day: of the example of a time.
    """
    columns, known_by = contract.columns(), [*spine.entity_keys, spine.time]
    return {
        name: d.RequestField(example=_example(columns[name], day), required=name in known_by)
        for name in dict.fromkeys([*known_by, *read])
        if name in columns and name != DAY
    }


def _example(column: Any, day: date) -> str | bool | int | float:
    """A value that a column of a contract can have, for the endpoint's document."""
    if isinstance(column, dy.Bool):
        return True
    if isinstance(column, dy.Datetime):
        return f"{day}T12:00:00Z"
    if isinstance(column, dy.Date):
        return day.isoformat()
    if isinstance(column, dy.Enum):
        return str(column.categories[0])
    if isinstance(column, dy.String):
        alone = re.fullmatch(r"\^?\(?([^()|\[\]\\.*+?^$]+)(\|.*)?\)?\$?", column.regex or "")
        return alone[1] if alone else "text"
    least = getattr(column, "min", None)
    if isinstance(column, dy.Float64 | dy.Float32 | dy.Float):
        return float(least if least is not None else 1)
    return int(least if least is not None else 1)


def _nothing() -> list[pl.Expr]:
    return []


def _on_the_clock(frame: pl.LazyFrame, clock: Clock, more: Expressions) -> pl.LazyFrame:
    """The same as `Contract.expressions` gives a request."""
    return frame.with_columns([*clock.expressions(), *more()])
