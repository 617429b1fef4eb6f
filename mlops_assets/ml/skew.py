"""Skew between training and serving: features as a server used them against the offline path's.

Cell by cell: one definition on the same content gives the same number. Only the last digits of a
float may differ, which polars itself rounds otherwise in one row than in many.
"""

from __future__ import annotations

import polars as pl

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.row_gates import differs

ID = "prediction_id"
SCHEMA = {
    "feature": pl.String, "rows": pl.Int64, "differing": pl.Int64, "greatest": pl.Float64,
    ID: pl.String, "used": pl.String, "offline": pl.String,
}  # fmt: skip


def skew(used: pl.DataFrame, offline: pl.DataFrame, columns: FeatureColumns) -> pl.DataFrame:
    """Where two frames of the same rows, in the same order, differ.

    Args:
        used: `prediction_id` and the features of a model, as a server used them.
        offline: the same features by the offline path; one that it lacks differs in every row.
        columns: what of the features is a number; the others are compared as text.

    Returns:
        One row a feature that differs anywhere: `rows` compared, `differing` ones, `greatest`
        distance of numbers that both have, and an example: `prediction_id`, `used`, `offline`.

    Raises:
        ValueError: the frames have not the same number of rows.
    """
    if used.height != offline.height:
        raise ValueError(f"{used.height} rows were used, the offline path gives {offline.height}")
    found = []
    for name in columns.names:
        dtype = pl.Float64() if name in columns.numeric else pl.String()
        one = _plain(used, name, dtype)
        other = _plain(offline, name, dtype)
        wrong = differs(one, other)
        if name not in offline.columns:
            wrong = pl.repeat(True, used.height, eager=True)
        if not wrong.any():
            continue
        at = wrong.arg_max()
        assert at is not None
        distance = (one - other).abs().max() if dtype == pl.Float64 else None
        found.append(
            (name, used.height, int(wrong.sum()), distance, used[ID][at], _text(one[at]),
             _text(other[at]))
        )  # fmt: skip
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def _plain(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    """A column in the type of comparison; NaN and null are both missing, as models read them."""
    if name not in frame.columns:
        return pl.repeat(None, frame.height, dtype=dtype, eager=True)
    column = frame[name].cast(dtype)
    return column.fill_nan(None) if dtype == pl.Float64 else column


def _text(value: object) -> str | None:
    return None if value is None else str(value)
