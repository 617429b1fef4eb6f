"""brute_force.py agrees with the point-in-time join, and sees what a join from the future does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.brute_force import features_known
from mlops_assets.ml.point_in_time import Latest, Trailing, look_up
from mlops_assets.ml.row_gates import differing

HOUR = timedelta(hours=1)
WINDOWS = {"6h": 6 * HOUR, "1d": 24 * HOUR}
TRAILING = Trailing(("carrier",), "c", {"late": ("late", "all"), "sum": ("late", None)}, WINDOWS)
LATEST = Latest(("carrier",), {"wind": "speed"}, ttl=3 * HOUR)
RANDOM = np.random.default_rng(3)


def moments(rows: int) -> pl.Series:
    minutes = RANDOM.integers(0, 48 * 60, rows)
    start = datetime(2013, 3, 1, tzinfo=UTC)
    return pl.Series([start + timedelta(minutes=int(m)) for m in minutes])


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rows = 400
    late = RANDOM.integers(0, 3, rows)
    table = pl.DataFrame(
        {
            "carrier": RANDOM.choice(["UA", "B6"], rows),
            "available_at": moments(rows),
            "late": late,
            "all": late + RANDOM.integers(0, 2, rows),
            "speed": RANDOM.normal(size=rows),
        }
    )
    rows_of_a_key = table.unique(["carrier", "available_at"], maintain_order=True)
    return rows_of_a_key.with_columns((pl.col("available_at") - HOUR).alias("event_time"))


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    carriers = RANDOM.choice(["UA", "B6", "HA"], 80)
    return pl.DataFrame({"carrier": carriers, "prediction_time": moments(80)})


@pytest.mark.parametrize("definition", [TRAILING, LATEST], ids=["trailing", "latest"])
def test_it_agrees_with_the_join_and_not_with_one_from_the_future(table, rows, definition):
    expected = features_known(rows, table, definition)
    assert expected.columns == list(definition.features)
    assert 0 < expected.null_count().row(0)[0] < rows.height
    joined = look_up(rows, table.lazy(), definition)
    assert differing(joined.select(expected.columns), expected) == {}
    early = table.lazy().with_columns(pl.col("available_at") - 2 * HOUR)
    wrong = look_up(rows, early, definition)
    assert differing(wrong.select(expected.columns), expected).keys() == set(definition.features)
