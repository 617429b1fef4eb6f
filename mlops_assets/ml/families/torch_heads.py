"""What a torch network's outputs mean: the loss that they are fitted by, and the scores they give.

A binary target has one output, the log-odds of 1; several classes one each, their unnormed log
chances; a count one, the log of its mean over the training mean; any other number one, in standard
deviations from the training mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mlops_assets.ml.families.base import Labelled
from mlops_assets.ml.targets import Multiclass, Target

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 1e-6


@dataclass(frozen=True)
class Head:
    """The outputs of one network.

    Attributes:
        target: what is predicted.
        mean: of the training labels, where the label is a number.
        deviation: likewise; 1 where the label did not vary.
    """

    target: Target
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def fit(cls, train: Labelled) -> Self:
        """By the training labels."""
        if train.target.task != "regression":
            return cls(train.target)
        mean, deviation = float(train.label.mean()), float(train.label.std())
        return cls(train.target, mean, deviation or 1.0)

    @property
    def width(self) -> int:
        """How many outputs a row has."""
        return len(self.target.classes) if isinstance(self.target, Multiclass) else 1

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Mean loss of outputs, shape (rows, width), and labels, shape (rows,)."""
        from torch.nn import functional as f

        if isinstance(self.target, Multiclass):
            return f.cross_entropy(outputs, label.long())
        output = outputs.squeeze(1)
        if self.target.task == "binary":
            return f.binary_cross_entropy_with_logits(output, label)
        if self.target.metric == "poisson_deviance":
            scale = max(self.mean, _SMALLEST)
            return f.poisson_nll_loss(output, label / scale)
        scaled = (label - self.mean) / self.deviation
        if self.target.metric == "absolute_error":
            return f.l1_loss(output, scaled)
        return f.mse_loss(output, scaled)

    def scores(self, outputs: Tensor) -> Tensor:
        """Scores as a model gives them."""
        if isinstance(self.target, Multiclass):
            return outputs.softmax(dim=1)
        output = outputs.squeeze(1)
        if self.target.task == "binary":
            return output.sigmoid()
        if self.target.metric == "poisson_deviance":
            return output.exp() * max(self.mean, _SMALLEST)
        return output * self.deviation + self.mean

    def to_json(self) -> dict[str, Any]:
        """What the target does not say, as plain JSON values."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_json(cls, target: Target, stored: Mapping[str, Any]) -> Self:
        """The head that `to_json` wrote."""
        return cls(target, stored["mean"], stored["deviation"])
