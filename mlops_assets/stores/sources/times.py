"""Times of a source in UTC: with their zone, or as the clock of the declared one. Pure polars.

Text is read as ISO 8601, with or without an offset. A clock time that a zone has twice in autumn is
taken as the first of the two; one that it skips in spring is no time.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from mlops_assets.stores.source_files import SourceError

UTC_TIME = pl.Datetime("us", "UTC")

_OFFSET = r"\d{2}:\d{2}.*(Z|z|[+-]\d{2}(:?\d{2})?)$"
_WITH = ("%+", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_WITHOUT = (
    "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M",
)  # fmt: skip
_DAY = "%Y-%m-%d"


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
        return value.cast(pl.String).map_batches(
            partial(_parsed, zone=zone), return_dtype=UTC_TIME, is_elementwise=True
        )
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


def _parsed(values: pl.Series, zone: str) -> pl.Series:
    """Texts as times: format by format, each on what is left, since most columns have one."""
    rows = pl.DataFrame({"text": values.str.strip_chars(), "time": pl.Series([], dtype=UTC_TIME)
                         .extend_constant(None, len(values))})  # fmt: skip
    for with_zone, form in _in_order(values):
        left = pl.col("time").is_null() & pl.col("text").is_not_null()
        if not rows.select(left.any()).item():
            break
        text = pl.when(left).then(pl.col("text"))
        if with_zone:
            read = text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
        elif form == _DAY:
            read = _local(text.str.to_date(form, strict=False).cast(pl.Datetime("us")), zone)
        else:
            read = _local(text.str.to_datetime(form, time_unit="us", strict=False), zone)
        rows = rows.with_columns(pl.coalesce("time", read.cast(UTC_TIME)))
    return rows["time"].alias(values.name)


def _in_order(values: pl.Series) -> list[tuple[bool, str]]:
    """Whether a format has a zone, and the format; those that the first value may have first."""
    known = values.drop_nulls()
    zoned = known.head(1).to_frame("t").select(has_offset("t")).to_series().any()
    formats = [(True, f) for f in _WITH] + [(False, f) for f in (*_WITHOUT, _DAY)]
    return sorted(formats, key=lambda each: each[0] != zoned)


def _local(value: pl.Expr, zone: str) -> pl.Expr:
    own = value.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return own.dt.convert_time_zone("UTC")
