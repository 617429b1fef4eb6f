"""Values of a source in their declared types; the first that is not of its type is named."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mlops_assets.stores.source_files import SourceError
from mlops_assets.stores.sources.times import as_utc

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def as_declared(
    raw: pl.DataFrame,
    kinds: Mapping[str, pl.DataType],
    where: str,
    names: Mapping[str, str] | None = None,
    zone: str = "UTC",
) -> pl.DataFrame:
    """The columns of `kinds` in their types.

    Raises:
        SourceError: naming, of each column that does not fit, the first value.
    """
    typed = raw.select(
        _cast(c, raw.schema[c], kind, zone, where).alias(c) for c, kind in kinds.items()
    )
    wrong = []
    for column, kind in kinds.items():
        lost = typed[column].is_null() & raw[column].is_not_null()
        if count := int(lost.sum()):
            value = raw[column].filter(lost)[0]
            more = f" (and {count - 1} more)" if count > 1 else ""
            own = (names or {}).get(column, column)
            wrong.append(f"column {own!r} is {value!r}, expected {_expected(kind)}{more}")
    if wrong:
        raise SourceError(
            f"{where}: {'; '.join(wrong)}; mend the source, or the type in the contract"
        )
    return typed


def _cast(column: str, held: pl.DataType, kind: pl.DataType, zone: str, where: str) -> pl.Expr:
    value = pl.col(column)
    if held == kind:
        return value
    if isinstance(kind, pl.Datetime):
        return as_utc(column, held, zone, where).cast(kind)
    if kind == pl.Date and held == pl.String:
        return value.str.strip_chars().str.to_date("%Y-%m-%d", strict=False)
    if held == pl.String and kind == pl.Boolean:
        text = value.str.strip_chars().str.to_lowercase()
        return pl.when(text.is_in(_TRUE)).then(True).when(text.is_in(_FALSE)).then(False)
    if held == pl.String:
        return value.str.strip_chars().cast(kind, strict=False)
    cast = value.cast(kind, strict=False)
    if held.is_float() and kind.is_integer():
        return pl.when(value == value.floor()).then(cast)
    return cast


def _expected(kind: pl.DataType) -> str:
    if kind.is_integer():
        return "a whole number"
    if kind.is_numeric():
        return "a number"
    if isinstance(kind, pl.Datetime):
        return "a time, as in 2013-01-01T10:00:00Z"
    return {pl.Date: "a day, as in 2013-01-31", pl.Boolean: "true or false"}.get(
        type(kind), str(kind)
    )
