"""Each signal fires where it should and nowhere else; m of n days; rows that cannot be read."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mlops_assets.ml import signals
from mlops_assets.ml.signals import Watch

FIRST, DAYS = date(2013, 5, 1), 40
LAST = FIRST + timedelta(days=DAYS - 1)
WATCH = Watch(LAST, LAST, fired=3, of=5)
WEIGHTS = {"wind": 0.6, "hour": 0.3, "dest": 0.1}


def performance(**figures: object) -> pl.DataFrame:
    """Daily rows of a model that is right in the mean, `figures` over them."""
    days = pl.DataFrame({"date": [FIRST + timedelta(days=n) for n in range(DAYS)]})
    wave = pl.col("date").dt.weekday() / 100
    usual = {
        "labelled": pl.lit(900), "base_rate": 0.2 + wave, "mean_prediction": 0.2 + wave,
        "log_loss": 0.4 + wave,
    }  # fmt: skip
    return days.with_columns(**(usual | figures))


def drifted(**columns: float) -> pl.DataFrame:
    """Drift rows of all days: each column with its value, drifted from .1 on."""
    rows = [
        {
            "date": FIRST + timedelta(days=n),
            "column": column,
            "kind": "prediction" if column == "probability" else "numeric",
            "value": value,
            "drifted": value >= 0.1,
        }
        for n in range(DAYS)
        for column, value in columns.items()
    ]
    return pl.DataFrame(rows)


def bias(rows: pl.DataFrame, watch: Watch = WATCH) -> signals.Signal:
    return signals.calibration_bias(rows, watch, window=14, limit=0.03)


def loss(rows: pl.DataFrame, evaluated: float | None = 0.5) -> signals.Signal:
    return signals.loss(rows, WATCH, window=14, evaluated=evaluated, limit=0.0)


def rate(rows: pl.DataFrame, trained: float) -> signals.Signal:
    return signals.label_rate(
        rows, WATCH, window=14, level=signals.Level("base_rate", trained), limit=0.05
    )


@pytest.mark.parametrize("off", [0.04, -0.04])
def test_calibration_bias(off):
    assert not bias(performance()).fired
    found = bias(performance(mean_prediction=pl.col("date").dt.weekday() / 100 + 0.2 + off))
    assert found.fired
    assert found.value == pytest.approx(off)
    assert not bias(performance(mean_prediction=0.02 + pl.col("date").dt.weekday() / 100)
                    .with_columns(base_rate=pl.col("mean_prediction") - 0.02)).fired  # fmt: skip


def test_a_bias_that_is_chance_does_not_fire():
    """Days far off either way, whose mean happens to be off by the limit."""
    odd = pl.col("date").dt.ordinal_day() % 2 == 0
    rows = performance(mean_prediction=pl.when(odd).then(0.9).otherwise(0.01), base_rate=0.4)
    found = bias(rows)
    assert abs(found.value) > 0.03
    assert not found.fired


def test_loss_against_the_interval_of_its_evaluation():
    assert not loss(performance()).fired
    assert loss(performance(log_loss=0.51)).fired
    unknown = loss(performance(log_loss=0.9), evaluated=None)
    assert (unknown.fired, unknown.value) == (False, None)
    assert "no evaluation" in unknown.detail


def test_label_rate():
    assert not rate(performance(), trained=0.22).fired
    assert rate(performance(), trained=0.35).fired
    assert rate(performance(), trained=0.10).fired


def test_the_level_of_numbers_is_judged_by_its_own_size():
    rows = performance().with_columns(
        mean_label=pl.col("base_rate") * -1000, mean_prediction=pl.col("base_rate") * -1040
    )
    level = signals.Level("mean_label", -200.0, 200.0)
    found = signals.calibration_bias(rows, WATCH, window=14, level=level, limit=0.03)
    assert (found.fired, found.value) == (True, pytest.approx(-0.04, rel=0.3))
    moved = signals.label_rate(rows, WATCH, window=14, level=level, limit=0.05)
    assert abs(moved.value) < 0.3
    classes = signals.Level("accuracy", None)
    unjudged = signals.label_rate(rows, WATCH, window=14, level=classes, limit=0.05)
    assert (unjudged.fired, unjudged.value) == (False, None)


def test_prediction_drift():
    assert not signals.prediction_drift(drifted(probability=0.19, wind=9.0), WATCH, limit=0.2).fired
    assert signals.prediction_drift(drifted(probability=0.21, wind=0.0), WATCH, limit=0.2).fired


def test_covariate_drift_counts_what_the_model_leans_on():
    rare = signals.covariate_drift(drifted(wind=0, hour=9, dest=9), WEIGHTS, WATCH, limit=0.5)
    assert (rare.fired, rare.value) == (False, pytest.approx(0.4))
    much = signals.covariate_drift(drifted(wind=9, hour=0, dest=0), WEIGHTS, WATCH, limit=0.5)
    assert (much.fired, much.value) == (True, pytest.approx(0.6))
    unknown = signals.covariate_drift(drifted(wind=9), {}, WATCH, limit=0.5)
    assert (unknown.fired, unknown.value) == (False, None)


def test_growth_age_code_and_a_person():
    assert signals.growth(40, 100, limit=0.33).fired
    assert not signals.growth(30, 100, limit=0.33).fired
    assert not signals.growth(30, 0, limit=0.33).fired
    assert signals.age(date(2013, 1, 1), date(2013, 4, 3), limit=92).fired
    assert not signals.age(date(2013, 1, 1), date(2013, 4, 2), limit=92).fired
    assert signals.code_change(["polars 2.1.0 → 2.2.0"]).fired
    assert not signals.code_change([]).fired
    assert "Ada: new routes" in signals.person("Ada", "new routes").detail


def on(*back: int) -> pl.DataFrame:
    """Predictions that drifted only so many days before the last."""
    days = [LAST - timedelta(days=n) for n in back]
    value = pl.when(pl.col("date").is_in(days)).then(9.0).otherwise(0.0)
    return drifted(probability=0.0).with_columns(value=value)


@pytest.mark.parametrize(
    ("back", "fired"), [((0, 2, 4), True), ((0, 2), False), ((0, 2, 5), False), ((1, 2, 3), True)]
)
def test_a_daily_signal_counts_on_m_of_n_days(back, fired):
    assert signals.prediction_drift(on(*back), WATCH, limit=1).fired is fired


def test_a_watch_that_slept_misses_no_day_and_looks_at_none_before():
    rows = on(20, 21, 22)
    slept = Watch(LAST - timedelta(days=25), LAST, fired=3, of=5)
    assert signals.prediction_drift(rows, slept, limit=1).fired
    later = Watch(LAST - timedelta(days=17), LAST, fired=3, of=5)
    assert not signals.prediction_drift(rows, later, limit=1).fired


def test_m_of_n_that_cannot_be():
    with pytest.raises(ValueError, match="6 of 5 days"):
        Watch(LAST, LAST, fired=6, of=5)


def test_no_rows_are_not_judged():
    for found in (
        bias(performance().clear()),
        signals.prediction_drift(drifted(probability=1.0).clear(), WATCH, limit=0.2),
        bias(performance().head(3)),
    ):
        assert (found.fired, found.value) == (False, None)
        assert "not judged" in found.detail


@pytest.mark.parametrize(
    "broken",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": -3.0},
        {"drifted": None},
        {"column": "no such column"},
    ],
)
def test_a_corrupt_drift_row_is_left_out_and_named(broken):
    fine = drifted(wind=9.0, hour=0.0, dest=0.0)
    whole = signals.covariate_drift(fine, WEIGHTS, WATCH, limit=0.5)
    row = fine.filter(date=LAST, column="wind").with_columns(
        **{k: pl.lit(v, dtype=fine.schema[k]) for k, v in broken.items()}
    )
    rows = pl.concat([fine.filter(~((pl.col("date") == LAST) & (pl.col("column") == "wind"))), row])
    found = signals.covariate_drift(rows, WEIGHTS, WATCH, limit=0.5)
    assert whole.fired
    assert found.fired
    assert f"1 rows cannot be read and are left out, of {LAST}" in found.detail
    assert "cannot be read" not in whole.detail


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1, None])
def test_a_corrupt_performance_row_is_left_out_and_named(value):
    other = pl.col("date") == LAST
    shifted = performance(mean_prediction=0.3 + pl.col("date").dt.weekday() / 100)
    rows = shifted.with_columns(
        mean_prediction=pl.when(other).then(value).otherwise("mean_prediction")
    )
    found = bias(rows)
    assert found.fired
    assert f"of {LAST}" in found.detail


def test_a_day_that_is_there_twice_is_not_believed():
    rows = pl.concat([performance(), performance(mean_prediction=0.9).tail(1)])
    assert "2 rows cannot be read" in bias(rows).detail
