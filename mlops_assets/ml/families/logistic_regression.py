"""The declared baseline: a logistic regression that nobody tuned.

Numbers are standardised, missing ones imputed by the mean and flagged; categories are one-hot,
null and unseen levels together one more. Fitted by scikit-learn, stored as its coefficients.
"""

from __future__ import annotations

import warnings
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
    check_both_classes,
    choose_device,
    complete_params,
)
from mlops_assets.ml.families.encoded import EncodedModel, load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder

if TYPE_CHECKING:
    import optuna
    from scipy.sparse import csr_array

NAME = "logistic_regression"
_WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class LogisticRegressionModel(EncodedModel):
    """A linear log-odds model.

    Attributes:
        coefficients: per unit of each column of the design matrix, shape (design columns,).
        intercept: log-odds where all of them are zero, shape (1,).
    """

    coefficients: np.ndarray
    intercept: np.ndarray

    family: ClassVar[str] = NAME

    def probability(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """P(label = 1) of each row."""
        from scipy.special import expit

        return expit(_design(self.encoder, frame) @ self.coefficients + self.intercept)

    def save_weights(self, folder: Path) -> None:
        """Write the coefficients as safetensors."""
        from safetensors.numpy import save_file

        weights = {"coefficients": self.coefficients, "intercept": self.intercept}
        save_file(weights, folder / _WEIGHTS_FILE)


class LogisticRegression:
    """scikit-learn's logistic regression with an L2 penalty, by L-BFGS."""

    name = NAME

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {"inverse_penalty": 1.0, "most_iterations": 300}

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
    ) -> LogisticRegressionModel:
        """Fit on `train` to convergence; `valid` is not read."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Estimator
        from threadpoolctl import threadpool_limits

        values = complete_params(self, params)
        check_both_classes(train)
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        most = values["most_iterations"]
        estimator = Estimator(C=values["inverse_penalty"], max_iter=most)
        with threadpool_limits(options.threads), warnings.catch_warnings():
            # Reported in the description: short of convergence it is still a model.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(_design(encoder, train.frame), train.label)
        iterations = int(estimator.n_iter_[0])
        facts = {"iterations": iterations, "converged": iterations < most, "device": device}
        options.tell(f"{NAME}: {iterations} iterations")
        return LogisticRegressionModel(
            encoder, facts, estimator.coef_[0].copy(), estimator.intercept_.copy()
        )

    def load(self, folder: Path) -> LogisticRegressionModel:
        """Read what a model's `save` wrote."""
        from safetensors.numpy import load_file

        weights = load_file(folder / _WEIGHTS_FILE)
        return LogisticRegressionModel(
            *load_encoder_and_facts(folder), weights["coefficients"], weights["intercept"]
        )


def _design(encoder: Encoder, frame: pl.DataFrame | Rows) -> csr_array:
    """Standardised numbers, flags, then one column a level: sparse, shape (rows, design columns).

    The first column of each categorical feature stands for null and unseen levels.
    """
    from scipy.sparse import csr_array, hstack

    widths = np.array(encoder.level_counts, dtype=np.int64) + 1
    starts = np.concatenate([[0], np.cumsum(widths)])
    places = encoder.codes(frame) + 1 + starts[:-1]
    ends = np.arange(frame.height + 1) * len(widths)
    one_hot = csr_array(
        (np.ones(places.size), places.ravel(), ends), shape=(frame.height, int(starts[-1]))
    )
    return hstack([csr_array(encoder.standardised(frame)), one_hot], format="csr")


FAMILY = LogisticRegression()
