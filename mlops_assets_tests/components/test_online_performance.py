"""Served answers with their labels: figures by version, and versions paired on equal requests."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from mlops_assets.components.ml_product.online_performance import arms, daily

DAYS, REQUESTS = 8, 60


def answers(sharper: float) -> pl.DataFrame:
    """Champion version 3, and version 2 in its shadow whose log-odds are so many times as sure."""
    random = np.random.default_rng(7)
    truth = random.normal(size=DAYS * REQUESTS)
    label = (random.random(truth.size) < 1 / (1 + np.exp(-truth))).astype(int)
    ids = [f"q:{n:04}" for n in range(truth.size)]
    days = [date(2013, 8, 1 + n // REQUESTS) for n in range(truth.size)]
    common = {"prediction_id": ids, "date": days, "threshold": 0.5, "label": label}
    champion = {"role": "answer", "arm": "champion", "model_version": 3}
    shadow = {"role": "shadow", "arm": "predecessor", "model_version": 2}
    return pl.concat(
        pl.DataFrame(common | arm | {"probability": 1 / (1 + np.exp(-truth * times))})
        for arm, times in ((champion, 1.0), (shadow, sharper))
    )


def test_a_version_that_is_too_sure_loses_surely_on_the_same_requests():
    row = arms(answers(sharper=4.0)).row(0, named=True)
    assert (row["champion_version"], row["arm"], row["arm_version"]) == (3, "predecessor", 2)
    assert (row["requests"], row["labelled"], row["days"]) == (480, 480, DAYS)
    assert row["gain"] == pytest.approx(row["loss_champion"] - row["loss_arm"])
    assert row["low"] < row["gain"] < row["high"] < 0


def test_the_same_model_gains_nothing():
    row = arms(answers(sharper=1.0)).row(0, named=True)
    assert (row["gain"], row["low"], row["high"]) == (0, 0, 0)


def test_one_day_has_no_interval_and_no_label_no_figure():
    rows = answers(sharper=2.0).with_columns(
        pl.when(pl.col("date") == date(2013, 8, 1)).then("label").alias("label")
    )
    row = arms(rows).row(0, named=True)
    assert (row["requests"], row["labelled"], row["days"]) == (480, REQUESTS, 1)
    assert row["gain"] is not None
    assert row["low"] is None
    nothing = arms(rows.with_columns(pl.lit(None, pl.Int64).alias("label"))).row(0, named=True)
    assert (nothing["labelled"], nothing["gain"]) == (0, None)


def test_each_day_version_and_role_has_a_row():
    figures = daily(answers(sharper=4.0))
    assert figures.height == 2 * DAYS
    champion = figures.filter(arm="champion")
    assert champion["rows"].to_list() == [REQUESTS] * DAYS
    shadow = figures.filter(arm="predecessor")
    assert (champion["log_loss"] < shadow["log_loss"]).all()
    assert champion["auc"].to_list() == pytest.approx(shadow["auc"].to_list())
