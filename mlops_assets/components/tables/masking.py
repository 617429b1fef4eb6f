"""`masked`: a personal column as a keyed hash, so that rows still join and nobody is named.

The key stands in the environment, never in the lake; with another key nothing joins any more.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import polars as pl

from mlops_assets.stores.source_files import SourceError

KEY = "MLOPS_MASK_KEY"
"""Environment variable: the secret of the hash, at least 16 characters."""
_LEAST = 16


def masked(column: str) -> pl.Expr:
    """The column's values as 32 hex digits of HMAC-SHA256, under its own name; null stays null.

    Use it in a raw table's function, where the rows are read.

    Raises:
        SourceError: the environment has no key, or a short one.
    """
    key = os.environ.get(KEY, "").encode()
    if len(key) < _LEAST:
        raise SourceError(
            f"{column!r} is to be masked, but {KEY} has {len(key)} characters; set it to a secret"
            f" of at least {_LEAST}"
        )

    def hashed(values: pl.Series) -> pl.Series:
        found = [
            None
            if value is None
            else hmac.new(key, str(value).encode(), hashlib.sha256).hexdigest()[:32]
            for value in values
        ]
        return pl.Series(values.name, found, dtype=pl.String)

    return pl.col(column).map_batches(hashed, return_dtype=pl.String)
