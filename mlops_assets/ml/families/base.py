"""What a model family is: the rows it takes, the model it returns, the errors both may raise.

A family is a module of this folder with an object `FAMILY`; everything here is what such a module
needs to know of the platform. Importing this module imports neither torch, xgboost nor sklearn,
and a family keeps it so by importing its library inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from mlops_assets.ml.targets import BINARY, Target

if TYPE_CHECKING:
    import optuna


class FeatureError(ValueError):
    """A frame does not hold the features a model reads, or holds them in a form it cannot read."""


@dataclass(frozen=True)
class FeatureColumns:
    """The columns a model reads, in order.

    Attributes:
        numeric: floats, integers, decimals or booleans; null and NaN both mean missing.
        categorical: text, enums, integers, booleans or dates; each value is a level of its own.

    Raises:
        ValueError: no column at all, or a column named twice.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a model needs at least one feature column, got none")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"feature columns named more than once: {', '.join(twice)}")

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, the numeric ones first."""
        return (*self.numeric, *self.categorical)


@dataclass(frozen=True)
class Rows:
    """A few rows to predict, as a server has them: for one row a frame costs milliseconds.

    Attributes:
        rows: feature to value: numbers, booleans, text or None, of the types that a frame's columns
            would have.
    """

    rows: Sequence[Mapping[str, Any]]

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.rows)


@dataclass(frozen=True)
class Labelled:
    """Rows to fit or to validate on.

    Attributes:
        frame: the feature columns of each row; other columns are ignored.
        label: of each row, as `target.encode` takes it; kept as float64, shape (rows,): 0 or 1,
            the number of a class, or a number.
        target: what the label is, and by which loss a fit is judged.

    Raises:
        ValueError: no rows, another number of labels than rows, or a label that the target cannot
            have.
    """

    frame: pl.DataFrame
    label: np.ndarray
    target: Target = BINARY

    def __post_init__(self) -> None:
        if not self.frame.height:
            raise ValueError("0 labelled rows, expected at least 1; is the period empty?")
        label = self.target.encode(self.label)
        if label.shape != (self.frame.height,):
            raise ValueError(f"label has shape {label.shape}, expected ({self.frame.height},)")
        object.__setattr__(self, "label", label)

    def take(self, rows: np.ndarray) -> Labelled:
        """The rows at these indices, in this order."""
        return Labelled(self.frame[rows], self.label[rows], self.target)


def of_seen_classes(train: Labelled, valid: Labelled) -> tuple[Labelled, Labelled]:
    """Rows to fit and to validate on, with the classes of the first alone.

    A class that only later rows have is not learned, and stops no fit.
    """
    own = train.target.seen(train.label)
    if own == train.target and own.knows(valid.label).all():
        return train, valid
    train, valid = (
        Labelled(part.frame, own.renumbered(part.label, part.target), own)
        for part in (train, valid)
    )
    return train, valid.take(np.flatnonzero(own.knows(valid.label)))


@dataclass(frozen=True)
class FitOptions:
    """How to fit, apart from what is fitted.

    Attributes:
        seed: of every random choice; the same seed gives the same model on the CPU.
        threads: CPU threads to use.
        device: "cpu", "cuda" (an error where there is no GPU, or the family has no use for one)
            or "auto" (the GPU where there is one and the family can use it).
        on_progress: told now and then how far the fit has come, in words.

    Raises:
        ValueError: an unknown device, or less than one thread.
    """

    seed: int = 7
    threads: int = 2
    device: str = "cpu"
    on_progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda", "auto"):
            raise ValueError(f"device is {self.device!r}, expected 'cpu', 'cuda' or 'auto'")
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}, expected at least 1")

    def tell(self, message: str) -> None:
        """Pass a message on, if anyone listens."""
        if self.on_progress is not None:
            self.on_progress(message)


class Model(Protocol):
    """A fitted model: reads frames, writes itself to a folder, cannot be changed."""

    @property
    def family(self) -> str:
        """Name of the family that can load it."""

    @property
    def columns(self) -> FeatureColumns:
        """What it reads."""

    @property
    def target(self) -> Target:
        """What it predicts; of several classes, in their order."""

    def predict(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The score of each row, in the frame's order, float64: the chance of label 1 in [0, 1] or
        the expected number, shape (rows,); or the chance of each class, shape (rows, classes).

        Rows give what a frame of the same values gives.

        Missing values and levels never seen in training are fine; 0 rows give 0 scores.

        Raises:
            FeatureError: a feature column that is missing, infinite or of an unreadable type.
            ArithmeticError: a prediction that is not a finite number.
        """

    def save(self, folder: Path) -> None:
        """Write its files to an existing folder, none of them a pickle."""

    def on(self, device: str) -> Model:
        """The model predicting on "cpu", "cuda" or "auto"; see `EncodedModel.on`."""

    @property
    def device(self) -> str:
        """Where it predicts, "cpu" or "cuda"; where it was fitted is in `description`."""

    @property
    def lets_go(self) -> bool:
        """Whether its library lets other threads run while it predicts, long enough to be worth
        one: a server then goes on reading."""

    def description(self) -> dict[str, Any]:
        """Small facts about the fit, ready for JSON: rounds, device, and the like."""


