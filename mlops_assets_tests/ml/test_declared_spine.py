"""The spine and the label that columns alone say."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from mlops_assets.ml.declared_spine import Clock, label

SIX_HOURS = timedelta(hours=6)


def test_the_day_is_local_and_the_question_earlier():
    moment = datetime(2024, 3, 2, 3, 30, tzinfo=UTC)
    rows = pl.DataFrame({"at": [moment]})
    found = rows.with_columns(Clock("at", SIX_HOURS, "America/New_York").expressions())
    assert found["date"].item() == date(2024, 3, 1)
    assert found["prediction_time"].item() == moment - SIX_HOURS


def test_without_a_clock_a_row_has_one_day_for_ever():
    clock = Clock("", timedelta(0), "America/New_York", ("who",), date(2000, 1, 1), 50)
    rows = pl.DataFrame({"who": [f"a{n}" for n in range(5_000)] + [None]})
    found = rows.with_columns(clock.expressions())
    counts = found["date"].value_counts()["count"]
    assert (found["date"].min(), found["date"].max()) == (date(2000, 1, 1), date(2000, 2, 19))
    assert counts.min() > 60
    assert found["prediction_time"][0].hour == 5  # Midnight in New York.
    alone = rows[3:4].lazy().with_columns(clock.expressions()).collect()
    assert alone.row(0) == found.row(3)


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["yes", None, "no"], "yes", [1, 0]),
        ([True, None, False], None, [1, 0]),
        ([2.5, None, -1.0], None, [2.5, -1.0]),
        (["naïve", None, "b c"], None, ["naïve", "b c"]),
    ],
)
def test_the_label_is_a_column(values, positive, expected):
    rows = pl.LazyFrame({"id": [1, 2, 3], "select": values})
    found = label(rows, ["id"], "select", positive).collect()
    assert found.columns == ["id", "label"]
    assert found["id"].to_list() == [1, 3]
    assert found["label"].to_list() == expected
