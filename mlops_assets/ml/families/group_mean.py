"""The mean label of like rows, as "the mean of origin, weekday and hour": a baseline.

Rows are alike that have the same values of the columns `by`. Of values that no training row has
together, the mean by fewer columns stands in, the last one left out first, and in the end the mean
of all; so `by` goes from coarse to fine. Each group has one row more with the mean by one column
fewer, so that few rows without a single event do not rule one out. Null and unseen levels are one
value. Stored as safetensors: the groups' values and their means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from mlops_assets.ml.families.encoded import (
    EncodedModel,
    load_arrays,
    load_encoder_and_facts,
    save_arrays,
)
from mlops_assets.ml.families.encoders import MISSING_CODE, Encoder

if TYPE_CHECKING:
    import optuna

NAME = "group_mean"
_MEAN = "__mean"


@dataclass(frozen=True)
class GroupMeanModel(EncodedModel):
    """Means by the first one, the first two … of the columns.

    Attributes:
        means: for each number of columns from 1, values and mean of each group, shape
            (groups, columns + 1); categories by their code.
    """

    means: Sequence[np.ndarray]

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The mean of the finest group that the row is in."""
        values = _values(self.encoder, frame, self.facts["by"])
        found = np.full(frame.height, self.facts["mean"])
        for depth, table in enumerate(self.means, start=1):
            keys = [str(n) for n in range(depth)]
            groups = pl.DataFrame(table, schema=[*keys, _MEAN])
            rows = pl.DataFrame(values[:, :depth], schema=keys)
            finer = rows.join(groups, on=keys, how="left", maintain_order="left")[_MEAN]
            found = np.where(finer.is_null().to_numpy(), found, finer.fill_null(0).to_numpy())
        return found

    def save_weights(self, folder: Path) -> None:
        """Write the groups as safetensors."""
        save_arrays(folder, {str(n): table for n, table in enumerate(self.means)})


class GroupMean:
    """Means by declared columns."""

    name = NAME
    tasks = frozenset({"regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default; without `by`, it is all categorical columns."""
        return {"by": []}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The defaults: a baseline that is tuned is no baseline."""
        return self.defaults()

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> GroupMeanModel:
        """Average the labels of `train`; `valid` is not read.

        Raises:
            ValueError: `by` names what is no feature too.
        """
        by = list(complete_params(self, params)["by"]) or list(columns.categorical)
        check_fit(self, train)
        if unknown := [name for name in by if name not in columns.names]:
            raise ValueError(
                f"{NAME}: `by` names {', '.join(unknown)}, no feature; there are"
                f" {', '.join(columns.names)}"
            )
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        values = _values(encoder, train.frame, by)
        facts = {
            "by": by,
            "mean": float(train.label.mean()),
            "device": device,
            "target": train.target.to_json(),
        }
        means, coarser = [], np.full(train.label.size, facts["mean"])
        for depth in range(1, len(by) + 1):
            table, coarser = _means(values[:, :depth], train.label, coarser)
            means.append(table)
        options.tell(f"{NAME}: {len(means[-1]) if means else 1} groups")
        return GroupMeanModel(encoder, facts, means)

    def load(self, folder: Path) -> GroupMeanModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        weights = load_arrays(folder)
        return GroupMeanModel(encoder, facts, [weights[str(n)] for n in range(len(weights))])


def _values(encoder: Encoder, frame: pl.DataFrame | Rows, by: Sequence[str]) -> np.ndarray:
    """The columns as numbers that are equal where the values are, shape (rows, by)."""
    matrix = np.nan_to_num(encoder.matrix(frame), nan=MISSING_CODE)
    return matrix[:, [encoder.columns.names.index(name) for name in by]]


def _means(
    values: np.ndarray, label: np.ndarray, coarser: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each group's values and its mean label, in the order of the values; and each row's mean.

    `coarser` is each row's mean by one column fewer, which its group has as one more label.
    """
    groups, number = np.unique(values, axis=0, return_inverse=True)
    number, rows = number.ravel(), np.bincount(number.ravel())
    above = np.bincount(number, weights=coarser) / rows
    mean = (np.bincount(number, weights=label) + above) / (rows + 1)
    return np.column_stack([groups, mean]), mean[number]


FAMILY = GroupMean()
