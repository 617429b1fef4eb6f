"""metrics.py against scikit-learn, and on what it must refuse."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as library
from sklearn.calibration import calibration_curve

from mlops_assets.ml.metrics import (
    binary_metrics,
    calibration_table,
    choose_threshold,
    log_losses,
    pr_curve_points,
    roc_curve_points,
)

ROWS = 3_000


@pytest.fixture
def scored():
    rng = np.random.default_rng(1)
    probability = rng.beta(1, 3, ROWS).round(2)
    return (rng.random(ROWS) < probability).astype(int), probability


def test_figures_are_scikit_learns(scored):
    label, probability = scored
    decided = probability >= 0.4
    found = binary_metrics(label, probability, 0.4)
    assert found.rows == ROWS
    assert found.base_rate == pytest.approx(label.mean())
    assert found.mean_prediction == pytest.approx(probability.mean())
    assert found.auc == pytest.approx(library.roc_auc_score(label, probability))
    assert found.pr_auc == pytest.approx(library.average_precision_score(label, probability))
    clipped = np.clip(probability, 1e-15, 1 - 1e-15)
    assert found.log_loss == pytest.approx(library.log_loss(label, clipped))
    assert found.brier == pytest.approx(library.brier_score_loss(label, probability))
    assert found.accuracy == pytest.approx(library.accuracy_score(label, decided))
    assert found.precision == pytest.approx(library.precision_score(label, decided))
    assert found.recall == pytest.approx(library.recall_score(label, decided))


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_leaves_the_areas_undefined(only):
    found = binary_metrics([only] * 4, [0.1, 0.2, 0.3, 0.9], 0.5)
    assert (found.auc, found.pr_auc) == (None, None)
    assert found.base_rate == only
    assert found.recall == (0.25 if only else None)


def test_precision_is_undefined_where_nothing_is_decided_as_one():
    assert binary_metrics([0, 1], [0.1, 0.2], 0.5).precision is None


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [
        ([], [], "0 rows to judge"),
        ([0, 1], [0.5], "one length"),
        ([0, 1], [0.5, float("nan")], "1 of 2 rows are missing"),
        ([0, 1], [0.5, float("inf")], "1 of 2 rows are missing or infinite"),
        ([0, 1], [0.5, None], "1 of 2 rows are missing"),
        ([0, 1], [0.5, 1.2], "outside"),
        ([0, 1], [-0.1, 1.0], "outside"),
        ([0, 2], [0.5, 0.5], "neither 0 nor 1"),
        (pl.Series([True, None]), [0.5, 0.5], "leave unlabelled rows out"),
        ([[0, 1]], [[0.5, 0.5]], "one length"),
    ],
)
def test_what_cannot_be_judged_is_refused(label, probability, message):
    with pytest.raises(ValueError, match=message):
        binary_metrics(label, probability, 0.5)


def test_polars_columns_are_taken():
    assert binary_metrics(pl.Series([True, False]), pl.Series([0.9, 0.1]), 0.5).auc == 1.0


def test_log_loss_of_a_certain_mistake_is_finite():
    assert log_losses([1, 0], [0.0, 0.0]) == pytest.approx([-np.log(1e-15), 0.0], abs=1e-12)


def test_calibration_table_is_scikit_learns_with_counts(scored):
    label, probability = scored
    table = calibration_table(label, probability)
    observed, predicted = calibration_curve(label, probability, n_bins=10, strategy="quantile")
    assert table["observed_rate"].to_numpy() == pytest.approx(observed)
    assert table["mean_prediction"].to_numpy() == pytest.approx(predicted)
    assert table["rows"].sum() == ROWS
    assert table["bin"].to_list() == list(range(10))
    assert (table["highest"][:-1] < table["lowest"][1:]).all()


def test_a_constant_score_has_one_bin_and_its_error():
    table = calibration_table([0, 0, 0, 1], [0.5] * 4)
    assert table.height == 1
    assert binary_metrics([0, 0, 0, 1], [0.5] * 4, 0.5).calibration_error == pytest.approx(0.25)


def test_curves_are_thin_and_keep_their_area():
    rng = np.random.default_rng(2)
    probability = rng.random(20_000)
    label = rng.random(20_000) < probability
    roc, pr = roc_curve_points(label, probability), pr_curve_points(label, probability)
    assert max(roc.height, pr.height) <= 200
    assert roc.row(0) == (0.0, 0.0, None)
    assert roc.row(-1)[:2] == (1.0, 1.0)
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(library.roc_auc_score(label, probability), abs=1e-3)
    assert pr.row(0) == (0.0, 1.0, None)
    area = np.trapezoid(pr["precision"], pr["recall"])
    assert area == pytest.approx(library.average_precision_score(label, probability), abs=5e-3)
    found, precision, threshold = pr.row(100)
    decided = probability >= threshold
    assert found == pytest.approx(library.recall_score(label, decided))
    assert precision == pytest.approx(library.precision_score(label, decided))


def test_a_curve_needs_both_classes():
    with pytest.raises(ValueError, match="need both classes"):
        roc_curve_points([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("aim", ["f1", "accuracy", "youden"])
def test_the_threshold_is_the_best_of_all(scored, aim):
    label, probability = scored
    worth = {
        "f1": lambda decided: library.f1_score(label, decided),
        "accuracy": lambda decided: library.accuracy_score(label, decided),
        "youden": lambda decided: library.balanced_accuracy_score(label, decided),
    }[aim]
    best = max(worth(probability >= threshold) for threshold in np.unique(probability))
    assert worth(probability >= choose_threshold(label, probability, aim)) == pytest.approx(best)


def test_accuracy_may_decide_for_nothing():
    assert choose_threshold([1, 0, 0], [0.1, 0.2, 0.3], "accuracy") > 0.3
