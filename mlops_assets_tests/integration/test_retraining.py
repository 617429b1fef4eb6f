"""A retraining is one Dagster run and one MLflow run, by dagster-mlflow, with its fits below."""

import os

import pytest

from mlops_assets_tests.integration.conftest import copied

pytestmark = pytest.mark.slow


@pytest.fixture
def flow(settled, tmp_path):
    with copied(settled, tmp_path / "home") as flow:
        yield flow


def retrainings(flow):
    runs = flow.trainings().values()
    return [run for run in runs if run.data.tags.get("role") == "retraining"]


def test_the_fits_of_a_retraining_are_nested_below_its_run(flow):
    report = flow.decide("retrain", "training_set", cutoff="2013-01-26")

    assert report.errors == []
    (above,) = retrainings(flow)
    assert above.info.status == "FINISHED"
    assert flow.instance.has_run(above.data.tags["dagster_run_id"])
    below = [
        run.data.tags["family"]
        for run in flow.trainings().values()
        if run.data.tags.get("mlflow.parentRunId") == above.info.run_id
    ]
    assert sorted(below) == ["hist_gradient_boosting", "logistic_regression"]
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ  # MLflow sets it; the resource puts it back


def test_a_retraining_that_fails_is_a_failed_run_and_changes_no_champion(flow):
    before = flow.registry.champion(flow.product.name)

    report = flow.decide("retrain", "training_set", cutoff="2013-03-01")

    assert "cutoff 2013-03-01 is after 2013-02-02" in report.errors[0]
    assert [run.info.status for run in retrainings(flow)] == ["FAILED"]
    assert flow.registry.champion(flow.product.name) == before
