"""The day of a row that has no time: one of so many, by a hash of its keys that never changes.

A split by such days is a random split, and the same row is always on the same side of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date

import polars as pl


def block_of(keys: pl.DataFrame, blocks: int) -> pl.Series:
    """A number from 0 to `blocks` - 1 for each row, by its keys alone, the same for ever."""
    texts = keys.select(
        pl.concat_str(pl.all().cast(pl.String).fill_null("\0"), separator="\x1f")
    ).to_series()
    numbers = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % blocks
        for text in texts
    ]
    return pl.Series("block", numbers, dtype=pl.Int64)


def block_day(keys: Sequence[str], first: date, blocks: int) -> pl.Expr:
    """The day of a row by its keys, counted from `first`."""

    def days(rows: pl.Series) -> pl.Series:
        number = block_of(rows.struct.unnest(), blocks)
        return pl.select(pl.lit(first) + pl.duration(days=pl.lit(number))).to_series().cast(pl.Date)

    return pl.struct(list(keys)).map_batches(days, return_dtype=pl.Date)
