"""Names and types of a table's columns as a contract can have them. Pure polars."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Sequence

import polars as pl

from mlops_assets.stores.sources.times import UTC_TIME, as_utc
from mlops_assets.stores.sources.typed import as_declared

RESERVED = {
    "date", "label", "prediction_time", "known_at", "available_at", "event_time", "rule", "row",
    "prediction_id", "probability", "prediction", "predicted", "decision", "threshold", "revision",
    "model_version",
    # What a dataframely schema has as methods.
    "cast", "column_names", "columns", "create_empty", "create_empty_if_none", "filter", "is_valid",
    "matches", "primary_key", "sample", "to_pydantic_model", "to_sqlalchemy_columns", "validate",
}  # fmt: skip
"""Columns of the platform's own, and names that a contract cannot have."""

_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe",
                        "Ü": "Ue", "ø": "o", "ł": "l"})  # fmt: skip
_LEADING_ZERO = r"^[+-]?0\d"
_WHOLE = r"^[+-]?\d+$"
_BOOLEANS = ["true", "false"]


def safe_names(columns: Sequence[str]) -> dict[str, str]:
    """Each column's name in the source to one that Python, SQL and the platform take."""
    taken: set[str] = set()
    safe = {}
    for position, column in enumerate(columns, 1):
        plain = unicodedata.normalize("NFKD", column.translate(_SPELT))
        ascii_only = plain.encode("ascii", "ignore").decode()
        name = re.sub(r"\W+", "_", ascii_only).strip("_").lower() or f"column_{position}"
        if name[0].isdigit():
            name = f"c_{name}"
        if keyword.iskeyword(name) or name in RESERVED:
            name = f"{name}_"
        own, number = name, 2
        while name in taken:
            name, number = f"{own}_{number}", number + 1
        taken.add(name)
        safe[column] = name
    return safe


def inferred(rows: pl.DataFrame, zone: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows in types that a contract can have; and the columns that have none, with why.

    Text is a number, a time or true and false where every value of it is; a number with a leading
    zero stays text, since it is a code.

    Raises:
        SourceError: a column mixes times with and without a zone, say.
    """
    kinds: dict[str, pl.DataType] = {}
    odd = {}
    for name, kind in rows.schema.items():
        found = _text(rows[name], zone) if kind == pl.String else _declared(kind)
        if found is None:
            odd[name] = f"is {kind}, which is no column of a table here"
        else:
            kinds[name] = found
    return as_declared(rows.select(list(kinds)), kinds, "the table", zone=zone), odd


def _declared(kind: pl.DataType) -> pl.DataType | None:
    if kind.is_integer():
        return pl.Int64()
    if kind.is_numeric():
        return pl.Float64()
    if isinstance(kind, pl.Categorical | pl.Enum) or kind == pl.Null:
        return pl.String()
    if isinstance(kind, pl.Datetime):
        return UTC_TIME
    return kind if kind in (pl.Boolean, pl.Date) else None


def _text(column: pl.Series, zone: str) -> pl.DataType:
    values = column.drop_nulls().unique().str.strip_chars()
    if values.is_empty():
        return pl.String()
    if values.str.contains(_LEADING_ZERO + r"\d*$").any():
        return pl.String()
    if values.str.contains(_WHOLE).all() and values.cast(pl.Int64, strict=False).null_count() == 0:
        return pl.Int64()
    if values.cast(pl.Float64, strict=False).null_count() == 0:
        return pl.Float64()
    if values.str.to_lowercase().is_in(_BOOLEANS).all():
        return pl.Boolean()
    frame = values.to_frame()
    times = frame.select(as_utc(values.name, pl.String(), zone, "the table")).to_series()
    return UTC_TIME if times.null_count() == 0 else pl.String()
