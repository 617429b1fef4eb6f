"""Gradient boosting on histograms by scikit-learn: the quickest good model on a few columns.

Categories are split natively, by codes; a column keeps its most frequent levels, at most as many
as there are bins, and all others count as missing. scikit-learn keeps the rounds up to the stop,
not to the best one, so the patience is short. Stored by skops, which loads trusted types only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from mlops_assets.ml.families.artifact import ModelFileError
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
from mlops_assets.ml.families.skops_archive import write_archive
from mlops_assets.ml.families.tree_paths import path_contributions
from mlops_assets.ml.targets import Target

if TYPE_CHECKING:
    import optuna
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

NAME = "hist_gradient_boosting"
_WEIGHTS_FILE = "model.skops"

# Beside what skops trusts by itself. The two last are how the classifier passes numbers by its own
# encoder of categories; a partial can call a trusted function only.
_TRUSTED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.utils.validation.check_array",
        "functools.partial",
    }
)


@dataclass(frozen=True)
class HistGradientBoostingModel(EncodedModel):
    """Boosted trees in scikit-learn's classifier or regressor."""

    estimator: HistGradientBoostingClassifier | HistGradientBoostingRegressor

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class, or the number."""
        matrix = self.encoder.matrix(frame)
        if self.target.task == "regression":
            return self.estimator.predict(matrix)
        chances = self.estimator.predict_proba(matrix)
        return chances if self.target.task == "multiclass" else chances[:, 1]

    def contributions(self, frame: pl.DataFrame | Rows) -> tuple[np.ndarray, np.ndarray]:
        """Path contributions (Saabas 2014), and not Shapley values; see `base.Explained`.

        At each split on a row's path the column split by is given the change of the expected value
        of the node. The last columns on a path get more than by Shapley's rule, which averages over
        all orders; scikit-learn has no TreeSHAP of its own. In double precision.

        Raises:
            ValueError: no rows.
        """
        if not frame.height:
            raise ValueError("0 rows to explain, expected at least 1")
        shares, base = path_contributions(self.estimator, self.encoder.matrix(frame))
        return (shares, base) if self.target.task == "multiclass" else (shares[..., 0], base[0])

    def save_weights(self, folder: Path) -> None:
        """Write the estimator in skops' format."""
        write_archive(self.estimator, folder / _WEIGHTS_FILE)


class HistGradientBoosting:
    """scikit-learn's HistGradientBoostingClassifier and HistGradientBoostingRegressor."""

    name = NAME
    tasks = frozenset({"binary", "multiclass", "regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {
            "learning_rate": 0.06,
            "rounds": 300,
            "patience": 15,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 40,
            "l2_regularization": 1.0,
            "max_features": 0.5,
            "max_bins": 127,
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial: rate, tree size and regularisation."""
        return self.defaults() | {
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 15, 63, log=True),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 20, 400, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 0.01, 100.0, log=True),
            "max_features": trial.suggest_float("max_features", 0.2, 1.0),
        }

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> HistGradientBoostingModel:
        """Boost until the loss on `valid` has not fallen for `patience` rounds."""
        from threadpoolctl import threadpool_limits

        values = complete_params(self, params)
        check_fit(self, train)
        device = choose_device(NAME, options.device, None)
        encoder = Encoder.fit(train.frame, columns, most_levels=values["max_bins"])
        estimator = _estimator(
            train.target, values, columns, options.seed, stop_early=valid is not None
        )
        judge = (
            {} if valid is None else {"X_val": encoder.matrix(valid.frame), "y_val": valid.label}
        )
        with threadpool_limits(options.threads):
            estimator.fit(encoder.matrix(train.frame), train.label, **judge)
        facts: dict[str, Any] = {
            "rounds": int(estimator.n_iter_),
            "device": device,
            "target": train.target.to_json(),
        }
        if valid is not None:
            facts["valid_loss"] = -float(estimator.validation_score_[-1])
        options.tell(f"{NAME}: {facts['rounds']} rounds")
        return HistGradientBoostingModel(encoder, facts, estimator)

    def load(self, folder: Path) -> HistGradientBoostingModel:
        """Read what a model's `save` wrote.

        Raises:
            ModelFileError: the file holds a type that is not trusted.
        """
        import skops.io

        path = folder / _WEIGHTS_FILE
        if strange := set(skops.io.get_untrusted_types(file=path)) - _TRUSTED:
            raise ModelFileError(f"{path} holds types not trusted: {', '.join(sorted(strange))}")
        encoder, facts = load_encoder_and_facts(folder)
        return HistGradientBoostingModel(
            encoder, facts, skops.io.load(path, trusted=sorted(_TRUSTED))
        )


def _estimator(
    target: Target, values: Mapping[str, Any], columns: FeatureColumns, seed: int, stop_early: bool
) -> HistGradientBoostingClassifier | HistGradientBoostingRegressor:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    estimator, loss = HistGradientBoostingClassifier, {}
    if target.task == "regression":
        # scikit-learn's name of the Poisson deviance's loss.
        loss = {"loss": {"poisson_deviance": "poisson"}.get(target.metric, target.metric)}
        estimator = HistGradientBoostingRegressor
    own = ("learning_rate", "max_leaf_nodes", "min_samples_leaf", "l2_regularization")
    return estimator(
        **loss,
        **{name: values[name] for name in (*own, "max_features", "max_bins")},
        max_iter=values["rounds"],
        n_iter_no_change=values["patience"],
        early_stopping=stop_early,
        categorical_features=[name in columns.categorical for name in columns.names],
        random_state=seed,
    )


FAMILY = HistGradientBoosting()
