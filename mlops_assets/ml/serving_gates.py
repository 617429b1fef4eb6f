"""Whether a served model says what the batch path says: its answers, and the features it looked up.

Pure: what the running Bento answered and logged in, outcomes out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.gates import GateOutcome, outcome
from mlops_assets.ml.skew import skew

TOLERANCE = 1e-6
"""Greatest difference of a score, of one above 1 as a share of it: a row alone and a row in a batch
may round differently."""


ON_A_GPU = 1e-4
"""The same where a GPU answers and the batch path is of the CPU: both add in single precision, in
other orders."""


def tolerance(device: str) -> float:
    """Greatest difference of a score that was served on a device, "cpu", "cuda" or "auto"."""
    return TOLERANCE if device == "cpu" else ON_A_GPU


def answers_as_batch(
    answers: np.ndarray, expected: np.ndarray, ready_after: float, device: str = "cpu"
) -> GateOutcome:
    """Pass where the answers to some rows are the batch path's, within `tolerance`.

    Args:
        answers: scores of the running Bento, shape (rows,) or (rows, classes).
        expected: those of the batch path.
        ready_after: seconds that the Bento took to start, for the detail.
        device: where the Bento's model runs.
    """
    limit = tolerance(device)
    same_shape = answers.shape == expected.shape and answers.size > 0
    worst = float(differences(answers, expected).max()) if same_shape else float("inf")
    detail = (
        f"{len(expected)} answers differ from the batch path by at most {worst:.2g} (limit"
        f" {limit:g}); ready after {ready_after:.1f} s"
    )
    margin = limit - worst
    passed = worst <= limit
    return outcome("answers_as_batch", passed, worst, limit, margin, len(expected), detail)


def differences(answers: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far the scores of each row are from those expected at most, shape (rows,).

    Of scores above 1 as a share; infinitely far where one is not a number.
    """
    apart = np.abs(answers - expected) / np.maximum(1.0, np.abs(expected))
    far: np.ndarray = np.where(np.isnan(apart), np.inf, apart)
    return far.reshape(len(far), -1).max(axis=1)


def online_as_offline(
    used: pl.DataFrame, offline: pl.DataFrame, columns: FeatureColumns
) -> GateOutcome:
    """Pass where each feature that was looked up online is the offline one, cell by cell, exactly.

    Args:
        used: `prediction_id` and the features, as the running Bento used them.
        offline: the features of the same rows, in the same order, by the offline path.
        columns: the model's features.
    """
    name = "online_as_offline"
    if used.height != offline.height or not used.height:
        detail = f"{used.height} rows are in the log of {offline.height} that were asked for"
        return outcome(name, False, None, 0, None, offline.height, detail)
    found = skew(used, offline, columns)
    cells = used.height * len(columns.names)
    differing = int(found["differing"].sum())
    detail = f"{differing} of {cells} cells differ from the offline path"
    if differing:
        first = found.sort("differing", descending=True).row(0, named=True)
        detail += (
            f", {first['feature']!r} in {first['differing']} of {first['rows']} rows: the server"
            f" used {first['used']}, offline it is {first['offline']}"
        )
    return outcome(name, not differing, differing, 0, -differing, used.height, detail)
