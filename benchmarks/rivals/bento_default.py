"""BentoML as its manual has it: a service with one method, nothing tuned.

It is given the features and answers the probability: it neither looks up nor logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
import polars as pl

from benchmarks.rivals import settings
from mlops_assets.ml.families import load_model


@bentoml.service
class Default:
    """One model."""

    def __init__(self) -> None:
        self._model = load_model(Path(settings()["model"]))
        columns = self._model.columns
        self._schema: dict[str, Any] = dict.fromkeys(columns.numeric, pl.Float64())
        self._schema |= dict.fromkeys(columns.categorical, pl.String())

    @bentoml.api
    def predict(self, features: dict[str, Any]) -> dict[str, float]:
        """The probability of one row."""
        frame = pl.DataFrame([features], schema=self._schema)
        return {"probability": float(self._model.predict(frame)[0])}
