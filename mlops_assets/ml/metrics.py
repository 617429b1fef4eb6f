"""How good probabilities of a yes-or-no outcome are: figures, curves and a threshold.

Every function takes `label` (0 or 1, or booleans, shape (rows,)) and `probability` (the predicted
chance of 1, shape (rows,), in [0, 1]) and refuses anything else with a `ValueError`. A figure that
one class alone does not define is None, never 0. The limits a figure must keep are in gates.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

Column: TypeAlias = np.ndarray | pl.Series | Sequence[float]

CURVE_POINTS = 200
_SMALLEST_PROBABILITY = 1e-15


@dataclass(frozen=True)
class BinaryMetrics:
    """The figures of one model on one set of rows.

    Attributes:
        rows: how many rows were judged.
        base_rate: share of rows with label 1.
        auc: area under the ROC curve; None with one class.
        pr_auc: average precision; None with one class.
        log_loss: mean negative log likelihood, in nats.
        brier: mean squared error of the probability.
        accuracy: share of rows decided rightly at the threshold.
        precision: share of label 1 at or above the threshold; None without such a row.
        recall: share of label 1 found at the threshold; None without label 1.
        calibration_error: mean distance of predicted and observed rate over ten bins of equal
            mass, weighted by rows (expected calibration error, Naeini et al. 2015).
        mean_prediction: mean probability.
    """

    rows: int
    base_rate: float
    auc: float | None
    pr_auc: float | None
    log_loss: float
    brier: float
    accuracy: float
    precision: float | None
    recall: float | None
    calibration_error: float
    mean_prediction: float


def check_scores(label: Column, probability: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return label and probability as float64 arrays of one length.

    Raises:
        ValueError: no rows, differing lengths, a label other than 0 and 1 (null included), or a
            probability that is missing, infinite or outside [0, 1].
    """
    truth = np.asarray(label, dtype=np.float64)
    score = np.asarray(probability, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(
            f"label {truth.shape} and probability {score.shape}: expected two columns of one length"
        )
    if not truth.size:
        raise ValueError("0 rows to judge, expected at least 1")
    if odd := int(np.count_nonzero((truth != 0) & (truth != 1))):
        raise ValueError(
            f"label: {odd} of {truth.size} rows are neither 0 nor 1; leave unlabelled rows out"
        )
    if odd := int(np.count_nonzero(~np.isfinite(score))):
        raise ValueError(f"probability: {odd} of {score.size} rows are missing or infinite")
    if odd := int(np.count_nonzero((score < 0) | (score > 1))):
        raise ValueError(
            f"probability: {odd} of {score.size} rows are outside [0, 1], "
            f"from {score.min():.4g} to {score.max():.4g}; are these raw scores?"
        )
    return truth, score


def check_both_classes(label: Column, probability: Column) -> tuple[np.ndarray, np.ndarray]:
    """`check_scores` that also refuses a label of one class."""
    truth, score = check_scores(label, probability)
    if truth.min() == truth.max():
        raise ValueError(
            f"all {truth.size} labels are {int(truth[0])}: a curve and its area need "
            "both classes, take more days"
        )
    return truth, score


def log_losses(label: Column, probability: Column) -> np.ndarray:
    """Log loss of each row in nats, shape (rows,), probabilities clipped to [1e-15, 1 - 1e-15]."""
    truth, score = check_scores(label, probability)
    given = np.where(truth == 1, score, 1 - score)
    return -np.log(np.clip(given, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY))


def binary_metrics(label: Column, probability: Column, threshold: float) -> BinaryMetrics:
    """Judge probabilities; a row is decided as 1 where its probability is at least `threshold`."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, score = check_scores(label, probability)
    decided = score >= threshold
    positives, found = truth.sum(), truth[decided].sum()
    both = 0 < positives < truth.size
    table = calibration_table(truth, score)
    gaps = (table["mean_prediction"] - table["observed_rate"]).abs() * table["rows"]
    return BinaryMetrics(
        rows=truth.size,
        base_rate=float(truth.mean()),
        auc=float(roc_auc_score(truth, score)) if both else None,
        pr_auc=float(average_precision_score(truth, score)) if both else None,
        log_loss=float(log_losses(truth, score).mean()),
        brier=float(np.square(score - truth).mean()),
        accuracy=float((decided == truth).mean()),
        precision=float(found / decided.sum()) if decided.any() else None,
        recall=float(found / positives) if positives else None,
        calibration_error=float(gaps.sum() / truth.size),
        mean_prediction=float(score.mean()),
    )


def calibration_table(label: Column, probability: Column, bins: int = 10) -> pl.DataFrame:
    """Predicted against observed rate in bins of equal mass (`calibration_curve`, with counts).

    Equal scores share a bin, so there are fewer bins where scores repeat; one if all are equal.

    Returns:
        Columns bin (from 0), rows, lowest, highest (the scores in the bin), mean_prediction,
        observed_rate; ordered by score, no empty bin.

    Raises:
        ValueError: `bins` below 1.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    truth, score = check_scores(label, probability)
    edges = np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])
    frame = pl.DataFrame(
        {"edge": np.searchsorted(edges, score), "probability": score, "label": truth}
    )
    probability_column = pl.col("probability")
    return (
        frame.group_by("edge")
        .agg(
            rows=pl.len().cast(pl.Int64),
            lowest=probability_column.min(),
            highest=probability_column.max(),
            mean_prediction=probability_column.mean(),
            observed_rate=pl.col("label").mean(),
        )
        .sort("edge")
        .drop("edge")
        .with_row_index("bin")
        .with_columns(pl.col("bin").cast(pl.Int64))
    )


