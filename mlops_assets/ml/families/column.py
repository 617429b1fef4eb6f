"""A feature as the prediction, as "the same hour last week": a baseline that fits next to nothing.

Where the feature is missing, the mean label of the training rows stands in. A count has no chance
of being more than an expected 0, so where the feature is 0 or less, the mean label of such training
rows is expected of a count. Stored as these two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from mlops_assets.ml.families.encoded import EncodedModel, load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder

if TYPE_CHECKING:
    import optuna

NAME = "column"
_LEAST = 1e-3


@dataclass(frozen=True)
class ColumnModel(EncodedModel):
    """One numeric feature, passed on."""

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The feature, or what stands in for it."""
        number = self.encoder.columns.numeric.index(self.facts["name"])
        return _passed_on(self.encoder.numbers(frame)[:, number], self.facts)

    def save_weights(self, folder: Path) -> None:
        """Nothing: the facts are all there is."""


class Column:
    """One numeric feature, passed on."""

    name = NAME
    tasks = frozenset({"regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default; `name` is that of a numeric feature."""
        return {"name": ""}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The defaults: there is nothing to tune."""
        return self.defaults()

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> ColumnModel:
        """Find what stands in where the feature is missing, or no count; `valid` is not read.

        Raises:
            ValueError: `name` is no numeric feature too.
        """
        name = complete_params(self, params)["name"]
        check_fit(self, train)
        if name not in columns.numeric:
            raise ValueError(
                f"{NAME}: {name!r} is no numeric feature; set the parameter `name` to one of"
                f" {', '.join(columns.numeric) or 'them (there is none)'}"
            )
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        value = encoder.numbers(train.frame)[:, columns.numeric.index(name)]
        facts: dict[str, Any] = {
            "name": name,
            "device": device,
            "target": train.target.to_json(),
            "where_missing": float(train.label.mean()),
        }
        if train.target.metric == "poisson_deviance":
            none = train.label[value <= 0]
            facts["where_none"] = max(_LEAST, float(none.mean()) if none.size else 0.0)
        options.tell(f"{NAME}: {name}")
        return ColumnModel(encoder, facts)

    def load(self, folder: Path) -> ColumnModel:
        """Read what a model's `save` wrote."""
        return ColumnModel(*load_encoder_and_facts(folder))


def _passed_on(value: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    found = np.where(np.isnan(value), facts["where_missing"], value)
    return np.where(found > 0, found, facts["where_none"]) if "where_none" in facts else found


FAMILY = Column()
