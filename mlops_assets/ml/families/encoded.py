"""What the models of this folder share: an encoder in front, a check behind, two JSON files.

A family may return any `Model`; one that subclasses `EncodedModel` writes only how it turns an
encoded frame into scores and which files hold its own weights.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from mlops_assets.ml.families.base import FeatureColumns, Rows, choose_device
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.targets import Target, target_from_json

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_ENCODER_FILE = "encoder.json"
_FACTS_FILE = "facts.json"
_ARRAYS_FILE = "model.safetensors"
_MANY_ROWS = 4096


@dataclass(frozen=True)
class EncodedModel(ABC):
    """A model that reads a frame through an `Encoder`.

    Attributes:
        encoder: fitted on the training rows.
        facts: what `description` gives, ready for JSON; `target` among them.
    """

    encoder: Encoder
    facts: dict[str, Any]

    family: ClassVar[str]

    @property
    def columns(self) -> FeatureColumns:
        """What the model reads."""
        return self.encoder.columns

    @cached_property
    def target(self) -> Target:
        """What the model predicts."""
        return target_from_json(self.facts.get("target"))

    def description(self) -> dict[str, Any]:
        """Small facts about the fit."""
        return dict(self.facts)

    def predict(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The score of each row: float64; see `Model.predict`.

        Raises:
            FeatureError: a feature column that is missing, infinite or of an unreadable type.
            ArithmeticError: a prediction that is not a finite number.
        """
        if not frame.height:
            self.encoder.codes(frame)
            return np.empty((0, *self._shape))
        with _few_threads(self.family, frame.height):
            score = self.score(frame).astype(np.float64)
        if odd := int(np.count_nonzero(~np.isfinite(score))):
            raise ArithmeticError(
                f"{self.family}: {odd} of {frame.height} predictions are not finite; "
                "the fit has diverged, do not use this model"
            )
        return score

    @property
    def _shape(self) -> tuple[int, ...]:
        classes = getattr(self.target, "classes", ())
        return (len(classes),) if classes else ()

    def on(self, device: str) -> EncodedModel:
        """The model predicting on "cpu" or "cuda"; "auto" takes a GPU that is there and of use.

        Raises:
            ValueError: "cuda", and there is no GPU or the family has no use for one.
        """
        chosen = choose_device(self.family, device, self.finds_gpu())
        return self if chosen == "cpu" else self.on_gpu()

    @property
    def device(self) -> str:
        """Where it predicts: "cpu" or "cuda"."""
        return "cpu"

    @property
    def lets_go(self) -> bool:
        """Whether other threads run while it predicts; on a GPU they do."""
        return self.device != "cpu"

    @classmethod
    def finds_gpu(cls) -> Callable[[], bool] | None:
        """What asks the family's library for a GPU; None for a family of the CPU only."""
        return None

    def on_gpu(self) -> EncodedModel:
        """The model predicting on the GPU."""
        raise NotImplementedError(f"{self.family} is of the CPU only")

    def save(self, folder: Path) -> None:
        """Write the encoder, the facts and the weights to an existing folder."""
        _write_json(folder / _ENCODER_FILE, self.encoder.to_json())
        _write_json(folder / _FACTS_FILE, self.facts)
        self.save_weights(folder)

    @abstractmethod
    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The score of at least one row, unchecked: any float type."""

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """Write what the encoder and the facts do not hold."""


def load_encoder_and_facts(folder: Path) -> tuple[Encoder, dict[str, Any]]:
    """Read what `EncodedModel.save` wrote beside the weights."""
    encoder = Encoder.from_json(json.loads((folder / _ENCODER_FILE).read_text()))
    return encoder, json.loads((folder / _FACTS_FILE).read_text())


def save_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a model's weights as safetensors."""
    from safetensors.numpy import save_file

    save_file(dict(arrays), folder / _ARRAYS_FILE)


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote."""
    from safetensors.numpy import load_file

    return load_file(folder / _ARRAYS_FILE)


@contextmanager
def _few_threads(family: str, rows: int) -> Iterator[None]:
    """One OpenMP thread for few rows, in this thread of the process alone.

    Waking the others costs more than they save: on a busy machine a row of boosted trees takes
    80 ms on two threads and 6 ms on one. A server has one from the start, and saves the asking.
    """
    if rows >= _MANY_ROWS or os.environ.get("OMP_NUM_THREADS") == "1":
        yield
        return
    with _openmp(family).limit(limits=1, user_api="openmp"):
        yield


@cache
def _openmp(family: str) -> ThreadpoolController:
    # One for each family: a controller knows only the libraries that were loaded before it.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
