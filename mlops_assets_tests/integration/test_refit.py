"""What is promoted with `refit_on_all`, and with too few labels: real fits on five weeks.

The domain and the feature view are there; all of the product is made from its training set on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.components.ml_product.incumbent import refusals, serving_version
from mlops_assets.components.ml_product.origin import evaluated, fitted_rows
from mlops_assets.components.ml_product.pins import pins
from mlops_assets.components.plan import plan
from mlops_assets.ml.gates import JUDGED, TRIED
from mlops_assets_tests.integration.conftest import (
    CUTOFF,
    NEWEST_LABELLED,
    SMALL,
    TODAY,
    Flow,
    copied,
    opened,
    span,
)

pytestmark = pytest.mark.slow

NAME = "flight_delays"
DAY = timedelta(days=1)


@contextmanager
def anew(settled: Path, home: Path, **training: object) -> Iterator[Flow]:
    """The settled lake without what was made from the training set on, with another declaration."""
    shutil.copytree(settled, home, symlinks=True)
    (home / "mlflow.db").unlink()
    for table in (home / "lake" / NAME).iterdir():
        if table.name != "feature_view":
            shutil.rmtree(table)
    declared = SMALL["training"].model_copy(update=training)
    with opened(home, training=declared) as flow:
        keys = flow.engine.graph.get_all_asset_keys()
        made = [k for k in keys if k.path[0] == NAME and k.path[-1] != "feature_view"]
        flow.instance.wipe_assets(made)
        yield flow


@pytest.fixture(scope="module")
def refitted(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The settled lake, whose product declares it from now on."""
    declared = SMALL["training"].model_copy(update={"refit_on_all": True})
    home = tmp_path_factory.mktemp("refit") / "home"
    with copied(settled, home, training=declared) as flow:
        report = flow.engine.settle()
        assert report.errors == []
        made = ("refit", "bento", "champion", "importance", "model_card")
        assert report.recomputed == {f"{NAME}/{name}": 1 for name in made}
        yield flow


