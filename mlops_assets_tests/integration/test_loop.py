"""The loop on real flights: case, decision, new champion, shadow, rollback; killed in between.

One home goes through it, test after test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.components.loop import evaluate, follow, loop_sensors
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.retrain_case import carried_out
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets_tests.integration.conftest import TODAY, Flow, copied

pytestmark = pytest.mark.slow

RETRAINING = d.Retraining(
    window_days=7, fired_days=2, of_days=3, cool_down_days=9, growth=0.05, probe_days=4,
    probe_margin=0.5, min_new_labels=1_000, shadow_days=6, shadow_min_days=2, rollback_margin=0.0,
)  # fmt: skip
NAME = "flight_delays"
TO_BE_KILLED = """
import os, signal, sys
from pathlib import Path
from mlops_assets.components.loop import follow
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets_tests.integration.conftest import opened
from mlops_assets_tests.integration.test_loop import RETRAINING

ModelRegistry.set_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with opened(Path(sys.argv[1]), retraining=RETRAINING) as flow:
    follow(flow.engine)
"""


@pytest.fixture(scope="module")
def flow(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    home = tmp_path_factory.mktemp("loop") / "home"
    with copied(settled, home, retraining=RETRAINING) as flow:
        yield flow


def look(flow: Flow, name: str) -> list[dg.RunRequest]:
    (sensor,) = [s for s in loop_sensors(flow.engine.definitions) if s.name == f"{NAME}_{name}"]
    return evaluate(flow.engine, sensor).run_requests or []


def consider(flow: Flow, **config: str) -> None:
    op = {f"{NAME}__retrain_decisions": {"config": config}}
    done = flow.engine.run_job(f"{NAME}_consider", {"ops": op} if config else {})
    assert done.error is None


def champion(flow: Flow) -> int:
    return flow.registry.champion(NAME).version


def promotions(flow: Flow) -> list[tuple[int, str, str]]:
    rows = flow.table("promotions").sort("decided_at", "status", descending=[False, True])
    return list(rows.select("model_version", "status", "by").iter_rows())


def test_signals_ask_for_one_decision_however_often_they_are_looked_at(flow):
    assert look(flow, "retrain") == []
    (one,), (other,) = look(flow, "watch"), look(flow, "watch")
    assert (one.job_name, one.run_key) == (f"{NAME}_consider", other.run_key)
    assert f"v1-{TODAY}" in one.run_key

    consider(flow)
    consider(flow)  # by another daemon, or again after a kill
    (row,) = flow.table("retrain_decisions").to_dicts()
    assert (row["verdict"], row["by"], row["day"]) == ("retrain", "automation", TODAY)
    assert "growth" in row["fired"]
    assert row["probe_low"] <= row["probe_gain"] <= row["probe_high"]
    assert (row["probe_days"], row["new_labels"]) == (4, 1550)
    shown = flow.metadata("retrain_decisions")
    assert shown["decision"].value == "no case is due"
    assert look(flow, "watch") == []


def test_what_was_decided_is_launched_once_although_the_process_was_killed_in_between(flow):
    (one,), (other,) = look(flow, "retrain"), look(flow, "retrain")
    assert (one.run_key, one.job_name) == (other.run_key, f"{NAME}_retrain")

    report = follow(flow.engine)
    assert report.errors == []
    assert report.recomputed[f"{NAME}/training_set"] == 1
    assert champion(flow) == 2
    decided = flow.table("retrain_decisions")["decision_id"].item()
    assert carried_out(flow.instance, flow.product) == {decided}
    assert flow.metadata("training_set")["cutoff"].value == "2013-01-26"
    assert set(flow.table("importance")["model_version"]) == {2}
    assert follow(flow.engine).runs == []


def test_a_run_that_is_killed_between_registration_and_alias_is_finished(flow):
    """A person asks for a training on eleven days, which can only be worse."""
    consider(flow, opened_by="Ada", verdict="retrain", reason="try", cutoff="2013-01-11")
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TO_BE_KILLED, str(flow.home)],
        env={k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")},
    )
    assert killed.returncode == -signal.SIGKILL
    assert promotions(flow)[-1] == (3, "promoted", "automation")
    assert champion(flow) == 2

    assert len(end_abandoned(flow.instance)) == 1  # as a session does when it opens
    report = follow(flow.engine, flow.engine.settle())
    assert report.errors == []
    assert champion(flow) == 3
    followed = {f"{NAME}/{name}" for name in ("champion", "importance", "model_card")}
    assert set(report.recomputed) == followed


def test_the_predecessor_scores_in_the_shadow_and_comes_back_by_itself(flow):
    report = flow.arrive(TODAY + timedelta(days=1), TODAY + timedelta(days=4))
    assert report.errors == []
    new = flow.table("predictions").filter(model_version=3)
    shadow = flow.table("shadow_predictions")
    keys = flow.product.spine.entity_keys
    assert set(shadow["model_version"]) == {1}  # version 2 never scored a day
    assert shadow.select(keys).sort(keys).equals(new.select(keys).sort(keys))
    assert shadow.columns == new.columns

    (asked,) = look(flow, "watch")
    assert asked.job_name == f"{NAME}_rollback"
    assert follow(flow.engine).errors == []
    assert champion(flow) == 1
    assert promotions(flow)[-2:] == [
        (3, "rolled_back", "automation"),
        (1, "promoted", "automation"),
    ]
    row = flow.table("rollbacks").row(0, named=True)
    assert (row["champion"], row["model_version"]) == (3, 1)
    assert row["gain_high"] < 0
    assert "version 3 gains -" in row["reason"]
    assert flow.metadata("champion")["model_version"].value == 1
    assert set(flow.table("importance")["model_version"]) == {1}
    assert "# Model card: flight_delays, version 1\n" in flow.table("model_card")["card"][0]


def test_what_was_rolled_back_does_not_come_back_by_itself(flow):
    assert "was rolled back and does not come back by itself" in flow.run("champion").error
    assert champion(flow) == 1
    before = flow.table("predictions")
    tomorrow = TODAY + timedelta(days=5)
    flow.arrive(tomorrow, tomorrow)
    new = flow.table("predictions").join(before, on="prediction_id", how="anti")
    assert new.select("date", "model_version").unique().row(0) == (tomorrow, 1)
    assert new.height + before.height == flow.table("predictions").height
    assert flow.table("shadow_predictions").filter(date=tomorrow).is_empty()


def test_a_person_rolls_back_to_a_version_that_passed(flow):
    def rollback(**config: object) -> str | None:
        op = {f"{NAME}__rollbacks": {"config": config}}
        return flow.engine.run_job(f"{NAME}_rollback", {"ops": op}).error

    assert "version 1 serves already" in rollback(by="Ada", to=1)
    assert rollback(by="Ada", to=2, reason="Newark") is None
    assert champion(flow) == 2
    assert promotions(flow)[-1] == (2, "promoted", "Ada")
    assert "has no version 9" in rollback(by="Ada", to=9)
