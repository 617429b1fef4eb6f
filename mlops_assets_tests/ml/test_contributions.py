"""Contributions of the tree families: they sum to the margin, and belong to the right columns."""

from itertools import combinations
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.families import (
    Explained,
    FeatureColumns,
    FitOptions,
    Labelled,
    Rows,
    family,
    load_model,
    save_model,
)
from mlops_assets.ml.targets import BINARY, Multiclass, Regression

ROWS = 1_500
COLUMNS = FeatureColumns(("idle", "strength", "delay"), ("carrier", "Größe class"))
TREES = ("hist_gradient_boosting", "xgboost")
TARGETS = [
    BINARY,
    Multiclass(classes=("a b", "naïve", "zéro")),
    *(Regression(metric) for metric in Regression.metrics),
]
CASES = [
    pytest.param(name, target, id=f"{name}-{target.task}-{target.metric}")
    for name in TREES
    for target in TARGETS
]


def world(rows=ROWS, seed=0):
    """A column that never varies, missing values everywhere, and the mean that the rest makes."""
    rng = np.random.default_rng(seed)
    strength, delay = rng.normal(size=(2, rows))
    carrier, size = rng.choice(list("ABCDEFG"), rows), rng.choice(["x y", "ß", "*"], rows)
    mean = strength * (carrier < "C") + 0.5 * np.abs(delay) + (size == "ß") * (strength > 0)
    frame = pl.DataFrame(
        {"idle": np.full(rows, 3.0), "strength": strength, "delay": delay, "carrier": carrier,
         "Größe class": size}
    )  # fmt: skip
    return frame.with_columns(
        pl.when(pl.Series(rng.random(rows) > 0.1)).then(pl.col(name)).alias(name)
        for name in frame.columns[1:]
    ), mean


def label_of(target, mean):
    rng = np.random.default_rng(5)
    if target.task == "multiclass":
        return np.digitize(mean + 0.3 * rng.normal(size=mean.size), [0.2, 0.9])
    if target.task == "binary":
        return (rng.random(mean.size) < 1 / (1 + np.exp(-3 * (mean - 0.5)))).astype(int)
    if target.metric == "poisson_deviance":
        return rng.poisson(np.exp(mean))
    return 1000 + 30 * mean + rng.normal(size=mean.size)


@pytest.fixture(scope="module")
def fitted():
    made = {}

    def fit(name, target):
        if (name, target) not in made:
            frame, mean = world()
            rows = Labelled(frame, label_of(target, mean), target)
            made[name, target] = family(name).fit(
                rows, None, COLUMNS, {"rounds": 15} if name in TREES else {}, FitOptions(threads=1)
            )
        return made[name, target]

    return fit


def margin_of(model, frame):
    """From what the model predicts, by the link of its task: no path shared with the trees."""
    said = model.predict(frame)
    if model.target.task == "binary":
        return np.log(said) - np.log1p(-said)
    if model.target.task == "multiclass":
        logs = np.log(said)
        return logs - logs.mean(axis=1, keepdims=True)
    return np.log(said) if model.target.metric == "poisson_deviance" else said


def assert_summing(model, rows):
    shares, base = model.contributions(rows)
    margin, summed = margin_of(model, rows), shares.sum(axis=1) + base
    if summed.ndim == 2:  # A softmax says its margins but for a constant.
        summed -= summed.mean(axis=1, keepdims=True)
    # XGBoost computes in single precision, and its chances too.
    near = 2e-6 if model.family == "xgboost" else 1e-9
    assert np.abs(summed - margin).max() <= near * max(1, np.abs(margin).max())


@pytest.mark.parametrize(("name", "target"), CASES)
def test_contributions_and_base_sum_to_the_margin(fitted, name, target):
    model = fitted(name, target)
    frame, _ = world(400, seed=9)
    unseen = frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("new")).otherwise("carrier")
        .alias("carrier")
    )  # fmt: skip
    nothing = frame.with_columns(pl.lit(None, frame[c].dtype).alias(c) for c in COLUMNS.names)
    for rows in (frame, unseen, nothing):
        shares, base = model.contributions(rows)
        classes = (len(target.classes),) if target.task == "multiclass" else ()
        assert shares.shape == (rows.height, len(COLUMNS.names), *classes)
        assert (shares.dtype, base.shape) == (np.float64, classes)
        assert_summing(model, rows)
        assert not shares[:, COLUMNS.names.index("idle")].any()
        assert all(np.abs(shares[:, i]).max() > 0 for i in range(1, len(COLUMNS.names)))


NUMBERS = st.sampled_from([None, np.nan, -1e30, -0.0, 0.0, 1e-300, 3e38]) | st.floats(-3, 3)
LEVELS = st.sampled_from([None, "A", "C", "G", "ß", "*", "", "new"])
ANY_ROW = st.fixed_dictionaries(
    dict.fromkeys(COLUMNS.numeric, NUMBERS) | dict.fromkeys(COLUMNS.categorical, LEVELS)
)


