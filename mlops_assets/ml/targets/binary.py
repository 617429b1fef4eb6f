"""Yes or no: labels 0 and 1, scores the chance of 1; metrics.py has the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import Interval, bootstrap_metrics, paired_gain
from mlops_assets.ml.calibration import calibration_slope
from mlops_assets.ml.metrics import (
    BinaryMetrics,
    binary_metrics,
    check_scores,
    choose_threshold,
    log_losses,
)
from mlops_assets.ml.targets.base import Figures, Margins, Target, TaskName


@dataclass(frozen=True)
class Binary(Target):
    """A label that is 0 or 1."""

    metric: str = "log_loss"

    task: ClassVar[TaskName] = "binary"
    metrics: ClassVar[tuple[str, ...]] = ("log_loss",)
    answer: ClassVar[str] = "probability"
    level: ClassVar[str] = "base_rate"
    margins: ClassVar[Margins] = Margins(champion=0.002, probe=0.004, rollback=0.002)

    def encode(self, label: pl.Series | np.ndarray | Sequence[Any]) -> np.ndarray:
        """0 and 1 as float64."""
        known = np.asarray(label, dtype=np.float64)
        if odd := int(np.count_nonzero((known != 0) & (known != 1))):
            raise ValueError(f"{odd} of {known.size} labels are neither 0 nor 1; leave them out")
        return known

    def column(self, label: pl.Expr) -> pl.Expr:
        """Int8."""
        return label.cast(pl.Int8)

    def check(self, label: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
        """0 and 1, and probabilities; see `metrics.check_scores`."""
        return check_scores(label, scores)

    def fault(self, label: pl.Series) -> str:
        """Both classes must be there."""
        known = label.drop_nulls().n_unique()
        return "" if known == 2 else f"have {known} classes; training needs both"

    def rarest(self, label: pl.Series) -> int:
        """Rows of the rarer class."""
        return min(int((label == value).sum()) for value in (0, 1))

    def losses(self, label: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Log loss, nats."""
        return log_losses(label, scores)

    def figures(self, label: Any, scores: Any, threshold: float | None) -> Figures:
        """`metrics.BinaryMetrics`."""
        return asdict(binary_metrics(label, scores, 0.5 if threshold is None else threshold))

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Those of `BinaryMetrics`."""
        return tuple(field.name for field in fields(BinaryMetrics) if field.name != "rows")

    def intervals(
        self, label: Any, scores: Any, block: Any, *, brief: bool = False, **options: Any
    ) -> dict[str, Interval]:
        """Of log loss, Brier score and the two areas; in brief without that of precision."""
        return bootstrap_metrics(label, scores, block, brief=brief, **{"seed": 0} | options)

    @property
    def bounded(self) -> tuple[str, ...]:
        """Area, log loss, Brier score."""
        return ("auc", "log_loss", "brier")

    @property
    def main_figures(self) -> tuple[str, ...]:
        """Areas, log loss and Brier score."""
        return ("auc", "pr_auc", "log_loss", "brier")

    @property
    def compared(self) -> tuple[str, ...]:
        """Log loss and area under the ROC curve."""
        return ("log_loss", "auc")

    def gain_in(
        self, figure: Any, label: Any, new: Any, old: Any, block: Any, **options: Any
    ) -> Interval:
        """See `bootstrap.paired_gain`."""
        return paired_gain(label, new, old, block, figure, **options)

    def plausibility(self, label: np.ndarray, scores: np.ndarray) -> tuple[str, float]:
        """Area under the ROC curve."""
        from sklearn.metrics import roc_auc_score

        truth, score = self.check(label, scores)
        if truth.min() == truth.max():
            raise ValueError(f"all {truth.size} labels are {int(truth[0])}: the AUC is undefined")
        return "AUC", float(roc_auc_score(truth, score))

    def slope(self, label: np.ndarray, scores: np.ndarray, block: Any, **options: Any) -> Interval:
        """Of the outcomes on the log-odds."""
        return calibration_slope(label, scores, block, **options)

    def constant(self, label: np.ndarray, rows: int) -> tuple[np.ndarray, str]:
        """The label rate."""
        rate = float(np.mean(label))
        return np.full(rows, rate), f"the label rate, {rate:.3f}"

    def choose_threshold(self, label: np.ndarray, scores: np.ndarray, aim: Any) -> float:
        """See `metrics.choose_threshold`."""
        return choose_threshold(label, scores, aim)

    def columns(self, scores: np.ndarray, threshold: float | None) -> list[pl.Series]:
        """probability, decision, threshold."""
        limit = 0.5 if threshold is None else threshold
        return [
            pl.Series("probability", scores, dtype=pl.Float64),
            pl.Series("decision", np.asarray(scores >= limit), dtype=pl.Boolean),
            pl.Series("threshold", np.full(len(scores), limit), dtype=pl.Float64),
        ]

    def answer_row(self, score: Any, threshold: float | None) -> dict[str, Any]:
        """probability, decision, threshold."""
        probability, limit = float(score), 0.5 if threshold is None else threshold
        decision = probability >= limit
        return {"probability": probability, "decision": decision, "threshold": limit}

    def scores_of(self, predictions: pl.DataFrame) -> np.ndarray:
        """The probability."""
        return predictions["probability"].to_numpy()

    @property
    def column_names(self) -> tuple[str, ...]:
        """probability, decision, threshold."""
        return ("probability", "decision", "threshold")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The target that `to_json` wrote."""
        return cls()


BINARY = Binary()
