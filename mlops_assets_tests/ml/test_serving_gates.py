"""Whether a served model says what the batch path says: a difference is seen and named."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.serving_gates import TOLERANCE, answers_as_batch, online_as_offline

COLUMNS = FeatureColumns(("wind", "late"), ("carrier",))
OFFLINE = pl.DataFrame(
    {"wind": [1.5, None, float("nan")], "late": [0, 1, 2], "carrier": ["UA", None, "B6"]}
)
USED = OFFLINE.with_columns(
    pl.col("wind").fill_nan(None),
    pl.col("late").cast(pl.Float64),
    pl.Series("prediction_id", ["a", "b", "c"]),
)


def test_the_same_cells_pass_whatever_stands_for_missing():
    outcome = online_as_offline(USED, OFFLINE, COLUMNS)
    assert (outcome.passed, outcome.value, outcome.rows) == (True, 0, 3)
    assert outcome.detail == "0 of 9 cells differ from the offline path"


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        (
            "wind",
            [1.5, None, 2.0],
            "'wind' in 1 of 3 rows: the server used 2.0, offline it is None",
        ),
        ("wind", [None] * 3, "'wind' in 1 of 3 rows: the server used None, offline it is 1.5"),
        ("late", [0.0, 1.0, 2.1], "'late' in 1 of 3 rows: the server used 2.1, offline it is 2.0"),
        ("carrier", ["UA", "UA", "B6"], "the server used UA, offline it is None"),
    ],
)
def test_one_cell_that_differs_fails_and_is_shown(name, values, says):
    dtype = USED.schema[name]
    outcome = online_as_offline(
        USED.with_columns(pl.Series(name, values, dtype=dtype)), OFFLINE, COLUMNS
    )
    assert (outcome.passed, outcome.value, outcome.margin) == (False, 1, -1)
    assert says in outcome.detail


def test_rows_that_the_log_lacks_fail():
    outcome = online_as_offline(USED.head(2), OFFLINE, COLUMNS)
    assert not outcome.passed
    assert "2 rows are in the log of 3" in outcome.detail
    assert not online_as_offline(USED.head(0), OFFLINE.head(0), COLUMNS).passed


@pytest.mark.parametrize(
    ("answers", "passed"),
    [
        ([0.25, 0.5], True),
        ([0.25, 0.5 + TOLERANCE / 2], True),
        ([0.25, 0.5 + 2 * TOLERANCE], False),
        ([0.25, float("nan")], False),
        ([0.25], False),
        ([], False),
    ],
)
def test_answers_are_those_of_the_batch_path(answers, passed):
    outcome = answers_as_batch(np.array(answers), np.array([0.25, 0.5]), 3.0)
    assert outcome.passed == passed
    assert "2 answers differ from the batch path by at most" in outcome.detail
