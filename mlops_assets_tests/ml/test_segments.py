"""Figures by segment."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mlops_assets.ml.segments import segment_metrics


def segmented():
    rng = np.random.default_rng(5)
    day = [date(2013, 8, 1) + timedelta(days=int(d)) for d in rng.integers(0, 20, 600)]
    return pl.DataFrame(
        {
            "label": rng.random(600) < 0.2,
            "probability": rng.random(600),
            "day": day,
            "carrier": rng.choice(["AA", "UA", "WN"], 600),
        }
    )


def test_segments_have_their_figures_and_intervals():
    frame = segmented()
    found = segment_metrics(frame, frame["probability"].to_numpy(), segments=["carrier"])
    assert found["value"].to_list() == ["AA", "UA", "WN"]
    assert found["rows"].sum() == 600
    part = frame.filter(carrier="UA")
    row = found.row(1, named=True)
    assert row["auc"] == pytest.approx(roc_auc_score(part["label"], part["probability"]))
    assert row["auc_low"] < row["auc"] < row["auc_high"]
    assert row["brier_low"] < row["brier"] < row["brier_high"]


def test_small_segments_have_null_for_what_is_undefined():
    frame = (
        segmented()
        .head(3)
        .with_columns(
            label=pl.Series([1, 0, 1]),
            day=pl.Series([1, 1, 2]),
            carrier=pl.Series(["AA", "AA", None]),
        )
    )
    found = segment_metrics(frame, frame["probability"].to_numpy(), segments=["carrier"])
    one_day, one_row = found.iter_rows(named=True)
    assert one_day["auc"] in (0.0, 1.0)
    assert one_day["auc_low"] is one_day["log_loss_low"] is None
    assert one_row["value"] == "(missing)"
    assert one_row["auc"] is None
    assert one_row["log_loss"] > 0


def test_segments_of_a_missing_column_are_refused():
    with pytest.raises(ValueError, match=r"columns \['origin'\] are missing"):
        segment_metrics(segmented(), np.zeros(600), segments=["origin"])
