"""Each mutant, built for real, is refused by its own gate; a sound model is promoted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops_assets.ml.gates import REQUIRED
from mlops_assets_tests.integration.mutants import MUTANTS, Kill, kill, table
from mlops_assets_tests.integration.sound_world import World, sound_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with sound_world(tmp_path_factory.mktemp("mutants") / "home") as there:
        yield there


def test_a_sound_model_passes_every_gate_with_the_limits_that_a_product_has_by_default(world):
    results = world.flow.table("gate_results")
    assert set(results["gate"]) == REQUIRED
    assert results["passed"].all()
    assert world.flow.registry.champion(world.flow.product.name).version == 1


def _each() -> Iterator[object]:
    """The first mutant of a gate is of every run, another of the same gate of the longest ones."""
    seen: set[str] = set()
    for name, (gate, _) in MUTANTS.items():
        yield pytest.param(name, marks=[pytest.mark.year] if gate in seen else [])
        seen.add(gate)


@pytest.mark.parametrize("name", list(_each()))
def test_a_mutant_is_refused_by_its_gate(world, name):
    found = kill(name, world)
    assert found.refused, found
    assert found.detail
    assert world.flow.registry.champion(world.flow.product.name).version == 1


def test_the_table_counts_a_survivor():
    refused = Kill("inverted", "gain_over_baseline", True, -0.2, 0.0, "", ("calibrated",), 1.0)
    survivor = Kill("huge", "small_enough", False, None, None, "the alias moved", (), 1.0)
    lines = table([refused, survivor]).splitlines()
    assert lines[2] == "| inverted | gain_over_baseline | -0.2 | 0 | calibrated |"
    assert "NOT REFUSED: the alias moved" in lines[3]
    assert lines[-1] == "1 of 2 refused"