def roc_curve_points(
    label: Column, probability: Column, points: int = CURVE_POINTS
) -> pl.DataFrame:
    """ROC curve from (0, 0) to (1, 1), thinned evenly along its length.

    Returns:
        Columns false_positive_rate, true_positive_rate, threshold (null at the origin, where no
        score is high enough); at most `points` rows.

    Raises:
        ValueError: only one class is present.
    """
    from sklearn.metrics import roc_curve

    truth, score = check_both_classes(label, probability)
    false_rate, true_rate, threshold = roc_curve(truth, score)
    keep = _thinned(false_rate + true_rate, points)
    threshold = [None, *threshold[keep][1:]]
    return pl.DataFrame(
        {
            "false_positive_rate": false_rate[keep],
            "true_positive_rate": true_rate[keep],
            "threshold": pl.Series(threshold, dtype=pl.Float64),
        }
    )


def pr_curve_points(label: Column, probability: Column, points: int = CURVE_POINTS) -> pl.DataFrame:
    """Precision against recall by rising recall, thinned evenly along recall.

    Returns:
        Columns recall, precision, threshold (null at recall 0); at most `points` rows.

    Raises:
        ValueError: only one class is present.
    """
    from sklearn.metrics import precision_recall_curve

    truth, score = check_both_classes(label, probability)
    precision, recall, threshold = precision_recall_curve(truth, score)
    keep = _thinned(recall[::-1], points)
    return pl.DataFrame(
        {
            "recall": recall[::-1][keep],
            "precision": precision[::-1][keep],
            "threshold": pl.Series([None, *threshold[::-1][keep[1:] - 1]], dtype=pl.Float64),
        }
    )


def choose_threshold(
    label: Column,
    probability: Column,
    maximize: Literal["f1", "accuracy", "youden"] = "f1",
) -> float:
    """The score at or above which deciding 1 does best; the highest such score on ties.

    Just above the greatest score where deciding 1 never pays (accuracy only). Youden's index is
    the true minus the false positive rate (Youden 1950).

    Raises:
        ValueError: only one class is present, or an unknown aim.
    """
    from sklearn.metrics import roc_curve

    truth, score = check_both_classes(label, probability)
    false_rate, true_rate, threshold = roc_curve(truth, score, drop_intermediate=False)
    positives, negatives = truth.sum(), truth.size - truth.sum()
    hits, alarms = true_rate * positives, false_rate * negatives
    if maximize == "f1":
        worth = 2 * hits / (positives + hits + alarms)
    elif maximize == "accuracy":
        worth = hits - alarms
    elif maximize == "youden":
        worth = true_rate - false_rate
    else:
        raise ValueError(f"maximize is {maximize!r}, expected f1, accuracy or youden")
    best = int(np.argmax(worth))
    return float(threshold[best]) if best else float(np.nextafter(score.max(), np.inf))


def _thinned(position: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most `points` rows, evenly along a rising position, both ends kept."""
    wanted = np.linspace(position[0], position[-1], points)[1:-1]
    inner = np.searchsorted(position, wanted)
    return np.unique(np.concatenate([[0], inner, [position.size - 1]]))


def inner_product(one: np.ndarray, other: np.ndarray) -> np.float64:
    """Sum of the products of two vectors, in this thread.

    BLAS, which `@` asks, wakes its threads for vectors of some thousands, and that takes many times
    as long as the sum itself.
    """
    product: np.float64 = np.einsum("i,i", one, other)
    return product
