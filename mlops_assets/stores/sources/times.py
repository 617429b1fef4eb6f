"""Times of a source in UTC: with their zone, or as the clock of the declared one. Pure polars.

Text is read as ISO 8601, with or without an offset. A clock time that a zone has twice in autumn is
taken as the first of the two; one that it skips in spring is no time.
"""

from __future__ import annotations

import polars as pl

from mlops_assets.stores.source_files import SourceError

UTC_TIME = pl.Datetime("us", "UTC")

_OFFSET = r"\d{2}:\d{2}.*(Z|z|[+-]\d{2}(:?\d{2})?)$"
_WITH = ("%+", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_WITHOUT = (
    "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M",
)  # fmt: skip


def as_utc(column: str, kind: pl.DataType, zone: str, where: str) -> pl.Expr:
    """The column as times in UTC, microseconds; null where it holds none.

    Raises:
        SourceError: when the column's type can hold no time.
    """
    value = pl.col(column)
    if isinstance(kind, pl.Datetime):
        timed = value.dt.convert_time_zone("UTC") if kind.time_zone else _local(value, zone)
        return timed.cast(UTC_TIME)
    if kind == pl.Date:
        return _local(value.cast(pl.Datetime("us")), zone).cast(UTC_TIME)
    if kind in (pl.String, pl.Null):
        return _parsed(value.cast(pl.String).str.strip_chars(), zone)
    raise SourceError(
        f"{where}: column {column!r} is {kind}, expected a time; as text it is ISO 8601, as in"
        " 2013-01-01T10:00:00Z"
    )


def has_offset(column: str) -> pl.Expr:
    """Whether a text names its zone."""
    return pl.col(column).str.strip_chars().str.contains(_OFFSET)


def require_one_kind(rows: pl.DataFrame, column: str, own: str, where: str) -> None:
    """Refuse text of which some names a zone and some does not.

    Raises:
        SourceError: with one of each.
    """
    if rows.schema[column] != pl.String:
        return
    texts = rows.select(column).drop_nulls()
    split = texts.group_by(has_offset(column).alias("zoned"), maintain_order=True).agg(
        pl.len(), pl.col(column).first()
    )
    if split.height == 2:
        (_, zoned, one), (_, naive, other) = split.sort("zoned", descending=True).rows()
        raise SourceError(
            f"{where}: column {own!r} mixes times with a zone ({zoned}, as {one!r}) and without"
            f" ({naive}, as {other!r}); write all of them with their zone"
        )


def require_times(
    rows: pl.DataFrame, column: str, own: str, parsed: str, where: str, zone: str
) -> None:
    """Refuse rows without a time.

    Raises:
        SourceError: naming the first value.
    """
    bad = rows.filter(pl.col(parsed).is_null())
    if bad.is_empty():
        return
    value = bad[column][0]
    more = f" (and {bad.height - 1} more)" if bad.height > 1 else ""
    if value is None:
        says = "is empty; no day would ask for such a row, so leave it out of the source"
    elif isinstance(value, str):
        says = f"is {value!r}, which is no time in {zone}; expected as in 2013-01-01T10:00:00Z"
    else:
        says = f"is {value}, a clock time that {zone} skipped; is the zone right?"
    raise SourceError(f"{where}: column {own!r} {says}{more}")


def _parsed(text: pl.Expr, zone: str) -> pl.Expr:
    zoned = [text.str.to_datetime(f, time_unit="us", time_zone="UTC", strict=False) for f in _WITH]
    naive = [text.str.to_datetime(f, time_unit="us", strict=False) for f in _WITHOUT]
    naive.append(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    return pl.coalesce(*zoned, _local(pl.coalesce(*naive), zone).cast(UTC_TIME))


def _local(value: pl.Expr, zone: str) -> pl.Expr:
    own = value.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return own.dt.convert_time_zone("UTC")
