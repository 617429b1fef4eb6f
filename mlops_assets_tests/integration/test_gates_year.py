"""The promotion gates on the real year: train January to June, validate July, judge August on.

That a good model passes is here too, so that a refusal is not one of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.report import Contender, judge
from mlops_assets.defs.nyc_flights.source import read_source
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family

pytestmark = pytest.mark.year

TRAIN_TO, CUTOFF = date(2013, 6, 30), date(2013, 7, 31)
ON_SCORES = {
    "sound_scores",
    "leak_suspect",
    "gain_over_baseline",
    "calibrated",
    "not_worse_than_champion",
}
KEY = ["date", "carrier", "flight", "origin"]
CATEGORICAL = ("carrier", "origin", "dest")
NOT_FEATURES = {*KEY, *CATEGORICAL, "prediction_time", "label"}

XGBOOSTS_OWN_DEFAULTS = {
    "learning_rate": 0.3,
    "rounds": 100,
    "max_depth": 6,
    "min_child_weight": 1.0,
    "reg_lambda": 1.0,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "max_bin": 256,
}


@pytest.fixture(scope="module")
def months(labelled: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The rows by what they are for, with the delay at departure, which nobody knows in time."""
    source = read_source("flights").select(
        pl.date("year", "month", "day").alias("date"),
        "carrier",
        pl.col("flight").cast(pl.Int64),
        "origin",
        pl.col("dep_delay").cast(pl.Float64),
    )
    rows = labelled.join(source, on=KEY, how="left", maintain_order="left")
    day = pl.col("date")
    return {
        "train": rows.filter(day <= TRAIN_TO),
        "valid": rows.filter(day.is_between(TRAIN_TO, CUTOFF, closed="right")),
        "test": rows.filter(day > CUTOFF),
    }


def scores(
    months: dict[str, pl.DataFrame],
    name: str,
    params: dict[str, Any] | None = None,
    *,
    early_stopping: bool = True,
    shuffled: bool = False,
    leak: bool = False,
) -> np.ndarray:
    """What a family says of the test months, fitted on the months before."""
    chosen = family(name)
    train, valid = (
        Labelled(months[part], months[part]["label"].to_numpy()) for part in ("train", "valid")
    )
    if shuffled:
        train = Labelled(train.frame, np.random.default_rng(7).permutation(train.label))
    numeric = [
        c for c in train.frame.columns if c not in NOT_FEATURES and (leak or c != "dep_delay")
    ]
    columns = FeatureColumns(tuple(numeric), CATEGORICAL)
    model = chosen.fit(
        train,
        valid if early_stopping else None,
        columns,
        params or chosen.defaults(),
        FitOptions(threads=2),
    )
    return model.predict(months["test"])


@pytest.fixture(scope="module")
def verdict(months: dict[str, pl.DataFrame]) -> Callable[[np.ndarray], dict[str, str]]:
    """Gates that a candidate does not pass, each with what it says."""
    baseline = Contender("baseline", scores(months, "logistic_regression"), 0.2)
    label, days = months["test"]["label"].to_numpy(), months["test"]["date"].to_numpy()

    def judged(candidate: np.ndarray) -> dict[str, str]:
        contender = Contender("candidate", candidate, 0.2)
        outcomes = judge(label, days, contender, baseline, None, d.Gates())
        details = {o.name: o.detail for o in outcomes}
        passed = {o.name for o in outcomes if o.passed}
        return {gate: details.get(gate, "not judged") for gate in ON_SCORES - passed}

    return judged


gradient_boosting = partial(scores, name="hist_gradient_boosting")


def test_a_sound_model_passes(months, verdict):
    assert verdict(gradient_boosting(months)) == {}


def test_xgboost_as_it_comes_is_worse_than_the_baseline_and_too_sure(months, verdict):
    candidate = scores(months, "xgboost", XGBOOSTS_OWN_DEFAULTS, early_stopping=False)
    refused = verdict(candidate)
    assert refused.keys() == {"gain_over_baseline", "calibrated"}
    assert "above the baseline's" in refused["gain_over_baseline"]


def test_a_constant_tells_nothing(months, verdict):
    share = months["train"]["label"].mean()
    assert "sound_scores" in verdict(np.full(months["test"].height, share))


def test_shuffled_labels_teach_nothing(months, verdict):
    assert verdict(gradient_boosting(months, shuffled=True)).keys() == {"gain_over_baseline"}


def test_the_delay_at_departure_is_a_leak(months, verdict):
    refused = verdict(gradient_boosting(months, leak=True))
    assert refused.keys() == {"leak_suspect"}
    assert "know what happened after the prediction time" in refused["leak_suspect"]
