"""How MLflow loads a registered model for someone who uses `mlflow.pyfunc`: no pickle is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import pandas as pd

    from mlops_assets.ml.families import Model


class PyfuncModel:
    """A model of this package behind MLflow's `predict`, which passes pandas frames."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(
        self, model_input: pd.DataFrame | pl.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Return one prediction a row; `params` is MLflow's and has no meaning here."""
        frame = (
            model_input if isinstance(model_input, pl.DataFrame) else pl.from_pandas(model_input)
        )
        return self.model.predict(frame)


def _load_pyfunc(path: str) -> PyfuncModel:
    from mlops_assets.ml.families import load_model

    return PyfuncModel(load_model(Path(path)))
