"""A family's fit as the product does it, the search left out, against the library called plainly.

The same training and validation rows, the same parameters, the same stop. Plainly means: the
library on the columns as they are, predictions of the validation rows, their log loss. Ours adds
the encoder's memory of levels and means, the decision threshold, and the metrics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from benchmarks.data import columns, days_of, lake, product
from benchmarks.measure import THREADS, Case, Contender, Work

LABEL = "label"

PAIR = (Contender("ours", "ours"), Contender("library", "bare"))


def cases(quick: bool) -> list[Case]:
    """Two families."""
    size = "16k x 63" if quick else "191k x 63"
    return [
        Case("training " + name, size, PAIR, {"name": name, "quick": quick},
             rounds=1 if quick else 3, repeats=1)
        for name in ("xgboost", "hist_gradient_boosting")
    ]  # fmt: skip


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    return [("year", {"quick": quick})]


def ours(folder: str, name: str, quick: bool) -> Work:
    """`training.fit`, for which a baseline is what is not searched."""
    from dataclasses import replace

    from mlops_assets.components.ml_product import training

    declared = product(quick)
    declared = replace(declared, training=declared.training.model_copy(update={"baseline": name}))
    rows = lake(folder).scan("flight_delays/training_set").collect()
    return Work(
        lambda: training.fit(declared, name, rows), lambda f: f"{f.validation['log_loss']:.6f}"
    )


def bare(folder: str, name: str, quick: bool) -> Work:
    """The library."""
    from mlops_assets.ml.families import FitOptions, family
    from mlops_assets.ml.splits import split_by_day

    numeric, categorical = columns(folder)
    rows = lake(folder).scan("flight_delays/training_set").collect()
    masks = split_by_day(rows["date"].to_numpy(), rows["date"].max(), days_of(quick)[2])  # type: ignore[arg-type]
    params, seed = family(name).defaults(), FitOptions().seed
    fit = {"xgboost": _xgboost, "hist_gradient_boosting": _sklearn}[name]

    def run() -> float:
        # A level that the validation rows alone have is missing, as in ours.
        known = rows.filter(masks[0])
        levels: Any = {c: pl.Enum(known[c].drop_nulls().unique().sort()) for c in categorical}
        typed = rows.select(*numeric, *categorical, LABEL).cast(levels, strict=False)
        train, valid = (typed.filter(mask) for mask in masks)
        return fit(train, valid, dict(params), categorical, seed)

    return Work(run, lambda loss: f"{loss:.6f}")


def _xgboost(
    train: pl.DataFrame,
    valid: pl.DataFrame,
    params: dict[str, Any],
    categorical: list[str],
    seed: int,
) -> float:
    import xgboost

    rounds, patience = params.pop("rounds"), params.pop("patience")
    options: Any = {"max_bin": params["max_bin"], "enable_categorical": True, "nthread": THREADS}
    matrix = xgboost.QuantileDMatrix(train.drop(LABEL), train[LABEL], **options)
    judged = xgboost.QuantileDMatrix(valid.drop(LABEL), valid[LABEL], ref=matrix, **options)
    fixed = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": THREADS,
        "seed": seed,
    }
    booster = xgboost.train(
        params | fixed, matrix, rounds, evals=[(judged, "valid")], verbose_eval=False,
        callbacks=[xgboost.callback.EarlyStopping(patience, save_best=True)],
    )  # fmt: skip
    return _log_loss(valid, booster.predict(judged))


def _sklearn(
    train: pl.DataFrame,
    valid: pl.DataFrame,
    params: dict[str, Any],
    categorical: list[str],
    seed: int,
) -> float:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rounds, patience = params.pop("rounds"), params.pop("patience")
    classifier = HistGradientBoostingClassifier(
        **params, max_iter=rounds, n_iter_no_change=patience, early_stopping=True,
        categorical_features=[name in categorical for name in train.drop(LABEL).columns],
        random_state=seed,
    )  # fmt: skip
    matrices = [part.drop(LABEL).with_columns(
        pl.col(categorical).to_physical()
    ).cast(pl.Float64).to_numpy() for part in (train, valid)]  # fmt: skip
    labels = [part[LABEL].cast(pl.Float64).to_numpy() for part in (train, valid)]
    classifier.fit(matrices[0], labels[0], X_val=matrices[1], y_val=labels[1])
    return _log_loss(valid, classifier.predict_proba(matrices[1])[:, 1])


def _log_loss(valid: pl.DataFrame, probability: np.ndarray) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(valid[LABEL].to_numpy(), probability.astype(np.float64)))
