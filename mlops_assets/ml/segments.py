"""Figures of one model by segment: for which months, airports or classes it is good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import block_numbers
from mlops_assets.ml.targets import BINARY, Target

MONTH = "month"
MOST_VALUES = 20
"""Of a segment so many values are shown, the most frequent ones; of months all."""


def segment_metrics(
    frame: pl.DataFrame,
    scores: np.ndarray,
    target: Target = BINARY,
    segments: Sequence[str] = (),
    *,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> pl.DataFrame:
    """Figures with intervals for each value of each segment column.

    Args:
        frame: columns label, day, and those named in `segments`.
        scores: of each row.
        target: what is predicted.
        segments: columns to split by, one after the other.
        repetitions: number of resamples of each segment's days.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Returns:
        Columns segment, value (as text, "(missing)" for null), rows, days, the label's level
        (base_rate, mean_label or accuracy), mean_prediction, and the target's figures each with
        _low and _high. A figure is null where it is not defined; the bounds are with one day.

    Raises:
        ValueError: a missing column, or scores as in `Target.check`.
    """
    needed = ["label", "day", *segments]
    if missing := sorted(set(needed) - set(frame.columns)):
        raise ValueError(f"segment_metrics: columns {missing} are missing from {frame.columns}")
    target.check(frame["label"], scores)
    options = {"repetitions": repetitions, "seed": seed, "level": level}
    rows = [
        {"segment": segment, "value": "(missing)" if value is None else str(value)}
        | _figures(frame, scores, target, places, options)
        for segment in segments
        for value, places in _parts(frame[segment])
    ]
    return pl.DataFrame(rows, schema=_schema(target)).fill_nan(None)


def _parts(column: pl.Series) -> list[tuple[Any, np.ndarray]]:
    """The values of a column that are shown, in order, each with the rows that have it."""
    places = (
        pl.DataFrame({"value": column})
        .with_row_index("place")
        .group_by("value")
        .agg(pl.col("place"))
        .sort(pl.col("place").list.len(), "value", descending=[True, False])
    )
    if column.name != MONTH:
        places = places.head(MOST_VALUES)
    ordered = places.sort("value", nulls_last=True)
    return [(value, np.asarray(rows)) for value, rows in ordered.iter_rows()]


def _figures(
    frame: pl.DataFrame,
    scores: np.ndarray,
    target: Target,
    places: np.ndarray,
    options: dict[str, Any],
) -> dict[str, Any]:
    label, days, own = frame["label"][places], frame["day"][places], scores[places]
    count = int(block_numbers(days, places.size, at_least=1).max()) + 1
    figures = target.figures(label, own, None)
    row: dict[str, Any] = {
        "rows": places.size,
        "days": count,
        target.level: figures[target.level],
        "mean_prediction": figures["mean_prediction"],
    }
    for name, found in target.intervals(label, own, days, brief=True, **options).items():
        row[name] = found.value
        if count > 1:
            row |= {f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def _schema(target: Target) -> pl.Schema:
    bounded = [f"{name}{end}" for name in target.bounded for end in ("", "_low", "_high")]
    names = ("segment", pl.String), ("value", pl.String), ("rows", pl.Int64), ("days", pl.Int64)
    figures = dict.fromkeys((target.level, "mean_prediction", *bounded), pl.Float64)
    return pl.Schema([*names, *figures.items()])
