"""What is predicted, and all that depends on it: labels, scores, losses, figures, predictions.

A target is binary, multiclass or regression. Whatever handles labels and scores asks the target,
so that the rest of the platform is the same for all three. Nothing is imported here but numpy and
polars; the endpoint uses it too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl

from mlops_assets.ml.bootstrap import Interval, gain_in_loss

TaskName = Literal["binary", "multiclass", "regression"]
Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class Margins:
    """What is meant by "as good as" where a product does not say: in the unit of `Target.gain`.

    Attributes:
        champion: by how much a candidate may be worse than the champion.
        probe: what a probe must gain over the champion to be a reason to retrain.
        rollback: by how much a new champion must surely be worse to go.
    """

    champion: float
    probe: float
    rollback: float


@dataclass(frozen=True)
class Target(ABC):
    """What a model predicts.

    Attributes:
        metric: name of the loss that models are fitted and judged by.
    """

    metric: str

    task: ClassVar[TaskName]
    metrics: ClassVar[tuple[str, ...]]
    """The losses that it can have, the usual one first."""
    answer: ClassVar[str]
    """The column of a prediction that is watched for drift, and whose mean is its level."""
    level: ClassVar[str]
    """The figure that says what the label's mean was."""
    is_relative: ClassVar[bool] = False
    """Whether a gain is a share of the rival's loss; else it is in the unit of the loss."""
    margins: ClassVar[Margins]
    unit: ClassVar[str] = "nats"
    """Of a gain."""
    units: ClassVar[Mapping[str, str]] = {"log_loss": "nats"}
    """Of those figures that have one."""

    # --- labels and scores -------------------------------------------------------------------

    @abstractmethod
    def encode(self, label: pl.Series | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Labels as float64, shape (rows,), checked.

        Raises:
            ValueError: a label that is missing, or that the target cannot have.
        """

    @abstractmethod
    def column(self, label: pl.Expr) -> pl.Expr:
        """A label column in the type that tables keep it in."""

    @abstractmethod
    def check(self, label: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
        """Labels as `encode` gives them, and scores of as many rows, both checked.

        Raises:
            ValueError: no rows, differing lengths, or scores that the target cannot have.
        """

    def of(self, label: pl.Series) -> Self:
        """The target of a training set: with the classes that its labels have."""
        return self

    def of_predictions(self, predictions: pl.DataFrame) -> Self:
        """The target of the model that made the predictions: with its classes."""
        return self

    def seen(self, label: np.ndarray) -> Self:
        """Without the classes that none of these labels, as numbers, has."""
        return self

    def renumbered(self, label: np.ndarray, of: Target) -> np.ndarray:
        """Labels that another target has encoded, as this one does; -1 for a class it lacks."""
        return label

    def joined(self, other: Target) -> Self:
        """With what another model of the same can say too: the classes of both."""
        return self

    def aligned(self, scores: np.ndarray, of: Target) -> np.ndarray:
        """Scores of a model that has fewer classes, as this target has them: 0 for the others."""
        return scores

    def knows(self, label: pl.Series | np.ndarray) -> np.ndarray:
        """Which of the labels can be predicted, shape (rows,): of several classes those it has."""
        return np.full(len(label), True)

    def fault(self, label: pl.Series) -> str:
        """Why nothing can be learned from these labels; empty where something can."""
        known = label.drop_nulls().n_unique()
        return "" if known > 1 else f"have {known} distinct values; training needs at least two"

    def rarest(self, label: pl.Series) -> int | None:
        """Rows of the rarest class; None where there are no classes."""
        return None

    # --- how good ----------------------------------------------------------------------------

    @abstractmethod
    def losses(self, label: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The loss of each row by `metric`, shape (rows,); less is better."""

    def loss(self, label: np.ndarray, scores: np.ndarray) -> float:
        """The mean loss."""
        return float(self.losses(label, scores).mean())

    def gain(self, label: Any, new: Any, old: Any, block: Any, **options: Any) -> Interval:
        """How much less the new scores lose than the old on the same rows; `gain_in_loss`."""
        truth, scores = self.check(label, new)
        _, before = self.check(label, old)
        return self.gain_of(
            self.losses(truth, scores), self.losses(truth, before), block, **options
        )

    def gain_of(self, new: Any, old: Any, block: Any, **options: Any) -> Interval:
        """`gain` of losses that are computed already."""
        return gain_in_loss(new, old, block, relative=self.is_relative, **options)

    @abstractmethod
    def figures(self, label: Any, scores: Any, threshold: float | None) -> Figures:
        """All figures of one model on one set of rows; None where one is not defined."""

    @property
    @abstractmethod
    def figure_names(self) -> tuple[str, ...]:
        """Names of `figures` but `rows`, in order."""

    @abstractmethod
    def intervals(
        self, label: Any, scores: Any, block: Any, *, brief: bool = False, **options: Any
    ) -> dict[str, Interval]:
        """The main figures with intervals over blocks of days; in brief those of `bounded`."""

    @property
    @abstractmethod
    def bounded(self) -> tuple[str, ...]:
        """The figures that `intervals` has at most in brief."""

    @property
    @abstractmethod
    def main_figures(self) -> tuple[str, ...]:
        """Figures that a table shows where there is little room."""

    @property
    @abstractmethod
    def compared(self) -> tuple[str, ...]:
        """The figures that models are compared by over months: `metric`, and a plainer one."""

    @abstractmethod
    def gain_in(
        self, figure: str, label: Any, new: Any, old: Any, block: Any, **options: Any
    ) -> Interval:
        """How much better the new scores are than the old on the same rows, in `gain_unit`.

        Args:
            figure: one of `compared`; in `metric` it is `gain`.
            label: of each row, shape (rows,).
            new: scores of one model, as in `check`.
            old: those of the other.
            block: day of each row, shape (rows,).
            options: of the resampling, see `gain_in_loss`.

        Raises:
            ValueError: another figure, fewer than two days, or as `check`.
        """

    def gain_unit(self, figure: str) -> str:
        """What `gain_in` is in; empty where it has no unit."""
        return self.unit if self.is_relative else self.units.get(figure, "")

    @abstractmethod
    def plausibility(self, label: np.ndarray, scores: np.ndarray) -> tuple[str, float]:
        """How nearly all is explained, 1 for all, and what that is called: too good is a leak."""

    @abstractmethod
    def slope(self, label: np.ndarray, scores: np.ndarray, block: Any, **options: Any) -> Interval:
        """Of the outcomes on the predictions: 1 is as sure as it may be, below 1 is too sure.

        Raises:
            ValueError: there is none.
        """

    @abstractmethod
    def constant(self, label: np.ndarray, rows: int) -> tuple[np.ndarray, str]:
        """Scores of a model that knows only the labels' mean, and what they are called."""

    def choose_threshold(self, label: np.ndarray, scores: np.ndarray, aim: Any) -> float | None:
        """From which score on the decision is yes; None where there is nothing to decide."""
        return None

    # --- predictions -------------------------------------------------------------------------

    @abstractmethod
    def columns(self, scores: np.ndarray, threshold: float | None) -> list[pl.Series]:
        """The columns of a prediction."""

    @abstractmethod
    def answer_row(self, score: Any, threshold: float | None) -> dict[str, Any]:
        """`columns` of one row, as plain values: a server has no time for frames."""

    @abstractmethod
    def scores_of(self, predictions: pl.DataFrame) -> np.ndarray:
        """The scores that `columns` was made of."""

    @property
    @abstractmethod
    def column_names(self) -> tuple[str, ...]:
        """Names of `columns`, in order."""

    # --- stored form -------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The target as plain JSON values."""
        return {"task": self.task, "metric": self.metric}

    @classmethod
    @abstractmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The target that `to_json` wrote."""

    def __post_init__(self) -> None:
        if self.metric not in self.metrics:
            raise ValueError(
                f"a {self.task} target has no metric {self.metric!r}; it has"
                f" {', '.join(self.metrics)}"
            )


def one_length(label: np.ndarray, scores: np.ndarray) -> None:
    """Refuse no rows, and labels and scores of differing numbers."""
    if label.ndim != 1 or label.shape[0] != (scores.shape[0] if scores.ndim else -1):
        raise ValueError(
            f"label {label.shape} and scores {scores.shape}: expected two columns of one length"
        )
    if not label.size:
        raise ValueError("0 rows to judge, expected at least 1")


def finite(scores: np.ndarray, what: str) -> None:
    """Refuse scores that are missing or infinite."""
    if odd := int(np.count_nonzero(~np.isfinite(scores).reshape(len(scores), -1).all(axis=1))):
        raise ValueError(f"{what}: {odd} of {len(scores)} rows are missing or infinite")
