"""The pictures of an evaluation, by the task: curves, confusion, numbers against predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from mlops_assets.ml.pictures import (
    Curves,
    by_month_picture,
    confusion_picture,
    evaluation_picture,
    levels_picture,
)
from mlops_assets.ml.segments import MONTH
from mlops_assets.ml.targets import Multiclass, Target

_BINS = 10


def evaluation_pictures(
    target: Target, label: pl.Series, scores: Mapping[str, np.ndarray], segments: pl.DataFrame
) -> dict[str, bytes]:
    """Name to PNG.

    Args:
        target: what is predicted.
        label: of the judged rows.
        scores: of each model, the candidate first.
        segments: as `segments.segment_metrics` gives them.
    """
    months = segments.filter(pl.col("segment") == MONTH)
    main = "auc" if target.task == "binary" else target.metric
    by_month = {f"{main}_by_month": by_month_picture(months, main)}
    if target.task == "binary":
        curves = {name: Curves.of(label.to_numpy(), each) for name, each in scores.items()}
        return {"roc_pr_calibration": evaluation_picture(curves)} | by_month
    truth = target.encode(label)
    if isinstance(target, Multiclass):
        said = next(iter(scores.values())).argmax(axis=1)
        return {"confusion": confusion_picture(truth, said, target.classes)} | by_month
    levels = {name: _levels(truth, each) for name, each in scores.items()}
    return {"observed_by_predicted": levels_picture(levels)} | by_month


def _levels(label: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    """Mean prediction and mean label in bins of equal mass, by rising prediction."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, _BINS + 1)[1:-1]))
    frame = pl.DataFrame({"bin": np.searchsorted(edges, scores), "said": scores, "seen": label})
    return frame.group_by("bin").agg(pl.col("said", "seen").mean()).sort("bin")
