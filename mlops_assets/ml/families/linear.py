"""What the linear families share: coefficients on the encoder's design, a fit that converges."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ml.families.base import Rows
from mlops_assets.ml.families.encoded import EncodedModel, save_arrays


@dataclass(frozen=True)
class LinearModel(EncodedModel):
    """A model that is linear in the encoder's design; a family says what its margin means.

    Attributes:
        coefficients: per unit of each column of the design matrix, shape (design columns,), or a
            row for each output.
        intercept: the margin where all of them are zero, shape (1,), or one for each output.
    """

    coefficients: np.ndarray
    intercept: np.ndarray

    def margin(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """Design times coefficients, and the intercept, shape (rows,) or (rows, outputs)."""
        found: np.ndarray = self.encoder.design(frame) @ self.coefficients.T + self.intercept
        return found

    def save_weights(self, folder: Path) -> None:
        """Write the coefficients as safetensors."""
        save_arrays(folder, {"coefficients": self.coefficients, "intercept": self.intercept})


def fit_to_convergence(
    estimator: Any, design: Any, label: np.ndarray, most: int, threads: int
) -> dict[str, Any]:
    """Fit one of scikit-learn's linear estimators; how many iterations it took, and whether it
    converged within `most`: short of that it is still a model."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(design, label)
    iterations = int(np.max(estimator.n_iter_))
    return {"iterations": iterations, "converged": iterations < most}
