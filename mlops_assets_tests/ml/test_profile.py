"""A profile says what is in a column, and which column gives the label away."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.profile import Limits, profile

ROWS = 4_000


@pytest.fixture(scope="module")
def frame():
    draw = np.random.default_rng(3)
    late = draw.random(ROWS) < 0.3
    signal = late + draw.normal(0, 2, ROWS)
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "late": late.astype(int),
            "delay": np.where(late, 40.0, 2.0) + draw.normal(0, 5, ROWS),
            "signal": signal,
            "noise": draw.normal(0, 1, ROWS),
            "carrier": draw.choice(["AA", "B6", "UA"], ROWS, p=[0.2, 0.5, 0.3]),
            "outcome": np.where(late, "was late", "was not"),
            "id": [f"row {i}" for i in range(ROWS)],
            "same": ["x"] * ROWS,
            "none": pl.Series([None] * ROWS, dtype=pl.Float64),
            "at": [begin + timedelta(minutes=i) for i in range(ROWS)],
            "tags": [["a"]] * ROWS,
        }
    ).with_columns(pl.when(pl.col("noise") > 1).then(None).otherwise("noise").alias("noise"))


def of(found, column):
    return found.row(by_predicate=pl.col("column") == column, named=True)


def test_a_column_is_described(frame):
    found = profile(frame)
    assert found["column"].to_list() == frame.columns
    delay = of(found, "delay")
    assert delay["mean"] == pytest.approx(frame["delay"].mean())
    assert float(delay["lowest"]) == pytest.approx(frame["delay"].min(), rel=1e-5)
    assert len(delay["shape"]) == 12
    carrier = of(found, "carrier")
    assert (carrier["distinct"], carrier["usual"][:2]) == (3, "B6")
    assert of(found, "noise")["missing"] == pytest.approx(frame["noise"].null_count() / ROWS)
    assert of(found, "at")["lowest"] == "2013-01-01 00:00"
    assert of(found, "at")["type"] == "Datetime UTC"
    assert found["alone"].null_count() == found.height


def test_what_a_person_should_look_at_is_noted(frame):
    found = profile(frame)
    assert "id, not a feature" in of(found, "id")["note"]
    assert "one value only" in of(found, "same")["note"]
    assert "no value at all" in of(found, "none")["note"]
    assert of(found, "carrier")["note"] == ""


def test_a_column_that_knows_the_label_is_a_suspect(frame):
    found = profile(frame, "late")
    assert "leak suspect" in of(found, "delay")["note"]
    assert "leak suspect" in of(found, "outcome")["note"]
    assert 0.6 < of(found, "signal")["alone"] < 0.75
    assert of(found, "noise")["alone"] == pytest.approx(0.5, abs=0.05)
    assert of(found, "id")["alone"] == pytest.approx(0.5, abs=0.05)
    assert of(found, "late")["note"] == "the label"
    assert "leak suspect" in of(profile(frame, "late", Limits(auc=0.6)), "signal")["note"]


def test_a_label_may_be_a_number_or_classes(frame):
    number = profile(frame, "delay")
    assert "leak suspect" in of(number, "late")["note"]
    assert of(number, "noise")["alone"] == pytest.approx(0, abs=0.02)
    classes = profile(frame.with_columns(copy=pl.col("carrier")), "carrier")
    assert "AUC" in of(classes, "copy")["note"]


@pytest.mark.parametrize(
    ("label", "says"),
    [("lateness", "no column 'lateness'"), ("same", "1 values"), ("id", "4000 values")],
)
def test_a_label_that_cannot_be_one_is_refused(frame, label, says):
    with pytest.raises(ValueError, match=says):
        profile(frame, label)


def test_an_empty_table_is_refused(frame):
    with pytest.raises(ValueError, match="no rows"):
        profile(frame.clear())


@pytest.mark.parametrize("name", ["count", "value", "label", "bin", "select"])
def test_a_column_may_have_any_name(name):
    frame = pl.DataFrame({name: ["a", "a", "b"], "y": [0, 1, 1]})
    assert profile(frame, "y").row(0, named=True)["usual"] == "a (67%)"
