"""The usual baseline of a number: a linear regression with a small L2 penalty that nobody tuned.

It reads what the logistic regression reads. Fitted by scikit-learn, stored as its coefficients.
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
from mlops_assets.ml.families.linear import LinearModel

if TYPE_CHECKING:
    import optuna

NAME = "linear_regression"


@dataclass(frozen=True)
class LinearRegressionModel(LinearModel):
    """A linear model."""

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The number; of a count, at least 0."""
        found = self.margin(frame)
        return np.maximum(found, 0.0) if self.target.metric == "poisson_deviance" else found


class LinearRegression:
    """scikit-learn's ridge regression."""

    name = NAME
    tasks = frozenset({"regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {"penalty": 1.0}

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
    ) -> LinearRegressionModel:
        """Fit on `train`; `valid` is not read."""
        from sklearn.linear_model import Ridge
        from threadpoolctl import threadpool_limits

        values = complete_params(self, params)
        check_fit(self, train)
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns)
        estimator = Ridge(alpha=values["penalty"], solver="sparse_cg", random_state=options.seed)
        with threadpool_limits(options.threads):
            estimator.fit(encoder.design(train.frame), train.label)
        facts = {"device": device, "target": train.target.to_json()}
        intercept = np.array([float(estimator.intercept_)])
        return LinearRegressionModel(encoder, facts, estimator.coef_.copy(), intercept)

    def load(self, folder: Path) -> LinearRegressionModel:
        """Read what a model's `save` wrote."""
        encoder, facts = load_encoder_and_facts(folder)
        return LinearRegressionModel(encoder, facts, **load_arrays(folder))


FAMILY = LinearRegression()