@pytest.fixture(scope="module")
def first_refitted(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A product that declares it from the beginning, so that its first champion is a refit."""
    with anew(settled, tmp_path_factory.mktemp("anew") / "home", refit_on_all=True) as flow:
        assert flow.engine.settle().errors == []
        yield flow


def test_what_serves_was_fitted_on_all_labels_and_says_whose_evaluation_it_has(refitted):
    first, second = refitted.registry.versions(NAME)
    champion = serving_version(refitted.lakehouse, refitted.registry, NAME)
    assert (champion.version, champion.digest != first.digest) == (second.version, True)
    assert (first.tags["cutoff"], second.tags["cutoff"]) == (str(CUTOFF), str(NEWEST_LABELLED))
    assert second.tags["refit_of"] == "1"
    assert evaluated(refitted.lakehouse, refitted.registry, refitted.product, second) == first
    assert {k: first.tags[k] == second.tags[k] for k in ("family", "threshold")} == {
        "family": True, "threshold": True,
    }  # fmt: skip
    days = fitted_rows(refitted.lakehouse, refitted.product, second).collect()["date"]
    assert days.max() == NEWEST_LABELLED
    stopped = [refitted.registry.run_json(v.run_id, "description.json")["rounds"]
               for v in (first, second)]  # fmt: skip
    assert stopped[0] == stopped[1]
    shown = refitted.metadata("champion")["fitted_on"].value
    assert shown == (
        f"all labels through {NEWEST_LABELLED}; version 1, of the same settings, was evaluated"
    )
    assert shown in refitted.table("promotions").sort("decided_at")["reason"][-1]


def test_its_gates_are_those_of_the_evaluated_version_and_its_own(refitted):
    _, second = refitted.registry.versions(NAME)
    rows = refitted.table("gate_results").filter(digest=second.digest)
    stages = dict(rows.select("gate", "stage").iter_rows())
    assert stages == dict.fromkeys(JUDGED, "refit") | dict.fromkeys(TRIED, "bento")
    assert rows["passed"].all()
    details = dict(rows.select("gate", "detail").iter_rows())
    for gate in ("untouched_rows", "gain_over_baseline", "calibrated"):
        assert details[gate].startswith("version 1, of which this is the refit: ")
    assert "refit" not in details["known_in_time"]


def test_a_refit_of_a_version_that_failed_is_not_promoted(refitted):
    from mlops_assets.components.ml_product import refit

    first, second = refitted.registry.versions(NAME)
    results = refitted.product.table("gate_results")
    before = refitted.lakehouse.version(results)
    bad = refitted.table("gate_results").filter(gate="leak_suspect", digest=first.digest)
    now = pl.col("judged_at").dt.offset_by("1h")
    bad = bad.with_columns(passed=pl.lit(False), judged_at=now)
    store, models = refitted.lakehouse, refitted.registry
    store.append(results, bad, refit.Commit())
    try:
        refit.judge(store, models, refitted.product, first, second, "")
        assert [r.partition(":")[0] for r in refusals(store, NAME, second)] == ["leak_suspect"]
    finally:
        store.overwrite(results, store.scan(results, version=before).collect(), refit.Commit())
    assert refusals(store, NAME, second) == []


@pytest.mark.year
def test_nothing_is_scored_in_sample_and_nothing_is_left_to_do(first_refitted):
    assert set(first_refitted.table("predictions")["date"]) == set(
        span(NEWEST_LABELLED + DAY, TODAY)
    )
    for name in ("performance", "drift"):
        table = first_refitted.table(name)
        assert table.is_empty() or table["date"].min() > NEWEST_LABELLED
    made = first_refitted.instance.get_materialized_partitions(
        first_refitted.product.key("predictions")
    )
    assert made == {str(day) for day in span(CUTOFF + DAY, TODAY)}
    assert plan(first_refitted.engine).empty
    first = first_refitted.registry.versions(NAME)[0]
    assert "answers_as_batch: not judged" in refusals(first_refitted.lakehouse, NAME, first)


@pytest.mark.year
def test_the_next_days_are_scored_by_it_and_judged(first_refitted):
    assert first_refitted.arrive(TODAY + DAY, TODAY + 3 * DAY).errors == []
    rows = first_refitted.table("predictions")
    assert (rows["date"].min(), rows["date"].max()) == (NEWEST_LABELLED + DAY, TODAY + 3 * DAY)
    assert set(rows["model_version"]) == {2}
    days = first_refitted.table("performance").drop_nulls("log_loss")["date"]
    assert set(days) == set(span(NEWEST_LABELLED + DAY, TODAY + DAY))


@pytest.mark.year
def test_another_look_at_the_candidate_leaves_the_champion_and_judges_on_its_own_days(
    first_refitted,
):
    for name in ("evaluation", "refit", "bento", "champion"):
        assert first_refitted.run(name).error is None
    assert [v.version for v in first_refitted.registry.versions(NAME)] == [1, 2]
    assert serving_version(first_refitted.lakehouse, first_refitted.registry, NAME).version == 2
    assert first_refitted.metadata("evaluation")["first_day"].value == str(CUTOFF + DAY)


def test_a_day_that_it_knows_is_not_scored_again(refitted):
    before = refitted.table("predictions").height
    error = refitted.run("predictions", NEWEST_LABELLED).error
    assert f"training set, which reaches through {NEWEST_LABELLED}" in error
    assert refitted.table("predictions").height == before
    assert plan(refitted.engine).empty


def test_its_training_rows_are_pinned(refitted):
    found = pins(refitted.lakehouse, refitted.registry, [refitted.product])
    why = found[f"{NAME}/refit_set"][0]
    assert f"{NAME} model 2 was trained on it" in why
    assert f"{NAME} model 2 was trained on it" in found["nyc_flights/flight_events"][0]


def test_with_too_few_labels_the_baseline_stands_in_and_says_so(settled, tmp_path):
    declared = SMALL["training"].model_copy(update={"min_days": 60})
    with copied(settled, tmp_path / "home", training=declared) as flow:
        assert flow.engine.settle().errors == []
        version = serving_version(flow.lakehouse, flow.registry, NAME)
        assert (version.version, version.tags["family"]) == (2, "logistic_regression")
        why = "too few labels: 24 days of 60"
        assert version.tags["fallback"] == why
        board = flow.table("leaderboard").select("family", "left_out").rows()
        assert board == [("logistic_regression", ""), ("hist_gradient_boosting", why)]
        assert why in flow.metadata("champion")["fitted_on"].value
        assert why in flow.table("promotions").sort("decided_at")["reason"][-1]
        rows = flow.table("gate_results").filter(digest=version.digest)
        details = dict(rows.select("gate", "detail").iter_rows())
        assert set(details) == {*JUDGED, *TRIED}
        assert "below that of the label rate" in details["gain_over_baseline"]
        assert "the champion's" in details["not_worse_than_champion"]
        assert plan(flow.engine).empty
