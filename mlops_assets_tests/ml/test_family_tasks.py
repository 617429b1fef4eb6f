"""Families of several classes and of numbers: what they learn, keep and refuse."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import (
    FeatureColumns,
    FitOptions,
    Labelled,
    Rows,
    families,
    family,
    load_model,
    of_seen_classes,
    save_model,
)
from mlops_assets.ml.targets import BINARY, Multiclass, Regression

ROWS = 2_400
COLUMNS = FeatureColumns(("pressure", "select"), ("Größe class",))
QUICK = {
    "xgboost": {"rounds": 60},
    "hist_gradient_boosting": {"rounds": 60},
    "embedding_mlp": {"epochs": 8, "batch_rows": 128},
}


def world(seed=0):
    """Columns with names that are awkward elsewhere, and the log of a mean that they make."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "pressure": rng.normal(size=ROWS),
            "select": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(size=ROWS)),
            "Größe class": rng.choice(["x y", "ß", "*"], ROWS),
        }
    )
    mean = frame["pressure"].to_numpy() + (frame["Größe class"] == "ß").to_numpy()
    return frame, mean, rng


def labels(target, mean, rng):
    if isinstance(target, Multiclass):
        return np.digitize(mean + 0.3 * rng.normal(size=ROWS), [-0.3, 0.8])
    if target.metric == "poisson_deviance":
        return rng.poisson(np.exp(mean))
    return 1000 + 30 * mean + rng.normal(size=ROWS)


TARGETS = [
    Multiclass(classes=("a b", "naïve", "zéro")),
    *(Regression(metric) for metric in Regression.metrics),
]
CASES = [
    pytest.param(target, name, id=f"{target.task}-{target.metric}-{name}")
    for target in TARGETS
    for name in families()
    if target.task in family(name).tasks and name in (*QUICK, "logistic_regression",
                                                      "linear_regression")
]  # fmt: skip


@pytest.mark.parametrize(("target", "name"), CASES)
def test_a_family_learns_each_of_its_tasks_and_keeps_what_it_learned(target, name, tmp_path):
    frame, mean, rng = world()
    label = labels(target, mean, rng)
    cut = ROWS * 2 // 3
    model = family(name).fit(
        Labelled(frame[:cut], label[:cut], target),
        Labelled(frame[cut:], label[cut:], target),
        COLUMNS,
        QUICK.get(name, {}),
        FitOptions(threads=1),
    )
    truth, scores = target.check(label[cut:], model.predict(frame[cut:]))
    nothing, _ = target.constant(target.encode(label[:cut]), ROWS - cut)
    # A straight line is a poor mean of counts, and still must not be worse than nothing.
    enough = 0.0 if name == "linear_regression" else 0.25
    days = np.arange(ROWS - cut) // 40
    assert target.loss(truth, scores) < (1 - enough) * target.loss(truth, nothing)
    assert target.gain(truth, scores, nothing, days).value > 0
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.target == model.target == target
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    rows = Rows(frame[:5].to_dicts())
    np.testing.assert_allclose(again.predict(rows), model.predict(frame[:5]), rtol=1e-5)
    assert model.predict(frame[:0]).shape == scores[:0].shape


@pytest.mark.parametrize("name", [n for n in families() if "multiclass" in family(n).tasks])
def test_a_class_of_the_newest_rows_alone_is_not_learned_and_stops_no_fit(name):
    target = TARGETS[0]
    frame, mean, rng = world()
    label = labels(target, mean, rng)
    cut = ROWS * 2 // 3
    early = np.flatnonzero(label[:cut] != 1)
    whole = Labelled(frame, label, target)
    train, valid = of_seen_classes(whole.take(early), whole.take(np.arange(cut, ROWS)))
    assert train.target.classes == valid.target.classes == ("a b", "zéro")
    assert valid.frame.height == np.count_nonzero(label[cut:] != 1)
    assert set(np.unique(valid.label)) == {0.0, 1.0}
    options = FitOptions(threads=1)
    model = family(name).fit(train, valid, COLUMNS, QUICK.get(name, {}), options)
    scores = model.predict(frame[cut:])
    assert scores.shape == (ROWS - cut, 2)
    aligned = target.aligned(scores, model.target)
    assert np.array_equal(aligned[:, [0, 2]], scores)
    assert not aligned[:, 1].any()
    # A label that it cannot say costs as much as one that it held for impossible.
    truth, _ = target.check(label[cut:], aligned)
    assert target.losses(truth, aligned)[label[cut:] == 1].min() > 10
    both = model.target.joined(Multiclass(classes=("naïve",)))
    assert both.classes == target.classes


def test_a_family_refuses_a_task_that_is_not_its_own():
    frame, mean, _ = world()
    number, yes = Labelled(frame, mean, Regression()), Labelled(frame, mean > 0, BINARY)
    for name, rows in (("logistic_regression", number), ("linear_regression", yes)):
        with pytest.raises(
            ValueError, match=rf"{name} is for .* tasks, not for {rows.target.task}"
        ):
            family(name).fit(rows, None, COLUMNS, {}, FitOptions())


def test_a_label_that_never_varies_is_refused():
    frame, _, _ = world()
    with pytest.raises(ValueError, match="all 2400 training labels are 3"):
        family("xgboost").fit(
            Labelled(frame, np.full(ROWS, 3.0), Regression()), None, COLUMNS, {}, FitOptions()
        )


def test_a_count_below_zero_names_the_other_metrics():
    frame, mean, _ = world()
    with pytest.raises(ValueError, match="squared_error or absolute_error"):
        Labelled(frame, mean, Regression("poisson_deviance"))
