"""What a frame says, as a short hash: equal content gives an equal hash, in any order of rows.

The hash of a partition is its data version: where it stays the same, nothing downstream recomputes.
It covers the column names, their types and every cell; duplicates count, the order of rows and of
columns and how a frame is chunked do not. Categorical and Enum count as the strings they stand for,
-0.0 as 0.0, every NaN as the same NaN; null is neither "" nor 0.

Rows are hashed by polars, whose hash may change with its version: an upgrade of polars can change
every hash, which costs a recomputation and never a wrong skip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import polars as pl

from mlops_assets.ml.periods import HOUR_NAME
from mlops_assets.stores.dtypes import UTC_TIME, plain_type

_SEEDS = {"__content_a": 0x9E3779B97F4A7C15, "__content_b": 0xC2B2AE3D27D4EB4F}
_ROWS = "__content_rows"
_KEY = "__content_key"
_HEX_DIGITS = 32


def content_hash(frame: pl.DataFrame) -> str:
    """Return the hash of all of `frame`: 32 hex digits.

    Raises:
        TypeError: if a column holds Python objects, which have no content to hash.
    """
    canonical = _canonical(frame)
    sums = _row_hashes(canonical).select(_totals()).row(0)
    return _digest(_schema(canonical), sums)


def content_hashes(frame: pl.DataFrame, by: str) -> dict[str, str]:
    """Return one hash for each value of the partition column `by`, keyed by the value as text.

    Keys are names of partitions ("2013-03-08", or of an hour "2013-03-08-05:00"). A partition's
    hash is the `content_hash` of its rows, so it does not depend on which others came with it.

    Raises:
        TypeError: if `by` is not a date, text, a whole number or a boolean.
        ValueError: if `by` is null somewhere.
    """
    keys = partition_keys(frame, by)
    canonical = _canonical(frame)
    schema = _schema(canonical)
    groups = _row_hashes(canonical).with_columns(keys.alias(_KEY)).group_by(_KEY).agg(_totals())
    return {key: _digest(schema, sums) for key, *sums in groups.sort(_KEY).iter_rows()}


def partition_keys(frame: pl.DataFrame, by: str) -> pl.Series:
    """Return the partition key of each row of `frame` as text: dates in ISO form, hours as Dagster
    names them.

    Raises:
        TypeError: if `by` is not a date, text, a whole number or a boolean.
        ValueError: if `by` is null somewhere.
    """
    column = frame[by]
    dtype = column.dtype
    if not (
        dtype.is_integer()
        or dtype in (pl.Date, UTC_TIME, pl.String, pl.Boolean)
        or isinstance(dtype, pl.Categorical | pl.Enum)
    ):
        raise TypeError(
            f"cannot partition by {by!r}, which is {dtype}; use a date, text or a whole number"
        )
    if column.null_count():
        raise ValueError(
            f"{by!r} is null in {column.null_count()} rows; each row needs its partition"
        )
    return column.dt.strftime(HOUR_NAME) if dtype == UTC_TIME else column.cast(pl.String)


def combine(**parts: str) -> str:
    """Return one hash (32 hex digits) of named parts, whatever their order.

    Parts are framed by their lengths, so that ("ab", "c") differs from ("a", "bc").
    """
    return _framed(piece for name in sorted(parts) for piece in (name, parts[name]))


def _canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with its columns sorted and one representation for equal values."""
    names = sorted(frame.columns)
    objects = [name for name in names if frame.schema[name] == pl.Object]
    if objects:
        raise TypeError(f"{', '.join(objects)}: a column of Python objects has no content to hash")
    changed = {
        name: plain for name, dtype in frame.schema.items() if (plain := plain_type(dtype)) != dtype
    }
    # Equal floats need nothing: polars hashes -0.0 as 0.0, and every NaN alike.
    return frame.select(names).cast(changed)  # type: ignore[arg-type]


def _row_hashes(canonical: pl.DataFrame) -> pl.DataFrame:
    """Return two 64-bit hashes a row; without columns a frame has no rows."""
    if not canonical.width:
        return pl.DataFrame(schema=dict.fromkeys(_SEEDS, pl.UInt64))
    return pl.DataFrame({name: canonical.hash_rows(seed=seed) for name, seed in _SEEDS.items()})


def _totals() -> list[pl.Expr]:
    return [pl.len().alias(_ROWS), *(pl.col(name).sum() for name in _SEEDS)]


def _schema(canonical: pl.DataFrame) -> str:
    return _framed(str(piece) for column in canonical.schema.items() for piece in column)


def _digest(schema: str, sums: Iterable[int]) -> str:
    return _framed([schema, *map(str, sums)])


def _framed(pieces: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        data = piece.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:_HEX_DIGITS]
