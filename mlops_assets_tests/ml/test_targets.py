"""Targets: by what models are compared over months, and predictions of models of other classes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.targets import BINARY, Multiclass, Regression, Target

CLASSES = ("bus", "car", "tram")
ROWS = 40
DAY = np.arange(ROWS) % 8
COUNTS = Regression("poisson_deviance")


def better_and_worse(target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and scores of a model that nearly knows them and of one that does less."""
    number = np.arange(ROWS) % 3
    if target is BINARY:
        label = (number > 0).astype(float)
        return label, np.where(label == 1, 0.9, 0.1), np.where(number == 1, 0.6, 0.4)
    if isinstance(target, Regression):
        return number.astype(float), number + 0.1, number + 0.5
    sure, unsure = np.eye(3)[number] * 0.7 + 0.1, np.full((ROWS, 3), [0.2, 0.5, 0.3])
    return number.astype(float), sure, unsure


@pytest.mark.parametrize("target", [BINARY, Multiclass(classes=CLASSES), COUNTS], ids=str)
def test_a_better_model_gains_in_each_figure_that_models_are_compared_by(target):
    label, new, old = better_and_worse(target)
    assert target.compared[0] == target.metric
    assert set(target.compared) <= set(target.bounded)
    for figure in target.compared:
        gain = target.gain_in(figure, label, new, old, DAY)
        assert 0 < gain.low <= gain.value <= gain.high
    gain = target.gain_in(target.metric, label, new, old, DAY)
    assert gain == target.gain(label, new, old, DAY)
    with pytest.raises(ValueError, match="brierr"):
        target.gain_in("brierr", label, new, old, DAY)


def test_a_gain_is_a_share_where_the_loss_has_the_label_s_unit():
    label, new, old = better_and_worse(COUNTS)
    gain = COUNTS.gain_in("absolute_error", label, new, old, DAY)
    assert gain.value == pytest.approx(1 - 0.1 / 0.5)
    assert {COUNTS.gain_unit(figure) for figure in COUNTS.compared} == {"of the rival's loss"}
    assert [BINARY.gain_unit(figure) for figure in BINARY.compared] == ["nats", ""]


def test_accuracy_is_gained_row_by_row():
    target = Multiclass(classes=CLASSES)
    label, new, old = better_and_worse(target)
    gain = target.gain_in("accuracy", label, new, old, DAY)
    assert gain.value == pytest.approx(1 - (label == 1).mean())


def test_one_figure_is_enough_where_the_metric_is_plain():
    assert Regression("absolute_error").compared == ("absolute_error",)


def test_predictions_of_models_of_other_classes_stand_in_one_array():
    few, all_of_them = Multiclass(classes=("bus", "tram")), Multiclass(classes=CLASSES)
    said = pl.concat([
        pl.DataFrame(few.columns(np.array([[0.3, 0.7]]), None)),
        pl.DataFrame(all_of_them.columns(np.array([[0.2, 0.5, 0.3]]), None)),
    ])  # fmt: skip
    assert said["probabilities"].dtype == pl.List(pl.Float64)
    assert all_of_them.scores_of(said).tolist() == [[0.3, 0.0, 0.7], [0.2, 0.5, 0.3]]
    with pytest.raises(ValueError, match="predictions of 'car', which is none of"):
        few.scores_of(said)
    assert few.scores_of(said.head(0)).shape == (0, 2)


def test_a_class_that_a_target_has_not_is_not_known():
    known = Multiclass(classes=("bus", "tram")).knows(pl.Series(["tram", "car"]))
    assert known.tolist() == [True, False]
    assert COUNTS.knows(pl.Series([0.0, 3.0])).all()
