"""kill -9 during the demo, by kills.py, with few kills and with many; of a daemon: test_ui.py."""

from __future__ import annotations

import pytest

from mlops_assets.local import repository
from mlops_assets_tests.integration.kills import STAGES, Campaign, plan, stage_of

# Made where a server has answered or somebody decided, which the demo does not reach.
NOT_IN_THE_DEMO = {"online_performance", "requests", "retrain_decisions", "rollbacks", "skew"}


def test_a_plan_follows_from_its_seed_and_hits_each_stage():
    homes = plan(50, 1)
    assert homes == plan(50, 1) != plan(50, 2)
    stages = [moment.stage for home in homes for moment in home]
    assert len(stages) == 50
    assert {stages.count(stage) for stage in STAGES} == {2, 3}
    whole = [moment.whole for home in homes for moment in home]
    assert sum(whole) == 25


def test_each_asset_of_the_demo_stands_in_a_stage():
    graph = (repository() / "mlops_assets_tests/defs/graph.txt").read_text()
    assets = [line.split(",")[0] for line in graph.splitlines() if line and "/" in line.split()[0]]
    stages = {stage_of(asset) for asset in assets if asset[0] != " "}
    assert stages - NOT_IN_THE_DEMO == set(STAGES) - {"start"}


@pytest.mark.slow
def test_two_kills_cost_a_further_run_and_nothing_else(tmp_path, settled):
    survived(tmp_path, plan(2, seed=9, a_home=2), control=settled)


@pytest.mark.year
@pytest.mark.timeout(3600)
def test_fifty_kills_cost_a_further_run_and_nothing_else(tmp_path):
    survived(tmp_path, plan(50, seed=1))


@pytest.mark.year
@pytest.mark.timeout(1800)
def test_kills_of_the_whole_demo_cost_a_further_run_and_nothing_else(tmp_path):
    survived(tmp_path, plan(4, seed=2), whole=True)


def survived(folder, homes, **options):
    summary = Campaign(folder, **options).run(homes)
    print(summary)
    assert summary.problems == []
    assert summary.kills.total() >= 0.8 * sum(map(len, homes))
