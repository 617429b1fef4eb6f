"""The graph of the real definitions: a snapshot to read in a diff, and what holds for each asset.

`UPDATE_SNAPSHOTS=1 pytest mlops_assets_tests/defs/test_graph.py` writes the snapshot anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.components.ml_product.performance import performance
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.definitions import defs
from mlops_assets.local import repository
from mlops_assets.ml.targets import Binary

SNAPSHOT = Path(__file__).with_name("graph.txt")
HEAVY = ("torch", "mlflow", "xgboost", "sklearn", "bentoml", "evidently", "matplotlib", "optuna")
LOAD = f"""
import json, sys, time
started = time.process_time()
from mlops_assets.definitions import defs
defs().resolve_asset_graph()
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"heavy": heavy, "seconds": time.process_time() - started}}))
"""


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(tmp_path_factory.mktemp("home")))
        yield defs()


def drawn(definitions: dg.Definitions) -> str:
    """The graph as text: assets by name, then what launches them."""
    graph = definitions.resolve_asset_graph()
    lines = [line for key in sorted(graph.materializable_asset_keys) for line in asset(graph, key)]
    repository_def = definitions.get_repository_def()
    for job in sorted(definitions.jobs or [], key=lambda j: j.name):
        resolved = repository_def.get_job(job.name)
        keys = sorted(k.to_user_string() for k in resolved.asset_layer.executable_asset_keys)
        lines += [f"job {job.name}", *(f"    {key}" for key in keys), ""]
    for schedule in sorted(repository_def.schedule_defs, key=lambda s: s.name):
        lines.append(f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.job_name}")
    for sensor in sorted(repository_def.sensor_defs, key=lambda s: s.name):
        lines.append(f"sensor {sensor.name}: {sensor.sensor_type.value.lower()}")
    return "\n".join(lines) + "\n"


def asset(graph: dg.AssetGraph, key: dg.AssetKey) -> Iterator[str]:
    """One asset: its days, what it reads of which days, its checks; a `!` blocks."""
    node = graph.get(key)
    yield f"{key.to_user_string()}{days(node.partitions_def)}"
    for parent in sorted(node.parent_keys):
        yield f"    from {parent.to_user_string()}{read(node.partition_mappings.get(parent))}"
    for check in sorted(graph.get_check_keys_for_assets({key}), key=lambda c: c.name):
        yield f"    check {check.name}{'!' * graph.get_check_spec(check).blocking}"
    yield ""


def days(partitions: dg.PartitionsDefinition | None) -> str:
    if partitions is None:
        return ""
    return (
        f", daily {partitions.get_first_partition_key()} to {partitions.get_last_partition_key()}"
    )


def read(mapping: dg.PartitionMapping | None) -> str:
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return f", days {mapping.start_offset} to {mapping.end_offset}"
    if isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
        return f", {', '.join(mapping.partition_keys)}"
    return ""


def test_the_graph_is_as_drawn(definitions):
    graph = drawn(definitions)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(graph)
    assert graph.splitlines() == SNAPSHOT.read_text().splitlines(), (
        f"the graph differs from {SNAPSHOT.name}; if that is meant, run with UPDATE_SNAPSHOTS=1"
    )


@pytest.mark.parametrize("attribute", ["description", "owners", "group_name", "code_version"])
def test_every_asset_has(definitions, attribute):
    graph = definitions.resolve_asset_graph()
    without = [
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if graph.get(key).group_name == "default" or not getattr(graph.get(key), attribute)
    ]
    assert without == []


def test_the_code_location_loads_quickly_and_imports_nothing_heavy(tmp_path):
    environment = os.environ | {"MLOPS_HOME": str(tmp_path)}
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD],
        env=environment, cwd=repository(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(loaded.stdout)
    assert found["heavy"] == []
    assert found["seconds"] < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dg_accepts_the_definitions(tmp_path):
    checked = subprocess.run(
        [Path(sys.executable).with_name("dg"), "check", "defs"],
        env=os.environ | {"MLOPS_HOME": str(tmp_path)},
        cwd=repository(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


class _Other(Binary):
    """The same, but for what it says of a day."""

    def figures(self, *args, **options):
        return super().figures(*args, **options) | {"auc": 1.0}


def test_what_the_target_computes_is_in_the_version_of_what_asks_it(definitions):
    product = PRODUCTS["flight_delays"]
    versions = {
        type(target): product.code_version(performance, product.label, target)
        for target in (product.target, Binary("log_loss"), _Other("log_loss"))
    }
    assert type(product.target) is Binary
    assert len(set(versions.values())) == 2
