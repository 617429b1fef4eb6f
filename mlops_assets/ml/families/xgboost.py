"""Gradient boosting by XGBoost: the most tuned model, on the CPU or a GPU.

Categories are split natively, by codes; null and unseen levels go where missing values go. Stored
in XGBoost's own binary JSON (.ubj), cut to the best round. Predicts on the CPU wherever it was
fitted, so that a saved model and the one just fitted agree, unless a server asks for a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from mlops_assets.ml.targets import Multiclass, Target

if TYPE_CHECKING:
    import optuna
    from xgboost import Booster, DMatrix, QuantileDMatrix
    from xgboost.callback import TrainingCallback

NAME = "xgboost"
_WEIGHTS_FILE = "model.ubj"
_PROGRESS_ROUNDS = 50


@dataclass(frozen=True)
class XGBoostModel(EncodedModel):
    """Boosted trees in an XGBoost Booster."""

    booster: Booster
    is_on_gpu: bool = False

    family: ClassVar[str] = NAME

    def score(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The chance of label 1, or of each class, or the number."""
        # XGBoost computes in single precision whatever it is given; this halves what it reads.
        matrix = self.encoder.matrix(frame, np.float32)
        if self.is_on_gpu:
            return self.booster.predict(_whole(self.encoder, matrix))
        return self.booster.inplace_predict(matrix, missing=np.nan)

    def contributions(self, frame: pl.DataFrame | Rows) -> tuple[np.ndarray, np.ndarray]:
        """Exact Shapley values of the trees, by XGBoost itself; see `base.Explained`.

        TreeSHAP (Lundberg et al. 2020), path-dependent: a column that is not known is averaged over
        by the weight of the training rows that went each way. In single precision: the sums are the
        margin to some 1e-6 of the greatest margin.

        Raises:
            ValueError: no rows.
        """
        if not frame.height:
            raise ValueError("0 rows to explain, expected at least 1")
        matrix = _whole(self.encoder, self.encoder.matrix(frame, np.float32))
        # Shape (rows, [classes,] columns and the base); the matrix has a column for each of ours.
        shares = self.booster.predict(matrix, pred_contribs=True).astype(np.float64)
        return np.moveaxis(shares[..., :-1], -1, 1), shares[0, ..., -1]

    @property
    def device(self) -> str:
        """Where the booster predicts."""
        return "cuda" if self.is_on_gpu else "cpu"

    @classmethod
    def finds_gpu(cls) -> Callable[[], bool]:
        """What asks the library for a GPU."""
        return _gpu_is_there

    def on_gpu(self) -> XGBoostModel:
        """The model with a booster of its own on the GPU."""
        booster = self.booster.copy()
        booster.set_param({"device": "cuda"})
        return replace(self, booster=booster, is_on_gpu=True)

    def save_weights(self, folder: Path) -> None:
        """Write the booster in XGBoost's own format."""
        self.booster.save_model(folder / _WEIGHTS_FILE)


