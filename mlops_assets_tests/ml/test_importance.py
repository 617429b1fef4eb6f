"""What a model leans on, of a model that leans on one column."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.contributions import largest, to_the_answer, unit
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.importance import importance_of
from mlops_assets.ml.importance_picture import importance_picture
from mlops_assets.ml.targets import BINARY, Multiclass
from mlops_assets_tests.ml.test_pictures import assert_picture

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
    found = importance_of(*fitted).table
    assert found["column"][0] == "telling"
    assert found["weight"][0] > 0.95
    assert found["weight"].sum() == pytest.approx(1)
    assert found["weight"].min() >= 0
    assert found.equals(importance_of(*fitted).table)


def test_a_sample_suffices_and_a_label_of_other_values_does_not(fitted):
    model, frame, label = fitted
    assert importance_of(model, frame, label, rows=300).table["column"][0] == "telling"
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        importance_of(model, frame, label + 1)


def test_a_family_without_trees_has_no_contributions_and_a_picture_all_the_same(fitted):
    found = importance_of(*fitted)
    assert found.contributions is None
    assert largest(fitted[0], fitted[1][:1]) is None
    assert found.table["contribution"].to_list() == [None] * 3
    assert found.table.schema["contribution"] == pl.Float64
    assert_picture(importance_picture(found, "log-odds", "log_loss"))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_column_that_tells_moves_the_answers(fitted, task):
    _, frame, label = fitted
    target = BINARY
    if task == "multiclass":
        target, label = (
            Multiclass(classes=("a", "b", "c")),
            label + (frame["telling"] > 1).to_numpy(),
        )
    train = Labelled(frame[:1_500], label[:1_500], target)
    model = family("hist_gradient_boosting").fit(
        train, None, COLUMNS, {"rounds": 20}, FitOptions(threads=1)
    )
    found = importance_of(model, frame[1_500:], label[1_500:])
    by_contribution = found.table.sort("contribution", descending=True)
    assert by_contribution["column"][0] == "telling"
    assert by_contribution["contribution"][0] > 5 * by_contribution["contribution"][1]
    assert found.contributions.shape == (500, 3)
    assert_picture(importance_picture(found, unit(target), target.metric))


def test_contributions_to_a_class_are_over_the_mean_of_the_classes(fitted):
    _, frame, label = fitted
    target = Multiclass(classes=("a", "b", "c"))
    rows = Labelled(frame, label + (frame["telling"] > 1).to_numpy(), target)
    model = family("hist_gradient_boosting").fit(
        rows, None, COLUMNS, {"rounds": 5}, FitOptions(threads=1)
    )
    shares, base = to_the_answer(model, frame[:200])
    chances = model.predict(frame[:200])
    over_mean = np.log(chances.max(axis=1)) - np.log(chances).mean(axis=1)
    np.testing.assert_allclose(shares.sum(axis=1) + base, over_mean, atol=1e-9)
    said = largest(model, frame[:1], count=2)
    assert said["margin"] == pytest.approx(over_mean[0])
    assert said["base"] + said["others"] + sum(
        each["contribution"] for each in said["largest"]
    ) == pytest.approx(said["margin"])
    assert {each["feature"]: each["value"] for each in said["largest"]}.items() <= (
        frame.row(0, named=True).items()
    )
