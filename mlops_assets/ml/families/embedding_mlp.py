"""A small neural network: an embedding for each category, standardised numbers, two hidden layers.

After Guo and Berkhahn, "Entity Embeddings of Categorical Variables" (2016). Fitted by AdamW on the
target's loss; the weights of the best epoch are kept. The same seed gives the same model on the
CPU. Predicts on the CPU wherever it was fitted. Stored as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
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

NAME = "embedding_mlp"


@dataclass(frozen=True)
class EmbeddingMLPModel(NetworkModel):
    """A torch network in evaluation mode, on the CPU."""

    family: ClassVar[str] = NAME

    def tensors(self, frame: pl.DataFrame | Rows) -> tuple[Tensor, ...]:
        """What the network reads."""
        return _tensors(self.encoder, frame)


class EmbeddingMLP:
    """Embeddings and a perceptron with two hidden layers, in torch."""

    name = NAME
    tasks = frozenset({"binary", "multiclass", "regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {
            "learning_rate": 0.002,
            "weight_decay": 0.01,
            "dropout": 0.2,
            "width": 128,
            "batch_rows": 2048,
            "epochs": 12,
            "patience": 3,
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial: rate, width and regularisation."""
        return self.defaults() | {
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
            "width": trial.suggest_int("width", 32, 256, log=True),
        }

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> EmbeddingMLPModel:
        """Train until the loss on `valid` has not fallen for `patience` epochs."""
        values = complete_params(self, params)
        check_fit(self, train)
        device = choose_device(NAME, options.device, gpu_is_there)
        encoder = Encoder.fit(train.frame, columns)
        with torch_set_up(options, device):
            head = Head.fit(train)
            network = _network(encoder, head.width, values["width"], values["dropout"]).to(device)
            inputs = partial(_tensors, encoder)
            facts = fit_network(NAME, network, head, inputs, train, valid, values, options)
        return EmbeddingMLPModel(encoder, facts | _shape(values), network.cpu().eval())

    def load(self, folder: Path) -> EmbeddingMLPModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        outputs = head_of(facts).width
        network = _network(encoder, outputs, facts["width"], facts["dropout"])
        return EmbeddingMLPModel(encoder, facts, with_weights(network, folder))


def _shape(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("width", "dropout")}


def _network(encoder: Encoder, outputs: int, width: int, dropout: float) -> Module:
    """Outputs of standardised numbers and of codes from 0 (unknown or missing) upwards."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors, size = category_vectors(encoder)
            numbers = len(encoder.columns.numeric) + len(encoder.flagged)
            self.layers = nn.Sequential(
                nn.Linear(numbers + size, width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, width // 2),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width // 2, outputs),
            )

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            return self.layers(torch.cat([numbers, self.vectors(codes)], dim=1))

    return Network()


def _tensors(encoder: Encoder, frame: pl.DataFrame | Rows) -> tuple[Tensor, Tensor]:
    import torch

    numbers = torch.from_numpy(encoder.standardised(frame).astype(np.float32))
    return numbers, torch.from_numpy(encoder.codes(frame) + 1)


FAMILY = EmbeddingMLP()
