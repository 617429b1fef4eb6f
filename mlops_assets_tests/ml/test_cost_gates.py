"""cost_gates.py: time and size against their budgets."""

from __future__ import annotations

import pytest

from mlops_assets.ml.cost_gates import fast_enough, quietest_p95, small_enough

QUICK, BUSY = [0.004] * 10, [0.3] * 10


def speed(single, bulk=(0.05,)):
    return fast_enough(single, bulk, 500, single_ms=150, bulk_row_ms=2)


def test_the_quietest_round_counts():
    assert quietest_p95([BUSY, QUICK, BUSY]) == pytest.approx(0.004)
    assert speed([BUSY, QUICK]).passed


@pytest.mark.parametrize(
    ("single", "bulk", "value", "limit"),
    [([BUSY], [0.05], 300, 150), ([QUICK], [1.5, 2.0], 3, 2), ([], [0.05], float("inf"), 150)],
)
def test_too_slow_alone_or_in_bulk(single, bulk, value, limit):
    outcome = speed(single, bulk)
    assert outcome.passed is False
    assert (outcome.value, outcome.limit) == (pytest.approx(value), limit)


@pytest.mark.parametrize(
    ("model", "server", "passed", "value"),
    [(5, 400, True, 400), (120, 400, False, 120), (5, 2_000, False, 2_000)],
)
def test_files_and_memory_have_a_budget_each(model, server, passed, value):
    outcome = small_enough(model * 10**6, server * 10**6, model_mb=100, server_mb=1_500)
    assert (outcome.passed, outcome.value) == (passed, value)
    assert f"the model's files {model} MB of 100" in outcome.detail
