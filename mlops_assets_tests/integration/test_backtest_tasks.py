"""`mlops backtest` of a count and of a class, from a small generated table to what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets_tests.integration.test_add_a_product import copy_repository, ran

pytestmark = pytest.mark.year

DAYS, STATIONS, HOURS = 50, 3, 6
FIRST, CUTOFF, LAST = "2024-01-22", "2024-01-20", "2024-02-04"
TRAINING = """  training: {{first_cutoff: "2024-02-01", {metric}min_rows: 50,
    min_class_rows: 1, threads: 1, validation_days: 4, holdout_days: 5,
    search: {{folds: 2, fold_days: 5}},
    params: {{hist_gradient_boosting: {{rounds: 20, min_samples_leaf: 5}}}}}}
"""
GATES = """  gates: {min_days: 3, min_rows: 40, min_gain_over_baseline: -9, champion_margin: 9,
    min_calibration_slope: 0.01, leak_auc: 1, leak_explained: 1}
  retraining: {window_days: 4, fired_days: 1, of_days: 2, cool_down_days: 4, min_new_labels: 20,
    growth: 0.1, probe_days: 4, shadow_days: 4, shadow_min_days: 2, rollback_margin: 9}
"""
"""So few days that a gate which means anything would refuse them."""


def table(label: str) -> pl.DataFrame:
    """Rides by station and hour, which double after 25 days; or whether there were many."""
    random = np.random.default_rng(7)
    number = np.arange(DAYS * STATIONS * HOURS)
    day, slot = np.divmod(number, STATIONS * HOURS)
    temperature = 12 + 8 * np.sin(day / 9) + random.normal(0, 3, number.size)
    mean = 4 * (1 + number % 3) * np.exp(-(((temperature - 19) / 9) ** 2))
    rides = random.poisson(mean * np.where(day >= 25, 2, 1))
    hours = day * 24 + slot // STATIONS * 2
    return pl.DataFrame({
        "starts_at": np.datetime64("2024-01-01T07", "us") + np.timedelta64(1, "h") * hours,
        "station": np.array(["North", "River", "Zoo"])[number % 3],
        "temperature": temperature.round(1),
        "rides": rides,
        "kind": np.select([rides > 9, rides > 3], ["busy", "usual"], "calm"),
    }).drop({"rides": "kind", "kind": "rides"}[label])  # fmt: skip


@pytest.mark.parametrize(
    ("label", "metric", "figures", "unit"),
    [
        (
            "rides",
            "poisson_deviance",
            ["Poisson deviance", "Absolute error"],
            "of the rival's loss",
        ),
        ("kind", "log_loss", ["Log loss (nats)", "Accuracy"], "nats"),
    ],
)
def test_a_walk_of_a_generated_table(
    tmp_path: Path,
    label: str,
    metric: str,
    figures: list[str],
    unit: str,
) -> None:
    there = copy_repository(tmp_path)
    table(label).write_csv(there / "table.csv")
    ran(f"mlops new walked --licence CC0-1.0 --from table.csv --label {label} --time starts_at"
        " --keys station,starts_at --lead-hours 6", there)  # fmt: skip
    declared = there / "mlops_assets" / "defs" / "walked" / "defs.yaml"
    asked = "metric: poisson_deviance, " if label == "rides" else ""
    text = re.sub(r"  training: .*\n", TRAINING.format(metric=asked), declared.read_text())
    declared.write_text(re.sub(r"  gates: .*\n", GATES, text))

    said = ran(f"mlops backtest walked --from {FIRST} --to {LAST} --json walk.json", there)

    found = json.loads((there / "walk.json").read_text())
    assert [name for name in figures if name not in said] == []
    assert f"probe gains ({unit})" in " ".join(said.split())
    assert found["served"]["frozen"] == [{"cutoff": CUTOFF, "since": FIRST}]
    assert "retrain" in {case["verdict"] for case in found["cases"]}
    whole = {row["policy"]: row for row in found["figures"] if row["period"] == "all"}
    assert whole["loop"]["days"] == 14
    assert {row["unit"] for row in found["gains"] if row["metric"] == metric} == {unit, ""}
    home = there / "home" / "backtests" / f"walked-{FIRST}"
    assert (home / "backtest.png").read_bytes().startswith(b"\x89PNG")
