"""A small neural network: an embedding for each category, standardised numbers, two hidden layers.

After Guo and Berkhahn, "Entity Embeddings of Categorical Variables" (2016). Fitted by AdamW on the
target's loss; the weights of the best epoch are kept. The same seed gives the same model on the
CPU. Predicts on the CPU wherever it was fitted. Stored as safetensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
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
from mlops_assets.ml.families.encoded import EncodedModel, load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.families.torch_heads import Head
from mlops_assets.ml.targets import target_from_json

if TYPE_CHECKING:
    import optuna
    from torch import Tensor
    from torch.nn import Module

NAME = "embedding_mlp"
_WEIGHTS_FILE = "model.safetensors"
_PREDICT_ROWS = 65_536
_WIDEST_EMBEDDING = 16
# Levels hidden while fitting, so that the vector of the unknown level is learned from all of them.
_HIDDEN_SHARE = 0.01


@dataclass(frozen=True)
class EmbeddingMLPModel(EncodedModel):
    """A torch network in evaluation mode, on the CPU."""

    network: Module

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class, or the number."""
        import torch

        device = next(self.network.parameters()).device
        numbers, codes = (each.to(device) for each in _tensors(self.encoder, frame))
        with torch.inference_mode():
            outputs = [
                self.network(n, c)
                for n, c in zip(
                    numbers.split(_PREDICT_ROWS), codes.split(_PREDICT_ROWS), strict=True
                )
            ]
            head = Head.from_json(self.target, self.facts["head"])
            return head.scores(torch.cat(outputs).double()).cpu().numpy()

    @classmethod
    def finds_gpu(cls) -> Callable[[], bool]:
        """What asks the library for a GPU."""
        return _gpu_is_there

    def on_gpu(self) -> EmbeddingMLPModel:
        """The model with a network of its own on the GPU."""
        return replace(self, network=deepcopy(self.network).cuda())

    def save_weights(self, folder: Path) -> None:
        """Write the network's weights as safetensors."""
        from safetensors.torch import save_file

        save_file(self.network.state_dict(), folder / _WEIGHTS_FILE)


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
        device = choose_device(NAME, options.device, _gpu_is_there)
        encoder = Encoder.fit(train.frame, columns)
        with _torch_set_up(options, device):
            head = Head.fit(train)
            network = _network(encoder, head.width, values["width"], values["dropout"]).to(device)
            facts = _train(network, head, encoder, train, valid, values, options)
        facts |= {
            "device": str(next(network.parameters()).device),
            "target": train.target.to_json(),
            "head": head.to_json(),
        }
        return EmbeddingMLPModel(encoder, facts | _shape(values), network.cpu().eval())

    def load(self, folder: Path) -> EmbeddingMLPModel:
        """Read what a model's `save` wrote."""
        from safetensors.torch import load_file

        encoder, facts = load_encoder_and_facts(folder)
        head = Head.from_json(target_from_json(facts["target"]), facts["head"])
        network = _network(encoder, head.width, facts["width"], facts["dropout"])
        network.load_state_dict(load_file(folder / _WEIGHTS_FILE))
        return EmbeddingMLPModel(encoder, facts, network.eval())


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def _shape(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("width", "dropout")}


def _network(encoder: Encoder, outputs: int, width: int, dropout: float) -> Module:
    """Outputs of standardised numbers and of codes from 0 (unknown or missing) upwards."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            levels = encoder.level_counts
            sizes = [min(_WIDEST_EMBEDDING, 1 + round(count**0.5)) for count in levels]
            self.embeddings = nn.ModuleList(
                nn.Embedding.from_pretrained(0.1 * torch.randn(count + 1, size), freeze=False)
                for count, size in zip(levels, sizes, strict=True)
            )
            numbers = len(encoder.columns.numeric) + len(encoder.flagged)
            self.layers = nn.Sequential(
                nn.Linear(numbers + sum(sizes), width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, width // 2),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width // 2, outputs),
            )

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            if self.training:
                codes = codes * (torch.rand(codes.shape, device=codes.device) >= _HIDDEN_SHARE)
            vectors = [
                embedding(codes[:, index]) for index, embedding in enumerate(self.embeddings)
            ]
            return self.layers(torch.cat([numbers, *vectors], dim=1))

    return Network()


def _tensors(encoder: Encoder, frame: pl.DataFrame | Rows) -> tuple[Tensor, Tensor]:
    import torch

    numbers = torch.from_numpy(encoder.standardised(frame).astype(np.float32))
    return numbers, torch.from_numpy(encoder.codes(frame) + 1)


def _train(
    network: Module,
    head: Head,
    encoder: Encoder,
    train: Labelled,
    valid: Labelled | None,
    values: Mapping[str, Any],
    options: FitOptions,
) -> dict[str, Any]:
    """Fit the network in place and leave it with the weights of its best epoch."""
    import torch

    optimizer = torch.optim.AdamW(
        network.parameters(), lr=values["learning_rate"], weight_decay=values["weight_decay"]
    )
    rows = _device_rows(network, encoder, train)
    judged = None if valid is None else _device_rows(network, encoder, valid)
    best_loss, best_epoch, best_weights = float("inf"), 0, network.state_dict()
    for epoch in range(1, values["epochs"] + 1):
        loss = _epoch(network, head, optimizer, rows, values["batch_rows"])
        if judged is None:
            best_epoch = epoch
        else:
            loss = _loss(network, head, judged)
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
                best_weights = {k: v.clone() for k, v in network.state_dict().items()}
        options.tell(f"{NAME}: epoch {epoch}, loss {loss:.4f}")
        if not np.isfinite(loss):
            raise ArithmeticError(f"{NAME}: diverged in epoch {epoch}; lower the learning rate")
        if judged is not None and epoch - best_epoch >= values["patience"]:
            break
    network.load_state_dict(best_weights)
    return {"epochs": best_epoch} | ({} if judged is None else {"valid_loss": best_loss})


def _device_rows(
    network: Module, encoder: Encoder, rows: Labelled
) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    device = next(network.parameters()).device
    numbers, codes = _tensors(encoder, rows.frame)
    label = torch.from_numpy(rows.label.astype(np.float32))
    return numbers.to(device), codes.to(device), label.to(device)


def _epoch(
    network: Module,
    head: Head,
    optimizer: Any,
    rows: tuple[Tensor, Tensor, Tensor],
    batch_rows: int,
) -> float:
    """One pass over the rows in random order; returns the mean loss, dropout included."""
    import torch

    network.train()
    numbers, codes, label = rows
    total = 0.0
    for batch in torch.randperm(len(label)).to(label.device).split(batch_rows):
        optimizer.zero_grad(set_to_none=True)
        loss = head.loss(network(numbers[batch], codes[batch]), label[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(label)


def _loss(network: Module, head: Head, rows: tuple[Tensor, Tensor, Tensor]) -> float:
    import torch

    network.eval()
    numbers, codes, label = rows
    with torch.inference_mode():
        return head.loss(network(numbers, codes), label).item()


@contextmanager
def _torch_set_up(options: FitOptions, device: str) -> Iterator[None]:
    """Seed torch and set its threads for one fit, and leave both as they were found."""
    import torch

    threads = torch.get_num_threads()
    gpus = range(torch.cuda.device_count()) if device == "cuda" else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


FAMILY = EmbeddingMLP()