@pytest.mark.parametrize("name", TREES)
@settings(max_examples=10, deadline=None)
@given(rows=st.lists(ANY_ROW, min_size=1, max_size=8))
def test_they_sum_to_the_margin_whatever_the_row_holds(fitted, name, rows):
    for target in TARGETS:
        assert_summing(fitted(name, target), Rows(rows))


def test_those_of_xgboost_are_the_librarys_own(fitted):
    import xgboost

    model = fitted("xgboost", BINARY)
    frame, _ = world(200, seed=3)
    read = xgboost.DMatrix(
        model.encoder.matrix(frame), missing=np.nan, feature_types=list("qqqcc"),
        enable_categorical=True,
    )  # fmt: skip
    theirs = model.booster.predict(read, pred_contribs=True)
    shares, base = model.contributions(frame)
    np.testing.assert_array_equal(np.column_stack([shares, np.full(200, base)]), theirs)


def test_those_of_xgboost_are_shapley_values():
    """By the definition: over all subsets, what a column adds to what is expected of the rest."""
    frame, mean = world(400)
    names = ("strength", "delay", "idle")
    model = family("xgboost").fit(
        Labelled(frame, mean, Regression()), None, FeatureColumns(names, ()),
        {"rounds": 4, "max_depth": 3, "colsample_bytree": 1.0}, FitOptions(threads=1),
    )  # fmt: skip
    nodes = {node["ID"]: node for node in model.booster.trees_to_dataframe().to_dict("records")}
    roots = [name for name in nodes if name.endswith("-0")]
    shares, _ = model.contributions(frame[:20])
    assert (np.abs(shares[:, :2]).max(axis=0) > 0.02).all()

    def expected(row, known, at):
        node = nodes[at]
        if node["Feature"] == "Leaf":
            return node["Gain"]
        column, below = int(node["Feature"][1:]), (node["Yes"], node["No"])
        value = row[column]
        if column not in known:
            covers = np.array([nodes[child]["Cover"] for child in below])
            return np.dot(covers, [expected(row, known, child) for child in below]) / covers.sum()
        if value is None:
            return expected(row, known, node["Missing"])
        return expected(row, known, below[0] if np.float32(value) < node["Split"] else below[1])

    for row, share in zip(frame[:20].select(names).iter_rows(), shares, strict=True):
        worth = {
            known: sum(expected(row, known, root) for root in roots)
            for size in range(4)
            for known in combinations(range(3), size)
        }
        for column in range(3):
            others = [known for known in worth if column not in known]
            by_definition = sum(
                (worth[tuple(sorted((*known, column)))] - worth[known]) / (3 * comb(2, len(known)))
                for known in others
            )
            assert share[column] == pytest.approx(by_definition, abs=1e-6)
    assert not shares[:, 2].any()


def test_over_the_training_rows_each_path_contribution_is_nothing_on_average(fitted):
    """A node's value is the mean of its rows, so what one side of a split gains the other loses."""
    for target in (BINARY, Regression("absolute_error")):
        frame, _ = world()
        shares, base = fitted("hist_gradient_boosting", target).contributions(frame)
        assert np.abs(shares.mean(axis=0)).max() < 1e-9 * max(1, abs(base))
        assert np.abs(shares).mean(axis=0).max() > 0.05


@pytest.mark.parametrize("name", TREES)
def test_a_stored_model_a_row_and_a_frame_say_the_same(fitted, name, tmp_path):
    model = fitted(name, BINARY)
    frame, _ = world(5, seed=4)
    save_model(model, tmp_path / "model")
    shares, base = model.contributions(frame)
    again, base_again = load_model(tmp_path / "model").contributions(Rows(frame.to_dicts()))
    np.testing.assert_array_equal(again, shares)
    assert base_again == base
    with pytest.raises(ValueError, match="0 rows to explain"):
        model.contributions(frame[:0])


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("column", ["delay", "carrier"])
def test_the_one_column_that_tells_has_all_of_it(name, column):
    frame, _ = world()
    told = frame[column].fill_null(0.0) > 0 if column == "delay" else frame[column] == "B"
    label = told.fill_null(False).cast(pl.Int8).to_numpy()
    every = {"xgboost": "colsample_bytree", "hist_gradient_boosting": "max_features"}[name]
    params = {"rounds": 5, every: 1.0}
    model = family(name).fit(Labelled(frame, label), None, COLUMNS, params, FitOptions(threads=1))
    felt = np.abs(model.contributions(frame)[0]).mean(axis=0)
    assert felt.argmax() == COLUMNS.names.index(column)
    assert felt.max() > 0.9 * felt.sum()


def test_a_family_without_trees_has_none(fitted):
    linear = fitted("logistic_regression", BINARY)
    assert not isinstance(linear, Explained)
    assert all(isinstance(fitted(name, BINARY), Explained) for name in TREES)