@runtime_checkable
class Explained(Protocol):
    """What a model has beside `Model` where it can share out its margin among its columns.

    The margin is what the trees add up: the log-odds of label 1, the log of an expected count, the
    number itself, or one number a class whose softmax are the chances.
    """

    def contributions(self, frame: pl.DataFrame | Rows) -> tuple[np.ndarray, np.ndarray]:
        """What each column adds to each row's margin.

        Returns:
            contributions, float64, shape (rows, columns) or (rows, columns, classes), in the order
            of `columns.names`, and the base, shape () or (classes,): what is said of a row of which
            nothing is known. A row's contributions and the base sum to its margin. A column that no
            tree splits by has 0.

        Raises:
            ValueError: no rows.
            FeatureError: see `Model.predict`.
        """


class Family(Protocol):
    """A way to fit models."""

    @property
    def name(self) -> str:
        """The name of its module."""

    @property
    def tasks(self) -> frozenset[str]:
        """What it can predict: binary, multiclass, regression."""

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default, ready for JSON."""

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial of a search; the defaults lie within the space."""

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> Model:
        """Fit on `train`, and stop early by the loss on `valid` where it is given.

        Args:
            train: rows to learn from, with more than one label, and what is to be predicted.
            valid: later rows that decide when to stop; None fits to the end.
            columns: what to read.
            params: values that differ from the defaults.
            options: seed, threads, device.

        Raises:
            ValueError: one label only, a task that is not the family's, an unknown parameter, or
                a device that is not there.
            FeatureError: see `Model.predict`.
        """

    def load(self, folder: Path) -> Model:
        """Read what `Model.save` wrote."""


def complete_params(family: Family, params: Mapping[str, Any]) -> dict[str, Any]:
    """The family's defaults with `params` over them.

    Raises:
        ValueError: a parameter the family does not have.
    """
    defaults = family.defaults()
    if unknown := sorted(params.keys() - defaults.keys()):
        raise ValueError(
            f"{family.name} has no parameter {', '.join(unknown)}; it has {', '.join(defaults)}"
        )
    return defaults | dict(params)


def check_fit(family: Family, train: Labelled) -> None:
    """Refuse a task that is not the family's, and a label that is the same in every row.

    Raises:
        ValueError: either.
    """
    if train.target.task not in family.tasks:
        raise ValueError(
            f"{family.name} is for {', '.join(sorted(family.tasks))} tasks, not for"
            f" {train.target.task}"
        )
    if train.label.min() == train.label.max():
        raise ValueError(
            f"all {train.label.size} training labels are {train.label[0]:g}: "
            "a fit needs both classes, or more than one number; take more days"
        )


def choose_device(family: str, device: str, gpu_is_there: Callable[[], bool] | None) -> str:
    """Turn the device asked for into the one to use, "cpu" or "cuda".

    Args:
        family: name, for the message.
        device: as in `FitOptions`.
        gpu_is_there: asks the family's library for a GPU; None for a family of the CPU only.

    Raises:
        ValueError: "cuda" where it cannot be had.
    """
    if device == "cpu" or (device == "auto" and gpu_is_there is None):
        return "cpu"
    if gpu_is_there is None:
        raise ValueError(f"{family} runs on the CPU only: set device to 'cpu' or 'auto'")
    if gpu_is_there():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise ValueError(
        f"{family}: device is 'cuda', but its library finds no GPU: "
        "set device to 'cpu' or 'auto', or install a CUDA build where there is one"
    )
