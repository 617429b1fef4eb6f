"""A number: labels and scores are float64, judged by a squared, absolute or Poisson loss.

A gain is a share of the rival's loss, since the loss itself has the label's unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import Interval, mean_interval, ratio_of_sums
from mlops_assets.ml.targets.base import Figures, Margins, Target, TaskName, finite, one_length

_SMALLEST = 1e-9
"""A Poisson mean is above 0; one that is nearer counts as this near."""
_FIGURES = (
    "mean_label", "mean_prediction", "absolute_error", "squared_error", "poisson_deviance", "r2",
)  # fmt: skip


@dataclass(frozen=True)
class Regression(Target):
    """A label that is a number; with the Poisson loss, one that counts."""

    metric: str = "squared_error"

    task: ClassVar[TaskName] = "regression"
    metrics: ClassVar[tuple[str, ...]] = ("squared_error", "absolute_error", "poisson_deviance")
    answer: ClassVar[str] = "prediction"
    level: ClassVar[str] = "mean_label"
    is_relative: ClassVar[bool] = True
    margins: ClassVar[Margins] = Margins(champion=0.02, probe=0.02, rollback=0.02)
    unit: ClassVar[str] = "of the rival's loss"
    units: ClassVar[Mapping[str, str]] = {
        "absolute_error": "the label's unit",
        "squared_error": "the square of the label's unit",
    }

    def encode(self, label: pl.Series | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Numbers as float64; none below 0 for a Poisson loss."""
        known = np.asarray(label, dtype=np.float64)
        if odd := int(np.count_nonzero(~np.isfinite(known))):
            raise ValueError(f"{odd} of {known.size} labels are no finite numbers; leave them out")
        if self.metric == "poisson_deviance" and known.size and known.min() < 0:
            raise ValueError(
                f"a label is {known.min():g}; a Poisson deviance is of counts, 0 or more: set"
                " training.metric to squared_error or absolute_error"
            )
        return known

    def column(self, label: pl.Expr) -> pl.Expr:
        """Float64."""
        return label.cast(pl.Float64)

    def check(self, label: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
        """Finite numbers; none below 0 for a Poisson loss."""
        truth, score = self.encode(label), np.asarray(scores, dtype=np.float64)
        one_length(truth, score)
        finite(score, "prediction")
        if self.metric == "poisson_deviance" and score.min() < 0:
            odd = int(np.count_nonzero(score < 0))
            raise ValueError(f"prediction: {odd} of {score.size} rows are below 0; a count is not")
        return truth, score

    def losses(self, label: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """By `metric`: squares, absolute values, or the deviance of a Poisson count."""
        if self.metric == "squared_error":
            return np.square(label - scores)
        if self.metric == "absolute_error":
            return np.abs(label - scores)
        return _deviance(label, scores)

    def figures(self, label: Any, scores: Any, threshold: float | None) -> Figures:
        """Errors, the share of variance explained, and the two means."""
        truth, score = self.check(label, scores)
        squared, spread = float(np.square(truth - score).mean()), float(truth.var())
        counts = truth.min() >= 0 and score.min() >= 0
        return {
            "rows": truth.size,
            "mean_label": float(truth.mean()),
            "mean_prediction": float(score.mean()),
            "absolute_error": float(np.abs(truth - score).mean()),
            "squared_error": squared,
            "poisson_deviance": float(_deviance(truth, score).mean()) if counts else None,
            "r2": 1 - squared / spread if spread else None,
        }

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Errors, the share of variance explained, and the two means."""
        return _FIGURES

    def intervals(
        self, label: Any, scores: Any, block: Any, *, brief: bool = False, **options: Any
    ) -> dict[str, Interval]:
        """Of the errors."""
        truth, score = self.check(label, scores)
        rows = {"absolute_error": np.abs(truth - score), "squared_error": np.square(truth - score)}
        if truth.min() >= 0 and score.min() >= 0:
            rows["poisson_deviance"] = _deviance(truth, score)
        return {name: mean_interval(loss, block, **options) for name, loss in rows.items()}

    @property
    def bounded(self) -> tuple[str, ...]:
        """All of `intervals`."""
        return ("absolute_error", "squared_error", "poisson_deviance")

    @property
    def main_figures(self) -> tuple[str, ...]:
        """The errors."""
        return ("absolute_error", "squared_error", "poisson_deviance", "r2")

    @property
    def compared(self) -> tuple[str, ...]:
        """The metric, and the absolute error where that is another."""
        return tuple(dict.fromkeys((self.metric, "absolute_error")))

    def gain_in(
        self, figure: str, label: Any, new: Any, old: Any, block: Any, **options: Any
    ) -> Interval:
        """As a share of the old error."""
        return replace(self, metric=figure).gain(label, new, old, block, **options)

    def plausibility(self, label: np.ndarray, scores: np.ndarray) -> tuple[str, float]:
        """Share of the loss of the mean that is explained."""
        truth, score = self.check(label, scores)
        usual = self.loss(truth, np.full(truth.size, truth.mean()))
        if not usual:
            raise ValueError(f"all {truth.size} labels are {truth[0]:g}: nothing is to explain")
        return "share of the loss explained", 1 - self.loss(truth, score) / usual

    def slope(self, label: np.ndarray, scores: np.ndarray, block: Any, **options: Any) -> Interval:
        """Of the labels on the predictions, by least squares."""
        truth, score = self.check(label, scores)
        centred = score - score.mean()
        if not np.square(centred).sum():
            raise ValueError(f"all {score.size} predictions are {score[0]:.4g}: there is no slope")
        return ratio_of_sums(centred * (truth - truth.mean()), np.square(centred), block, **options)

    def constant(self, label: np.ndarray, rows: int) -> tuple[np.ndarray, str]:
        """The mean."""
        mean = float(np.mean(label))
        return np.full(rows, mean), f"the mean, {mean:.4g}"

    def columns(self, scores: np.ndarray, threshold: float | None) -> list[pl.Series]:
        """prediction."""
        return [pl.Series("prediction", scores, dtype=pl.Float64)]

    def answer_row(self, score: Any, threshold: float | None) -> dict[str, Any]:
        """prediction."""
        return {"prediction": float(score)}

    def scores_of(self, predictions: pl.DataFrame) -> np.ndarray:
        """The prediction."""
        return predictions["prediction"].to_numpy()

    @property
    def column_names(self) -> tuple[str, ...]:
        """prediction."""
        return ("prediction",)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The target that `to_json` wrote."""
        return cls(stored["metric"])


def _deviance(label: np.ndarray, scores: np.ndarray) -> np.ndarray:
    from scipy.special import xlogy

    mean = np.maximum(scores, _SMALLEST)
    return 2 * (xlogy(label, label / mean) - label + mean)
