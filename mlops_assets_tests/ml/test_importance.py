"""What a model leans on, of a model that leans on one column."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.importance import permutation_importance

COLUMNS = FeatureColumns(numeric=("telling", "noise"), categorical=("group",))


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(1)
    telling = generator.normal(size=4_000)
    frame = pl.DataFrame(
        {
            "telling": telling,
            "noise": generator.normal(size=4_000),
            "group": generator.choice(["a", "b"], 4_000),
        }
    )
    label = (generator.random(4_000) < 1 / (1 + np.exp(-2 * telling))).astype(int)
    train, rest = Labelled(frame[:2_000], label[:2_000]), (frame[2_000:], label[2_000:])
    model = family("logistic_regression").fit(train, None, COLUMNS, {}, FitOptions(threads=1))
    return model, *rest


def test_the_column_that_tells_has_the_weight(fitted):
    found = permutation_importance(*fitted)
    assert found["column"][0] == "telling"
    assert found["weight"][0] > 0.95
    assert found["weight"].sum() == pytest.approx(1)
    assert found["weight"].min() >= 0
    assert found.equals(permutation_importance(*fitted))


def test_a_sample_suffices_and_a_label_of_other_values_does_not(fitted):
    model, frame, label = fitted
    assert permutation_importance(model, frame, label, rows=300)["column"][0] == "telling"
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        permutation_importance(model, frame, label + 1)
