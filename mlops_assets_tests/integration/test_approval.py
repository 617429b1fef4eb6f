"""A second round with `promotion.approval: required`: the candidate waits for a person.

The retraining is one Dagster run and one MLflow run, by dagster-mlflow, with its fits below.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.promotion import waiting
from mlops_assets_tests.integration.conftest import CUTOFF, TODAY, Flow, copied

pytestmark = pytest.mark.slow

LATER = CUTOFF + timedelta(days=2)


@pytest.fixture(scope="module")
def asked(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The settled lake, retrained two days later; a person must approve."""
    required = d.Promotion(approval="required")
    home = tmp_path_factory.mktemp("approval") / "home"
    with copied(settled, home, promotion=required) as flow:
        assert flow.engine.settle().errors == []
        assert flow.decide("retrain", "training_set", cutoff=str(LATER)).errors == []
        yield flow


def retrainings(flow: Flow) -> list[Any]:
    runs = flow.trainings().values()
    return [run for run in runs if run.data.tags.get("role") == "retraining"]


def promotions(flow: Flow) -> list[tuple[int, str, str]]:
    rows = flow.table("promotions").sort("decided_at")
    return list(rows.select("model_version", "status", "by").iter_rows())


def test_what_serves_already_asks_for_no_approval(asked):
    assert promotions(asked)[0] == (1, "promoted", "automation")
    assert (1, "waiting", "automation") not in promotions(asked)


def test_a_passed_candidate_waits_as_a_row_while_the_champion_serves(asked):
    assert promotions(asked)[-1] == (2, "waiting", "automation")
    assert waiting(asked.lakehouse, asked.product)["model_version"] == 2
    judged = asked.table("gate_results").filter(model_version=2)
    assert judged["passed"].all()
    assert asked.registry.champion("flight_delays").version == 1


def test_the_second_round_is_judged_on_days_that_neither_model_was_trained_on(asked):
    judged = asked.table("gate_results").filter(model_version=2, gate="untouched_rows")
    assert f"evaluation starts on {LATER + timedelta(days=1)}" in judged["detail"].item()
    assert set(asked.table("evaluation")["model"]) == {"candidate", "baseline", "champion"}


def test_a_retraining_is_one_mlflow_run_with_its_fits_below(asked):
    runs = asked.trainings()
    champion = asked.registry.get("flight_delays", 2)
    retraining = runs[runs[champion.run_id].data.tags["mlflow.parentRunId"]]
    assert [run.info.run_id for run in retrainings(asked)] == [retraining.info.run_id]
    assert retraining.info.status == "FINISHED"
    assert asked.instance.has_run(retraining.data.tags["dagster_run_id"])
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ  # MLflow sets it; the resource puts it back
    below = [
        r for r in runs.values() if r.data.tags.get("mlflow.parentRunId") == retraining.info.run_id
    ]
    assert {run.data.tags["family"] for run in below} == {
        "hist_gradient_boosting",
        "logistic_regression",
    }


def test_a_launch_that_does_not_say_who_approves_is_refused(asked):
    with pytest.raises(dg.DagsterInvalidConfigError, match="approved_by"):
        asked.run("champion")
    with pytest.raises(dg.DagsterInvalidConfigError, match="approved_by"):
        asked.run("champion", reason="looks good")


def test_a_person_approves_and_the_alias_moves(asked):
    before = asked.table("predictions")
    report = asked.decide("approve", "champion", approved_by="Ada Lovelace", reason="reviewed")
    assert report.errors == []
    assert asked.registry.champion("flight_delays").version == 2
    assert promotions(asked)[-1] == (2, "promoted", "Ada Lovelace")
    assert asked.table("promotions").sort("decided_at")["reason"][-1] == "reviewed"
    assert asked.table("predictions").height == before.height

    again = asked.run("champion", approved_by="Ada Lovelace")
    assert "flight_delays: no promotion waits for approval" in again.error

    tomorrow = TODAY + timedelta(days=1)
    assert asked.arrive(tomorrow, tomorrow).errors == []
    new = asked.table("predictions").join(before, on="prediction_id", how="anti")
    assert new.select("date", "model_version").unique().row(0) == (tomorrow, 2)


def test_a_retraining_that_fails_is_a_failed_run_and_changes_no_champion(asked):
    before = asked.registry.champion(asked.product.name)

    report = asked.decide("retrain", "training_set", cutoff="2013-03-01")

    assert f"cutoff 2013-03-01 is after {TODAY - timedelta(days=1)}" in report.errors[0]
    statuses = sorted(run.info.status for run in retrainings(asked))
    assert statuses == ["FAILED", "FINISHED"]
    assert asked.registry.champion(asked.product.name) == before
