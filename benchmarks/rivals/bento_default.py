"""BentoML as its manual has it: a service with one method, nothing tuned.

It is given the features and answers the probability: it neither looks up nor logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.rivals import settings
from mlops_assets.ml.families import Rows, load_model


@bentoml.service
class Default:
    """One model."""

    def __init__(self) -> None:
        self._model = load_model(Path(settings()["model"]))

    @bentoml.api
    def predict(self, features: dict[str, Any]) -> dict[str, float]:
        """The probability of one row."""
        return {"probability": float(self._model.predict(Rows([features]))[0])}
