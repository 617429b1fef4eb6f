"""One of several classes: labels are text in tables and numbers of `classes` in arrays.

Scores are the chance of each class, shape (rows, classes). A label that is none of the model's
classes has the number -1: its chance was 0, and the loss says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import Interval, gain_in_loss, mean_interval
from mlops_assets.ml.calibration import calibration_slope
from mlops_assets.ml.targets.base import Figures, Margins, Target, TaskName, finite, one_length

_SMALLEST = 1e-15
_ROUNDING = 1e-4
_FIGURES = (
    "accuracy", "mean_prediction", "auc", "log_loss", "brier", "macro_precision", "macro_recall",
    "macro_f1",
)  # fmt: skip


@dataclass(frozen=True)
class Multiclass(Target):
    """A label that is one of `classes`, sorted; none before a training set is known."""

    metric: str = "log_loss"
    classes: tuple[str, ...] = ()

    task: ClassVar[TaskName] = "multiclass"
    metrics: ClassVar[tuple[str, ...]] = ("log_loss",)
    answer: ClassVar[str] = "probability"
    level: ClassVar[str] = "accuracy"
    margins: ClassVar[Margins] = Margins(champion=0.01, probe=0.01, rollback=0.01)

    def encode(self, label: pl.Series | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Number of each label in `classes`, -1 for another; numbers pass as they are."""
        series = label if isinstance(label, pl.Series) else pl.Series(np.asarray(label))
        if series.dtype.is_numeric():
            return series.cast(pl.Float64).to_numpy()
        if missing := series.null_count():
            raise ValueError(f"{missing} of {len(series)} labels are missing; leave them out")
        numbers = {name: float(number) for number, name in enumerate(self.classes)}
        known = series.cast(pl.String).replace_strict(
            numbers, default=-1.0, return_dtype=pl.Float64
        )
        return known.to_numpy()

    def column(self, label: pl.Expr) -> pl.Expr:
        """Text."""
        return label.cast(pl.String)

    def check(self, label: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels as numbers, and chances that add up to 1."""
        truth, score = self.encode(label), np.asarray(scores, dtype=np.float64)
        one_length(truth, score)
        if score.ndim != 2 or score.shape[1] != len(self.classes):
            raise ValueError(
                f"scores have shape {score.shape}, expected one for each of"
                f" {len(self.classes)} classes"
            )
        finite(score, "probability")
        odd = (score < 0).any(axis=1) | (np.abs(score.sum(axis=1) - 1) > _ROUNDING)
        if count := int(np.count_nonzero(odd)):
            raise ValueError(
                f"probability: {count} of {len(score)} rows are below 0 or do not add up to 1"
            )
        return truth, score

    def of(self, label: pl.Series) -> Self:
        """With the classes of a training set."""
        return replace(self, classes=tuple(sorted(label.drop_nulls().cast(pl.String).unique())))

    def of_predictions(self, predictions: pl.DataFrame) -> Self:
        """With the classes of the model that made them."""
        return replace(self, classes=tuple(predictions["classes"][0])) if len(predictions) else self

    def seen(self, label: np.ndarray) -> Self:
        """With the classes of these labels."""
        numbers = sorted({int(number) for number in label if number >= 0})
        return replace(self, classes=tuple(self.classes[number] for number in numbers))

    def renumbered(self, label: np.ndarray, of: Target) -> np.ndarray:
        """By the names of the classes."""
        theirs = of.classes if isinstance(of, Multiclass) else self.classes
        own = np.append(self.encode(pl.Series(theirs, dtype=pl.String)), -1.0)
        return own[np.where(label < 0, len(theirs), label).astype(np.int64)]

    def joined(self, other: Target) -> Self:
        """The classes of both, sorted."""
        theirs = other.classes if isinstance(other, Multiclass) else ()
        return replace(self, classes=tuple(sorted({*self.classes, *theirs})))

    def aligned(self, scores: np.ndarray, of: Target) -> np.ndarray:
        """In the order of `classes`, shape (rows, classes)."""
        found = np.zeros((len(scores), len(self.classes)))
        theirs = of.classes if isinstance(of, Multiclass) else self.classes
        found[:, [self.classes.index(name) for name in theirs]] = scores
        return found

    def knows(self, label: pl.Series | np.ndarray) -> np.ndarray:
        """Those of `classes`."""
        return self.encode(label) >= 0

    def rarest(self, label: pl.Series) -> int:
        """Rows of the rarest class."""
        return int(label.value_counts()["count"].min() or 0)  # type: ignore[arg-type]

    def losses(self, label: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Log loss, nats."""
        number = label.astype(np.int64)
        chance = np.where(number >= 0, scores[np.arange(len(scores)), number], 0.0)
        return -np.log(np.clip(chance, _SMALLEST, 1.0))

    def figures(self, label: Any, scores: Any, threshold: float | None) -> Figures:
        """Log loss, Brier score, and means over the classes, each against the rest."""
        from sklearn.metrics import precision_recall_fscore_support

        truth, score = self.check(label, scores)
        said = score.argmax(axis=1)
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth.astype(np.int64), said, average="macro", zero_division=0
        )
        return {
            "rows": truth.size,
            "accuracy": float((said == truth).mean()),
            "mean_prediction": float(score.max(axis=1).mean()),
            "auc": _area(truth, score),
            "log_loss": self.loss(truth, score),
            "brier": float(_squares(truth, score).mean()),
            "macro_precision": float(precision),
            "macro_recall": float(recall),
            "macro_f1": float(f1),
        }

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Log loss, Brier score, and means over the classes."""
        return _FIGURES

    def intervals(
        self, label: Any, scores: Any, block: Any, *, brief: bool = False, **options: Any
    ) -> dict[str, Interval]:
        """Of log loss, Brier score and accuracy."""
        truth, score = self.check(label, scores)
        rows = {
            "log_loss": self.losses(truth, score),
            "brier": _squares(truth, score),
            "accuracy": (score.argmax(axis=1) == truth).astype(np.float64),
        }
        return {name: mean_interval(value, block, **options) for name, value in rows.items()}

    @property
    def bounded(self) -> tuple[str, ...]:
        """All of `intervals`."""
        return ("log_loss", "brier", "accuracy")

    @property
    def main_figures(self) -> tuple[str, ...]:
        """Accuracy, log loss, Brier score, F1."""
        return ("accuracy", "log_loss", "brier", "macro_f1")

    @property
    def compared(self) -> tuple[str, ...]:
        """Log loss and accuracy."""
        return ("log_loss", "accuracy")

    def gain_in(
        self, figure: str, label: Any, new: Any, old: Any, block: Any, **options: Any
    ) -> Interval:
        """Of the accuracy, by how much more rows the likeliest class was the true one."""
        if figure not in self.compared:
            raise ValueError(f"figure is {figure!r}, expected {' or '.join(self.compared)}")
        if figure == self.metric:
            return self.gain(label, new, old, block, **options)
        truth, scores = self.check(label, new)
        _, before = self.check(label, old)
        hits, others = (said.argmax(axis=1) == truth for said in (scores, before))
        return gain_in_loss(-hits.astype(np.float64), -others.astype(np.float64), block, **options)

    def plausibility(self, label: np.ndarray, scores: np.ndarray) -> tuple[str, float]:
        """Mean area under the ROC curves of each class against the rest."""
        truth, score = self.check(label, scores)
        area = _area(truth, score)
        if area is None:
            raise ValueError(f"all {truth.size} labels are of one class: the AUC is undefined")
        return "mean AUC of the classes", area

    def slope(self, label: np.ndarray, scores: np.ndarray, block: Any, **options: Any) -> Interval:
        """Of the outcomes on the log-odds of all classes, each against the rest."""
        truth, score = self.check(label, scores)
        each = (truth[:, None] == np.arange(len(self.classes))).astype(np.float64)
        blocks = np.repeat(np.asarray(block), len(self.classes))
        return calibration_slope(each.ravel(), np.clip(score, 0, 1).ravel(), blocks, **options)

    def constant(self, label: np.ndarray, rows: int) -> tuple[np.ndarray, str]:
        """The share of each class."""
        counts = np.bincount(label.astype(np.int64), minlength=len(self.classes))
        return np.tile(counts / counts.sum(), (rows, 1)), "the shares of the classes"

    def columns(self, scores: np.ndarray, threshold: float | None) -> list[pl.Series]:
        """predicted, probability (of it), probabilities and classes (of all, in one order)."""
        said = scores.argmax(axis=1) if len(scores) else np.empty(0, dtype=np.int64)
        names = pl.Series(self.classes, dtype=pl.String)
        return [
            names.gather(said).alias("predicted"),
            pl.Series("probability", scores[np.arange(len(scores)), said], dtype=pl.Float64),
            pl.Series("probabilities", scores.tolist(), dtype=pl.List(pl.Float64)),
            pl.Series("classes", [list(self.classes)] * len(scores), dtype=pl.List(pl.String)),
        ]

    def answer_row(self, score: Any, threshold: float | None) -> dict[str, Any]:
        """predicted, probability, probabilities, classes."""
        chances = [float(chance) for chance in score]
        best = max(range(len(chances)), key=chances.__getitem__)
        return {
            "predicted": self.classes[best],
            "probability": chances[best],
            "probabilities": chances,
            "classes": list(self.classes),
        }

    def scores_of(self, predictions: pl.DataFrame) -> np.ndarray:
        """The chance of each class; 0 of one that the model of a row did not know.

        Raises:
            ValueError: a model knew a class that is not among `classes`.
        """
        chances, classes = predictions["probabilities"], predictions["classes"]
        place = self.encode(classes.explode(empty_as_null=False)).astype(np.int64)
        if strange := classes.explode(empty_as_null=False).filter(place < 0).unique().to_list():
            raise ValueError(f"predictions of {strange[0]!r}, which is none of {self.classes}")
        row = np.repeat(np.arange(predictions.height), classes.list.len())
        found = np.zeros((predictions.height, len(self.classes)))
        found[row, place] = chances.explode(empty_as_null=False)
        return found

    @property
    def column_names(self) -> tuple[str, ...]:
        """predicted, probability, probabilities, classes."""
        return ("predicted", "probability", "probabilities", "classes")

    def to_json(self) -> dict[str, Any]:
        """The target as plain JSON values."""
        return super().to_json() | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The target that `to_json` wrote."""
        return cls(stored["metric"], tuple(stored["classes"]))


def _area(truth: np.ndarray, score: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    areas = [
        roc_auc_score(truth == number, score[:, number])
        for number in range(score.shape[1])
        if 0 < np.count_nonzero(truth == number) < truth.size
    ]
    return float(np.mean(areas)) if areas else None


def _squares(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    hit = truth[:, None] == np.arange(score.shape[1])
    return np.square(score - hit).sum(axis=1)
