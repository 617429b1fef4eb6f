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
    check_fit,
    choose_device,
    complete_params,
)
from mlops_assets.ml.families.encoded import EncodedModel, load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder

if TYPE_CHECKING:
    import optuna

NAME = "logistic_regression"
_WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class LogisticRegressionModel(EncodedModel):
    """A linear log-odds model.

    Attributes:
        coefficients: per unit of each column of the design matrix, shape (1, design columns), or
            a row for each of several classes.
        intercept: log-odds where all of them are zero, shape (1,), or one for each class.
    """

    coefficients: np.ndarray
    intercept: np.ndarray

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class."""
        from scipy.special import expit, softmax

        odds = self.encoder.design(frame) @ self.coefficients.T + self.intercept
        return expit(odds[:, 0]) if odds.shape[1] == 1 else softmax(odds, axis=1)

    def save_weights(self, folder: Path) -> None:
        """Write the coefficients as safetensors."""
        from safetensors.numpy import save_file

        weights = {"coefficients": self.coefficients, "intercept": self.intercept}
        save_file(weights, folder / _WEIGHTS_FILE)


class LogisticRegression:
    """scikit-learn's logistic regression with an L2 penalty, by L-BFGS."""

    name = NAME
    tasks = frozenset({"binary", "multiclass"})

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
        check_fit(self, train)
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        most = values["most_iterations"]
        estimator = Estimator(C=values["inverse_penalty"], max_iter=most)
        with threadpool_limits(options.threads), warnings.catch_warnings():
            # Reported in the description: short of convergence it is still a model.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(encoder.design(train.frame), train.label)
        iterations = int(estimator.n_iter_[0])
        facts = {
            "iterations": iterations,
            "converged": iterations < most,
            "device": device,
            "target": train.target.to_json(),
        }
        options.tell(f"{NAME}: {iterations} iterations")
        return LogisticRegressionModel(
            encoder, facts, estimator.coef_.copy(), estimator.intercept_.copy()
        )

    def load(self, folder: Path) -> LogisticRegressionModel:
        """Read what a model's `save` wrote."""
        from safetensors.numpy import load_file

        weights = load_file(folder / _WEIGHTS_FILE)
        return LogisticRegressionModel(
            *load_encoder_and_facts(folder), weights["coefficients"], weights["intercept"]
        )


FAMILY = LogisticRegression()
