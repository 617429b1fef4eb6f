"""What the torch families share: vectors of categories, a fit that keeps its best epoch, a model.

A network takes tensors of as many rows and gives outputs, shape (rows, outputs), which a `Head`
turns into a loss and into scores. The same seed gives the same weights on the CPU.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from mlops_assets.ml.families.base import FitOptions, Labelled, Rows
from mlops_assets.ml.families.encoded import EncodedModel
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.families.torch_heads import Head
from mlops_assets.ml.targets import target_from_json

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Inputs = Callable[[pl.DataFrame | Rows], tuple[Tensor, ...]]

_WEIGHTS_FILE = "model.safetensors"
_PREDICT_ROWS = 65_536
_WIDEST_EMBEDDING = 16
# Levels hidden while fitting, so that the vector of the unknown level is learned from all of them.
_HIDDEN_SHARE = 0.01
_ONE_AT_A_TIME = Lock()


def gpu_is_there() -> bool:
    """Whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


@contextmanager
def torch_set_up(options: FitOptions, device: str) -> Iterator[None]:
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


def category_vectors(encoder: Encoder) -> tuple[Module, int]:
    """A module from codes, from 0 (unknown or missing) upwards, to vectors side by side, and their
    width together.

    After Guo and Berkhahn, "Entity Embeddings of Categorical Variables" (2016).
    """
    import torch
    from torch import nn

    levels = encoder.level_counts
    sizes = [min(_WIDEST_EMBEDDING, 1 + round(count**0.5)) for count in levels]

    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(
                nn.Embedding.from_pretrained(0.1 * torch.randn(count + 1, size), freeze=False)
                for count, size in zip(levels, sizes, strict=True)
            )

        def forward(self, codes: Tensor) -> Tensor:
            if self.training:
                codes = codes * (torch.rand(codes.shape, device=codes.device) >= _HIDDEN_SHARE)
            vectors = [table(codes[:, index]) for index, table in enumerate(self.tables)]
            return torch.cat([codes.new_empty(len(codes), 0, dtype=torch.float32), *vectors], dim=1)

    return Vectors(), sum(sizes)


def fit_network(
    name: str,
    network: Module,
    head: Head,
    inputs: Inputs,
    train: Labelled,
    valid: Labelled | None,
    values: Mapping[str, Any],
    options: FitOptions,
) -> dict[str, Any]:
    """Fit the network in place by AdamW and leave it with the weights of its best epoch.

    Args:
        name: the family's, for messages.
        network: on the device on which it is to be fitted.
        head: what its outputs mean.
        inputs: from a frame to the network's tensors.
        train: rows to learn from.
        valid: rows whose loss says which epoch is the best, and when to stop; None fits to the end.
        values: learning_rate, weight_decay, batch_rows, epochs, patience.
        options: `on_progress` is told each epoch.

    Returns:
        Facts of the fit: `epochs`, `valid_loss` where there is `valid`, and what `NetworkModel`
        reads: device, target, head.

    Raises:
        ArithmeticError: the loss is no finite number.
    """
    import torch

    optimizer = torch.optim.AdamW(
        network.parameters(), lr=values["learning_rate"], weight_decay=values["weight_decay"]
    )
    rows = _on_device(network, inputs, train)
    judged = None if valid is None else _on_device(network, inputs, valid)
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
        options.tell(f"{name}: epoch {epoch}, loss {loss:.4f}")
        if not np.isfinite(loss):
            raise ArithmeticError(f"{name}: diverged in epoch {epoch}; lower the learning rate")
        if judged is not None and epoch - best_epoch >= values["patience"]:
            break
    network.load_state_dict(best_weights)
    return {
        "epochs": best_epoch,
        **({} if judged is None else {"valid_loss": best_loss}),
        "device": str(next(network.parameters()).device),
        "target": train.target.to_json(),
        "head": head.to_json(),
    }


@dataclass(frozen=True)
class NetworkModel(EncodedModel):
    """A torch network in evaluation mode; a family says which tensors it reads."""

    network: Module

    @abstractmethod
    def tensors(self, frame: pl.DataFrame | Rows) -> tuple[Tensor, ...]:
        """What the network reads of a frame."""

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class, or the number."""
        return scores(self.network, head_of(self.facts), self.tensors(frame))

    @property
    def device(self) -> str:
        """Where the network's weights are."""
        return next(self.network.parameters()).device.type

    @property
    def lets_go(self) -> bool:
        """Other threads run during the products of a network."""
        return True

    @classmethod
    def finds_gpu(cls) -> Callable[[], bool]:
        """What asks the library for a GPU."""
        return gpu_is_there

    def on_gpu(self) -> Self:
        """The model with a network of its own on the GPU."""
        return replace(self, network=deepcopy(self.network).cuda())

    def save_weights(self, folder: Path) -> None:
        """Write the network's weights as safetensors."""
        from safetensors.torch import save_file

        save_file(self.network.state_dict(), folder / _WEIGHTS_FILE)


def head_of(facts: Mapping[str, Any]) -> Head:
    """The head that a fit's facts describe."""
    return Head.from_json(target_from_json(facts["target"]), facts["head"])


def with_weights(network: Module, folder: Path) -> Module:
    """The network with the weights that `NetworkModel.save_weights` wrote, in evaluation mode."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(folder / _WEIGHTS_FILE))
    return network.eval()


def scores(network: Module, head: Head, tensors: tuple[Tensor, ...]) -> np.ndarray:
    """Scores of a network in evaluation mode, wherever it is, in blocks of rows."""
    import torch

    device = next(network.parameters()).device
    parts = zip(*(each.to(device).split(_PREDICT_ROWS) for each in tensors), strict=True)
    with torch.inference_mode(), _exact() if device.type == "cuda" else nullcontext():
        outputs = torch.cat([network(*part) for part in parts])
        return head.scores(outputs.double()).cpu().numpy()


@contextmanager
def _exact() -> Iterator[None]:
    """A GPU would round a recurrent network's products to ten bits of mantissa, a thousandth.

    The setting is the whole process's, so that one thread at a time has it: another that ends
    meanwhile, as a server's that tries a new version, would put it back.
    """
    import torch

    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with _ONE_AT_A_TIME, flags:
        yield


def _on_device(
    network: Module, inputs: Inputs, rows: Labelled
) -> tuple[tuple[Tensor, ...], Tensor]:
    import torch

    device = next(network.parameters()).device
    label = torch.from_numpy(rows.label.astype(np.float32))
    return tuple(each.to(device) for each in inputs(rows.frame)), label.to(device)


def _epoch(
    network: Module,
    head: Head,
    optimizer: Any,
    rows: tuple[tuple[Tensor, ...], Tensor],
    batch_rows: int,
) -> float:
    """One pass over the rows in random order; returns the mean loss, dropout included."""
    import torch

    network.train()
    tensors, label = rows
    total = 0.0
    for batch in torch.randperm(len(label)).to(label.device).split(batch_rows):
        optimizer.zero_grad(set_to_none=True)
        loss = head.loss(network(*(each[batch] for each in tensors)), label[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(label)


def _loss(network: Module, head: Head, rows: tuple[tuple[Tensor, ...], Tensor]) -> float:
    import torch

    network.eval()
    tensors, label = rows
    with torch.inference_mode():
        return head.loss(network(*tensors), label).item()
