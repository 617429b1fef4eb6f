"""Which types a column takes when it leaves polars: as plain values, and as a Delta table's.

A Delta table knows no categories, no unsigned numbers, no nanoseconds and one time zone; what it
can hold without loss is converted, the rest is refused with the column's name.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")

_SIGNED: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
}
_REMEDIES: dict[type[pl.DataType], str] = {
    pl.Null: "give it a type, such as pl.lit(None, dtype=pl.Float64)",
    pl.Duration: "store a number with the unit in its name, such as delay_minutes",
    pl.Time: "store a UTC datetime, or minutes since midnight",
    pl.Object: "store plain values",
    pl.Int128: "cast it to Int64",
    pl.UInt128: "cast it to Int64",
}


def plain_type(dtype: pl.DataType) -> pl.DataType:
    """Return `dtype` with Categorical and Enum replaced by String, also inside nested types."""
    return _map_leaves(dtype, _plain_leaf)


def stored_form(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with the types of a Delta table; values and column order stay.

    Categorical and Enum become String, datetimes UTC in microseconds, unsigned numbers the next
    signed type, Array becomes List.

    Raises:
        TypeError: naming the column, if it is a datetime without a time zone or of a type that a
            Delta table cannot hold.
    """
    changed = {
        name: stored
        for name, dtype in frame.schema.items()
        if (stored := _stored_type(name, dtype)) != dtype
    }
    return frame.cast(changed) if changed else frame  # type: ignore[arg-type]


def _stored_type(column: str, dtype: pl.DataType) -> pl.DataType:
    def leaf(inner: pl.DataType) -> pl.DataType:
        if isinstance(inner, pl.Datetime):
            if inner.time_zone is None:
                raise TypeError(
                    f"column {column!r} is a datetime without a time zone; say which, for example "
                    f'pl.col("{column}").dt.replace_time_zone("UTC")'
                )
            return UTC_TIME
        if type(inner) in _REMEDIES:
            raise TypeError(
                f"column {column!r} is {inner}, which a Delta table cannot hold; "
                f"{_REMEDIES[type(inner)]}"
            )
        return _SIGNED.get(type(inner), _plain_leaf(inner))

    return _map_leaves(dtype, leaf, arrays_as_lists=True)


def _plain_leaf(dtype: pl.DataType) -> pl.DataType:
    return pl.String() if isinstance(dtype, pl.Categorical | pl.Enum) else dtype


def _map_leaves(
    dtype: object, leaf: Callable[[pl.DataType], pl.DataType], *, arrays_as_lists: bool = False
) -> pl.DataType:
    """Return `dtype` with `leaf` applied to it, or to what stands inside a nested type."""
    if isinstance(dtype, pl.Struct):
        return pl.Struct(
            {
                field.name: _map_leaves(field.dtype, leaf, arrays_as_lists=arrays_as_lists)
                for field in dtype.fields
            }
        )
    if isinstance(dtype, pl.List | pl.Array):
        inner = _map_leaves(dtype.inner, leaf, arrays_as_lists=arrays_as_lists)
        if isinstance(dtype, pl.Array) and not arrays_as_lists:
            return pl.Array(inner, dtype.size)
        return pl.List(inner)
    # Polars also accepts a bare class, such as pl.Int64, for the inner type.
    plain = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(plain, pl.DataType)
    return leaf(plain)
