"""The second product, on the lake of the first: a regression, from its tables to a served model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.defs.departure_demand import problem
from mlops_assets_tests.integration.conftest import (
    CUTOFF,
    NEWEST_LABELLED,
    TODAY,
    Flow,
    copy_home,
    opened,
)

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
KEYS = ["date", "origin", "departure_hour"]
SMALL = {
    "training": d.Training(
        first_cutoff=CUTOFF,
        validation_days=5,
        holdout_days=7,
        metric="poisson_deviance",
        families=["poisson_regression"],
        baseline=["group_mean", "column"],
        params={"column": {"name": "same_hour_departed_late_last_week"}},
        search=d.Search(trials=1, folds=1, fold_days=4),
        min_rows=500,
        threads=1,
    ),
    "gates": d.Gates(
        min_gain_over_baseline=-0.5, champion_margin=0.5, min_calibration_slope=0.1, min_rows=400,
        min_days=7,
    ),
    "monitoring": d.Monitoring(drift_window_days=7, report_days=0),
}  # fmt: skip


@pytest.fixture(scope="module")
def flow(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The lake of five weeks, on which the second product has run."""
    home = copy_home(settled, tmp_path_factory.mktemp("second") / "home")
    with opened(home, "departure_demand", **SMALL) as there:
        report = there.engine.settle()
        assert report.errors == []
        yield there


def test_it_goes_from_the_tables_of_the_first_to_a_champion(flow):
    board = flow.table("leaderboard")
    assert set(board["family"]) == {"poisson_regression", "group_mean", "column"}
    assert board.filter(pl.col("role") == "baseline").height == 2
    assert flow.table("gate_results")["passed"].all()
    assert flow.registry.champion("departure_demand") is not None
    judged = flow.table("evaluation")
    assert {"poisson_deviance", "absolute_error"} <= set(judged.columns)


def test_it_scores_each_hour_and_says_how_the_days_went(flow):
    said = flow.table("predictions")
    assert (said["date"].min(), said["date"].max()) == (CUTOFF + DAY, TODAY)
    assert said.select(KEYS).is_duplicated().sum() == 0
    assert said["prediction"].min() > 0
    assert (said["departure_hour"] - said["as_of"]).unique().to_list() == [problem.LEAD]
    went = flow.table("performance")
    assert went["date"].max() == NEWEST_LABELLED
    events = flow.lakehouse.scan("nyc_flights/flight_events")
    label = problem.label(events).filter(pl.col("date") == NEWEST_LABELLED).collect()
    last = went.filter(pl.col("date") == NEWEST_LABELLED).row(0, named=True)
    assert last["labelled"] == label.height
    assert last["mean_label"] == pytest.approx(label["label"].mean())


def test_a_day_that_arrives_flows_to_both_ends(flow):
    tomorrow = TODAY + DAY
    report = flow.arrive(tomorrow, tomorrow)
    assert report.errors == []
    assert flow.table("predictions")["date"].max() == tomorrow
    assert flow.table("performance")["date"].max() == NEWEST_LABELLED + DAY
    assert flow.table("drift")["date"].max() == tomorrow
