"""A Poisson regression: the log of the expected count is linear in the features.

Numbers are standardised, missing ones imputed by the mean and flagged; categories are one-hot, null
and unseen levels together one more. Fitted by scikit-learn, stored as its coefficients. Nelder and
Wedderburn, "Generalized Linear Models" (1972).
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
from mlops_assets.ml.families.encoded import load_arrays, load_encoder_and_facts, save_arrays
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.families.linear import LinearModel, fit_to_convergence

if TYPE_CHECKING:
    import optuna

NAME = "poisson_regression"
_MOST_FOR_NEWTON = 1_000
"""Columns up to which a Newton step is cheap; overlapping windows take L-BFGS hundreds of steps."""


@dataclass(frozen=True)
class PoissonRegressionModel(LinearModel):
    """A log-linear model.

    Attributes:
        ceiling: greatest label of the training rows, shape (1,); no row is expected to have more,
            since what lies beyond all that was seen grows by a power.
    """

    ceiling: np.ndarray

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The expected count."""
        return np.exp(np.minimum(self.margin(frame), np.log(self.ceiling)))

    def save_weights(self, folder: Path) -> None:
        """Write the coefficients and the ceiling as safetensors."""
        weights = {"coefficients": self.coefficients, "intercept": self.intercept}
        save_arrays(folder, weights | {"ceiling": self.ceiling})


class PoissonRegression:
    """scikit-learn's Poisson regression with an L2 penalty, by Newton steps or L-BFGS."""

    name = NAME
    tasks = frozenset({"regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {"penalty": 1e-3, "most_iterations": 300}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial: the penalty."""
        return self.defaults() | {"penalty": trial.suggest_float("penalty", 1e-5, 1.0, log=True)}

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> PoissonRegressionModel:
        """Fit on `train` to convergence; `valid` is not read.

        Raises:
            ValueError: a label below 0 too, which is no count.
        """
        from sklearn.linear_model import PoissonRegressor

        values = complete_params(self, params)
        check_fit(self, train)
        if train.label.min() < 0:
            raise ValueError(f"a label is {train.label.min():g}; {NAME} is of counts, 0 or more")
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        design, most = encoder.design(train.frame), values["most_iterations"]
        solver = "newton-cholesky" if design.shape[1] <= _MOST_FOR_NEWTON else "lbfgs"
        estimator = PoissonRegressor(alpha=values["penalty"], max_iter=most, solver=solver)
        facts = fit_to_convergence(estimator, design, train.label, most, options.threads)
        options.tell(f"{NAME}: {facts['iterations']} iterations")
        facts |= {"device": device, "target": train.target.to_json()}
        intercept, ceiling = np.array([estimator.intercept_]), np.array([train.label.max()])
        return PoissonRegressionModel(encoder, facts, estimator.coef_.copy(), intercept, ceiling)

    def load(self, folder: Path) -> PoissonRegressionModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        return PoissonRegressionModel(encoder, facts, **load_arrays(folder))


FAMILY = PoissonRegression()
