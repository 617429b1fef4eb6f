"""A small recurrent network: what happened of late, step by step, beside the other features.

Trailing sums are read as a sequence: the difference of two windows is what happened between them.
A GRU (Cho et al. 2014) goes through the steps from the oldest to the newest; what it ends with goes
beside standardised numbers and a vector for each category through a hidden layer. Fitted by AdamW
on the target's loss; the weights of the best epoch are kept. The same seed gives the same model on
the CPU. Predicts on the CPU wherever it was fitted. Stored as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from mlops_assets.ml.families.base import (
    FeatureColumns,
    FitOptions,
    Labelled,
    Rows,
    check_fit,
    choose_device,
    complete_params,
)
from mlops_assets.ml.families.encoded import load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.families.torch_fit import (
    NetworkModel,
    category_vectors,
    fit_network,
    gpu_is_there,
    head_of,
    torch_set_up,
    with_weights,
)
from mlops_assets.ml.families.torch_heads import Head

if TYPE_CHECKING:
    import optuna
    from torch import Tensor
    from torch.nn import Module

NAME = "recent_sequence"
_SHAPE = ("series", "windows", "width", "dropout")


@dataclass(frozen=True)
class RecentSequenceModel(NetworkModel):
    """A torch network in evaluation mode, on the CPU."""

    family: ClassVar[str] = NAME

    def tensors(self, frame: pl.DataFrame | Rows) -> tuple[Tensor, ...]:
        """What the network reads."""
        return _tensors(self.encoder, self.facts, frame)


class RecentSequence:
    """A GRU over trailing windows, in torch."""

    name = NAME
    tasks = frozenset({"regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default.

        `series` and `windows` name the sequence: the features are `<series>_<window>`, numeric
        ones, each of them a sum over a window; the windows go from the shortest to the longest.
        """
        return {
            "series": [],
            "windows": [],
            "learning_rate": 0.002,
            "weight_decay": 0.1,
            "dropout": 0.4,
            "width": 32,
            "batch_rows": 256,
            "epochs": 24,
            "patience": 4,
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial: rate, width and regularisation."""
        return self.defaults() | {
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            "dropout": trial.suggest_float("dropout", 0.1, 0.6),
            "width": trial.suggest_int("width", 16, 64, log=True),
        }

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> RecentSequenceModel:
        """Train until the loss on `valid` has not fallen for `patience` epochs.

        Raises:
            ValueError: `series` and `windows` do not name numeric features too.
        """
        values = complete_params(self, params)
        check_fit(self, train)
        _check_sequence(values, columns)
        device = choose_device(NAME, options.device, gpu_is_there)
        encoder = Encoder.fit(train.frame, columns)
        shape = {name: values[name] for name in _SHAPE}
        with torch_set_up(options, device):
            head = Head.fit(train)
            network = _network(encoder, head.width, shape).to(device)
            inputs = partial(_tensors, encoder, shape)
            facts = fit_network(NAME, network, head, inputs, train, valid, values, options)
        return RecentSequenceModel(encoder, facts | shape, network.cpu().eval())

    def load(self, folder: Path) -> RecentSequenceModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        outputs = head_of(facts).width
        network = _network(encoder, outputs, facts)
        return RecentSequenceModel(encoder, facts, with_weights(network, folder))


def _names(shape: Mapping[str, Any]) -> list[list[str]]:
    """The features of each series, the shortest window first."""
    return [[f"{series}_{window}" for window in shape["windows"]] for series in shape["series"]]


def _check_sequence(values: Mapping[str, Any], columns: FeatureColumns) -> None:
    wanted = [name for names in _names(values) for name in names]
    if not wanted:
        raise ValueError(
            f"{NAME}: set the parameters `series` and `windows`, whose features are named"
            " <series>_<window>, say origin_departed and 1h"
        )
    if unknown := [name for name in wanted if name not in columns.numeric]:
        raise ValueError(
            f"{NAME}: `series` and `windows` name {', '.join(unknown)}, no numeric feature; there"
            f" are {', '.join(columns.numeric)}"
        )


def _network(encoder: Encoder, outputs: int, shape: Mapping[str, Any]) -> Module:
    """Outputs of a sequence, of standardised numbers, and of codes from 0 upwards."""
    import torch
    from torch import nn

    width, dropout = shape["width"], shape["dropout"]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors, size = category_vectors(encoder)
            self.steps = nn.GRU(len(shape["series"]) + 1, width, batch_first=True)
            self.layers = nn.Sequential(
                nn.Linear(width + len(_beside(encoder, shape)) + size, 2 * width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(2 * width, outputs),
            )

        def forward(self, sequence: Tensor, numbers: Tensor, codes: Tensor) -> Tensor:
            last = self.steps(sequence)[0][:, -1]
            return self.layers(torch.cat([last, numbers, self.vectors(codes)], dim=1))

    return Network()


def _tensors(
    encoder: Encoder, shape: Mapping[str, Any], frame: pl.DataFrame | Rows
) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    numbers = encoder.standardised(frame)[:, _beside(encoder, shape)]
    sequence = _sequence(encoder.numbers(frame), encoder.columns.numeric, shape)
    return (
        torch.from_numpy(sequence.astype(np.float32)),
        torch.from_numpy(numbers.astype(np.float32)),
        torch.from_numpy(encoder.codes(frame) + 1),
    )


def _beside(encoder: Encoder, shape: Mapping[str, Any]) -> list[int]:
    """Which columns of the standardised numbers are not of the sequence; flags are not."""
    within = {name for names in _names(shape) for name in names}
    columns = [*encoder.columns.numeric, *(f"{name} is missing" for name in encoder.flagged)]
    return [index for index, name in enumerate(columns) if name not in within]


def _sequence(numbers: np.ndarray, columns: Sequence[str], shape: Mapping[str, Any]) -> np.ndarray:
    """What happened in each step, the oldest first, and which step it is: shape (rows, steps,
    series + 1). A step is what a window holds and the next shorter one does not, as a logarithm;
    what is missing is nothing.
    """
    places = [[columns.index(name) for name in names] for names in _names(shape)]
    windows = np.nan_to_num(numbers[:, places])  # rows, series, windows
    steps = np.diff(windows, axis=2, prepend=0.0)[:, :, ::-1].transpose(0, 2, 1)
    order = np.linspace(-1, 1, steps.shape[1])
    which = np.broadcast_to(order[None, :, None], (*steps.shape[:2], 1))
    return np.concatenate([np.sign(steps) * np.log1p(np.abs(steps)), which], axis=2)


FAMILY = RecentSequence()
