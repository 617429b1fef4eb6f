"""Skew: equal cells are equal, and each kind of difference is named with an example."""

import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.skew import skew

COLUMNS = FeatureColumns(("speed", "count"), ("carrier",))
USED = pl.DataFrame(
    {
        "prediction_id": ["a", "b", "c"],
        "speed": [1.5, None, 14.766666666666667],
        "count": [3.0, 0.0, 7.0],
        "carrier": ["B6", None, "UA"],
    }
)
OFFLINE = pl.DataFrame(
    {
        "speed": [1.5, float("nan"), 14.766666666666666],
        "count": [3, 0, 7],
        "carrier": ["B6", None, "UA"],
    }
)


def test_what_is_equal_but_for_types_nan_and_rounding_is_no_skew():
    assert skew(USED, OFFLINE, COLUMNS).is_empty()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"speed": pl.lit(1.5001)}, ("speed", 3, 3, 13.266566666666667, "a", "1.5", "1.5001")),
        ({"count": pl.Series([3, 0, 8])}, ("count", 3, 1, 1.0, "c", "7.0", "8.0")),
        ({"count": pl.Series([3, None, 7])}, ("count", 3, 1, 0.0, "b", "0.0", None)),
        ({"carrier": pl.Series(["B6", "", "UA"])}, ("carrier", 3, 1, None, "b", None, "")),
    ],
)
def test_a_difference_is_counted_and_shown(changed, expected):
    found = skew(USED, OFFLINE.with_columns(**changed), COLUMNS)
    assert found.rows() == [expected]


def test_a_feature_that_the_offline_path_lacks_differs_in_every_row():
    found = skew(USED, OFFLINE.drop("carrier"), COLUMNS)
    assert found.select("feature", "differing").rows() == [("carrier", 3)]


def test_frames_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="3 rows were used, the offline path gives 2"):
        skew(USED, OFFLINE.head(2), COLUMNS)
