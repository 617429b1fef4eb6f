"""pictures.py: each picture is a PNG of modest size, and draws what is odd as well."""

import io
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from mlops_assets.ml.evaluation_pictures import evaluation_pictures
from mlops_assets.ml.pictures import (
    Curves,
    by_month_picture,
    drift_picture,
    evaluation_picture,
    line_picture,
)
from mlops_assets.ml.segments import MONTH, segment_metrics
from mlops_assets.ml.targets import Multiclass, Regression

MOST_BYTES = 60_000
RNG = np.random.default_rng(8)
CHANCE = RNG.beta(1, 3, 4_000)
LABEL = RNG.random(4_000) < CHANCE
DAYS = [date(2013, 8, 1) + timedelta(days=i) for i in range(122)]


def assert_picture(picture):
    assert len(picture) < MOST_BYTES
    image = Image.open(io.BytesIO(picture))
    assert image.format == "PNG"
    assert len(image.getcolors()) > 4


def test_the_evaluation_shows_three_models():
    noisy = np.clip(CHANCE + RNG.normal(0, 0.2, 4_000), 0, 1)
    models = {"candidate": CHANCE, "champion": noisy, "baseline": np.full(4_000, 0.25)}
    curves = {name: Curves.of(LABEL, chance) for name, chance in models.items()}
    assert_picture(evaluation_picture(curves, title="Aug to Nov"))


def test_curves_need_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        Curves.of(np.zeros(4_000), CHANCE)


@pytest.mark.parametrize("target", [Multiclass(classes=("a", "ß ?", "c")), Regression()])
def test_each_task_has_its_pictures(target):
    rows = len(LABEL)
    if target.task == "regression":
        label, scores = pl.Series(CHANCE * 7), CHANCE * 6 + 1
    else:
        label = pl.Series(RNG.choice(target.classes, rows))
        scores = RNG.dirichlet((1, 1, 1), rows)
    day = np.arange(rows) % 20
    frame = pl.DataFrame({"label": label, "day": day, MONTH: day // 10})
    segments = segment_metrics(frame, scores, target, [MONTH])
    found = evaluation_pictures(target, label, {"candidate": scores, "baseline": scores}, segments)
    assert len(found) == 2
    for picture in found.values():
        assert_picture(picture)


def test_months_show_their_intervals_or_their_want():
    month = np.array(["08", "09"])[np.arange(4_000) % 2]
    day = np.arange(4_000) % 20
    frame = pl.DataFrame({"label": LABEL, "probability": CHANCE, "day": day, "month": month})
    segments = segment_metrics(frame, CHANCE, segments=["month"])
    assert_picture(by_month_picture(segments))
    unbounded = segments.with_columns(auc_low=pl.lit(None), auc_high=pl.lit(None))
    assert_picture(by_month_picture(unbounded))
    with pytest.raises(ValueError, match="no row of segment 'month'"):
        by_month_picture(segments.clear())


def drift(columns):
    values = np.abs(RNG.normal(0, 0.1, (columns, len(DAYS)))).cumsum(axis=1)
    return pl.DataFrame(
        {
            "date": DAYS * columns,
            "column": np.repeat([f"origin_carrier_rate_{i}" for i in range(columns)], len(DAYS)),
            "value": pl.Series(values.ravel()).set(pl.Series(values.ravel() > 8), None),
            "threshold": 0.1,
        }
    )


@pytest.mark.parametrize("columns", [1, 48, 100])
def test_drift_is_a_map_of_columns_and_days(columns):
    assert_picture(drift_picture(drift(columns)))


def test_drift_without_any_value_is_grey():
    rows = drift(3).head(2).with_columns(value=pl.lit(None, pl.Float64))
    assert_picture(drift_picture(rows))


def test_lines_may_break_and_have_limits():
    values = pl.Series(RNG.normal(0.4, 0.02, len(DAYS))).scatter(7, None)
    frame = pl.DataFrame({"date": DAYS, "champion": values, "baseline": values + 0.03})
    lines = ["champion", "baseline"]
    picture = line_picture(frame, "date", lines, title="Log loss", limits={"constant": 0.49})
    assert_picture(picture)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="0 models"):
        evaluation_picture({})
    with pytest.raises(ValueError, match="0 rows"):
        drift_picture(drift(1).clear())
    with pytest.raises(ValueError, match="nothing to draw"):
        line_picture(drift(1), "date", [], title="none")
