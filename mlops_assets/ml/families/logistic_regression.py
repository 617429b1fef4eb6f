"""The declared baseline: a logistic regression that nobody tuned.

Numbers are standardised, missing ones imputed by the mean and flagged; categories are one-hot,
null and unseen levels together one more. Fitted by scikit-learn, stored as its coefficients.
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
from mlops_assets.ml.families.encoded import load_arrays, load_encoder_and_facts
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.families.linear import LinearModel, fit_to_convergence

if TYPE_CHECKING:
    import optuna

NAME = "logistic_regression"


@dataclass(frozen=True)
class LogisticRegressionModel(LinearModel):
    """A linear log-odds model; of several classes a row of coefficients each."""

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class."""
        from scipy.special import expit, softmax

        odds = self.margin(frame)
        if odds.shape[1] > 1:
            return softmax(odds, axis=1)
        chance = expit(odds[:, 0])
        # Two classes have one margin, and a chance each.
        return np.column_stack([1 - chance, chance]) if self._shape else chance


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
        from sklearn.linear_model import LogisticRegression as Estimator

        values = complete_params(self, params)
        check_fit(self, train)
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        most = values["most_iterations"]
        estimator = Estimator(C=values["inverse_penalty"], max_iter=most)
        design = encoder.design(train.frame)
        facts = fit_to_convergence(estimator, design, train.label, most, options.threads)
        options.tell(f"{NAME}: {facts['iterations']} iterations")
        facts |= {"device": device, "target": train.target.to_json()}
        return LogisticRegressionModel(
            encoder, facts, estimator.coef_.copy(), estimator.intercept_.copy()
        )

    def load(self, folder: Path) -> LogisticRegressionModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        return LogisticRegressionModel(encoder, facts, **load_arrays(folder))


FAMILY = LogisticRegression()