class XGBoost:
    """XGBoost's histogram method with the loss of the target."""

    name = NAME
    tasks = frozenset({"binary", "multiclass", "regression"})

    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {
            "learning_rate": 0.05,
            "rounds": 400,
            "patience": 30,
            "max_depth": 6,
            "min_child_weight": 20.0,
            "reg_lambda": 5.0,
            "subsample": 0.8,
            "colsample_bytree": 0.6,
            "max_bin": 128,
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Parameters for one trial: rate, tree size, regularisation and sampling."""
        return self.defaults() | {
            "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.2, log=True),
            "max_depth": trial.suggest_int("max_depth", 4, 8),
            "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 200.0, log=True),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 50.0, log=True),
            "subsample": trial.suggest_float("subsample", 0.6, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
        }

    def fit(
        self,
        train: Labelled,
        valid: Labelled | None,
        columns: FeatureColumns,
        params: Mapping[str, Any],
        options: FitOptions,
    ) -> XGBoostModel:
        """Boost until the loss on `valid` has not fallen for `patience` rounds."""
        import xgboost

        values = complete_params(self, params)
        check_fit(self, train)
        device = choose_device(NAME, options.device, _gpu_is_there)
        rounds, patience = values.pop("rounds"), values.pop("patience")
        encoder = Encoder.fit(train.frame, columns)
        matrix = _matrix(encoder, train, values["max_bin"], options)
        judged = []
        if valid is not None:
            judged = [(_matrix(encoder, valid, values["max_bin"], options, matrix), "valid")]
        booster = xgboost.train(
            values | _objective(train.target) | _fixed_params(device, options),
            matrix,
            num_boost_round=rounds,
            evals=judged,
            callbacks=_callbacks(patience if judged else None, options),
            verbose_eval=False,
        )
        used = _device_used(booster)
        if not used.startswith(device):
            raise ValueError(f"{NAME} was to fit on {device} and fitted on {used}")
        facts: dict[str, Any] = {
            "rounds": booster.num_boosted_rounds(),
            "device": used,
            "target": train.target.to_json(),
        }
        if judged:
            facts["valid_loss"] = float(booster.best_score)
        booster.set_param({"device": "cpu", "nthread": 0})  # As it is once loaded.
        options.tell(f"{NAME}: {facts['rounds']} rounds on {used}")
        return XGBoostModel(encoder, facts, booster)

    def load(self, folder: Path) -> XGBoostModel:
        """Read what a model's `save` wrote."""
        import xgboost

        encoder, facts = load_encoder_and_facts(folder)
        booster = xgboost.Booster(model_file=folder / _WEIGHTS_FILE)
        return XGBoostModel(encoder, facts, booster)


_OBJECTIVES = {
    "squared_error": ("reg:squarederror", "rmse"),
    "absolute_error": ("reg:absoluteerror", "mae"),
    "poisson_deviance": ("count:poisson", "poisson-nloglik"),
}


def _objective(target: Target) -> dict[str, Any]:
    if isinstance(target, Multiclass):
        classes = len(target.classes)
        return {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": classes}
    objective, metric = _OBJECTIVES.get(target.metric, ("binary:logistic", "logloss"))
    return {"objective": objective, "eval_metric": metric}


def _fixed_params(device: str, options: FitOptions) -> dict[str, Any]:
    return {
        "tree_method": "hist",
        "device": device,
        "nthread": options.threads,
        "seed": options.seed,
    }


def _matrix(
    encoder: Encoder,
    rows: Labelled,
    max_bin: int,
    options: FitOptions,
    bins_of: QuantileDMatrix | None = None,
) -> QuantileDMatrix:
    import xgboost

    columns = encoder.columns
    return xgboost.QuantileDMatrix(
        encoder.matrix(rows.frame),
        label=rows.label,
        feature_types=["q"] * len(columns.numeric) + ["c"] * len(columns.categorical),
        enable_categorical=True,
        max_bin=max_bin,
        nthread=options.threads,
        ref=bins_of,
    )


def _whole(encoder: Encoder, matrix: np.ndarray) -> DMatrix:
    """What is read where nothing can be read in place: on the GPU, and for contributions."""
    import xgboost

    columns = encoder.columns
    kinds = ["q"] * len(columns.numeric) + ["c"] * len(columns.categorical)
    return xgboost.DMatrix(matrix, missing=np.nan, feature_types=kinds, enable_categorical=True)


def _callbacks(patience: int | None, options: FitOptions) -> list[TrainingCallback]:
    from xgboost.callback import EarlyStopping, TrainingCallback

    class Progress(TrainingCallback):
        def after_iteration(self, model: Booster, epoch: int, evals_log: Any) -> bool:
            if (epoch + 1) % _PROGRESS_ROUNDS == 0:
                judged = next(iter(evals_log.get("valid", {}).values()), None)
                loss = f", loss {judged[-1]:.4f}" if judged else ""
                options.tell(f"{NAME}: round {epoch + 1}{loss}")
            return False

    if patience is None:
        return [Progress()]
    return [Progress(), EarlyStopping(rounds=patience, save_best=True)]


def _device_used(booster: Booster) -> str:
    return json.loads(booster.save_config())["learner"]["generic_param"]["device"]


def _gpu_is_there() -> bool:
    """Whether a fit asked to run on a GPU does; XGBoost itself falls back to the CPU in silence."""
    import xgboost

    with xgboost.config_context(verbosity=0):
        rows = xgboost.QuantileDMatrix(np.zeros((2, 1)), label=[0, 1], nthread=1)
        booster = xgboost.train({"device": "cuda", "verbosity": 0}, rows, 1)
        return _device_used(booster).startswith("cuda")


FAMILY = XGBoost()
