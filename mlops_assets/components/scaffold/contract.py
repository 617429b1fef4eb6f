"""The inferred contract of a raw table, as lines of Python to edit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from mlops_assets.components.scaffold.decide import NUMBERED, Decided
from mlops_assets.components.scaffold.look import Table

FEW_VALUES = 12
"""Texts with at most so many values may be no other."""
_WIDTH = 100
_SAYS_NOTHING = ("one value only", "no value at all")
"""Why a column is not in the contract either."""
_TYPES = {pl.Int64: "Int64", pl.Float64: "Float64", pl.Boolean: "Bool", pl.String: "String",
          pl.Date: "Date"}  # fmt: skip


def columns(table: Table, decided: Decided, *, hours: bool = False) -> Iterator[str]:
    """One line a column: the day, the keys, then the others as they stand."""
    hour = 'dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")'
    yield f"date = {hour}" if hours else "date = dy.Date(primary_key=True)"
    if NUMBERED in decided.keys:
        yield f"{NUMBERED} = dy.Int64(primary_key=True)"
    for name in sorted(table.rows.columns, key=lambda c: c not in decided.keys):
        if decided.left_out.get(name, "").startswith(_SAYS_NOTHING):
            continue
        late = name == decided.label or "after the fact" in decided.left_out.get(name, "")
        yield _column(table.rows[name], name in decided.keys, late)


def _column(column: pl.Series, is_key: bool, late: bool) -> str:
    """One column; what is `late` is empty until it is known."""
    missing = column.null_count() / len(column)
    said = "primary_key=True" if is_key else f"nullable={missing > 0 or late}"
    if isinstance(column.dtype, pl.Datetime):
        return f'{column.name} = dy.Datetime({said}, time_zone="UTC", time_unit="us")'
    kind = _TYPES[type(column.dtype)]
    seen = _seen(column)
    if kind in ("Int64", "Float64") and (column.min() or 0) >= 0:  # type: ignore[operator]
        said += ", min=0"
    if kind == "String" and (allowed := _allowed(column)):
        line = f"{column.name} = dy.String({said}, regex={allowed})"
        if len(line) + 4 <= _WIDTH:
            return line
    gaps = f"; {missing:.1%} missing" if missing else ""
    return f"{column.name} = dy.{kind}({said})  # {seen}{gaps}"[: _WIDTH - 4]


def _allowed(column: pl.Series) -> str:
    """A pattern of the values that there are, as a literal; empty where there are many."""
    values = column.drop_nulls().unique().sort().to_list()
    if not 1 < len(values) <= FEW_VALUES or any("\n" in v for v in values):
        return ""
    escaped = (re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", v) for v in values)
    return json.dumps(f"^({'|'.join(escaped)})$", ensure_ascii=False)


def _seen(column: pl.Series) -> str:
    """What the values are, for a comment."""
    known = column.drop_nulls()
    if known.is_empty():
        return "no value seen"
    if column.dtype.is_numeric() or column.dtype == pl.Date:
        ends: list[Any] = [known.min(), known.max()]
        shown = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in ends)
        return f"{' to '.join(shown)} seen"
    if column.dtype == pl.Boolean:
        return f"true in {known.sum() / len(known):.0%}"
    few = ", ".join(known.unique().sort().head(3).str.replace_all(r"\s+", " "))
    return f"{known.n_unique():,} values, as {few}"
