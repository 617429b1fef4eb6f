"""MLflow's and Dagster's stores fail for real: locked, gone, changed, or moved by hand.

Each fault is caused, the message says what and what to do, nothing that was predicted is lost or
doubled, and the next run completes. Of a home that has lost Dagster's store see test_rivals.py.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.ml_product.incumbent import ALIAS_CHECK, alias_state, incumbent
from mlops_assets.defs.platform.registry_watch import registry_watch
from mlops_assets.stores.model_registry import CHAMPION, ModelVersion
from mlops_assets_tests.integration.conftest import TODAY, Flow, copied, opened

pytestmark = pytest.mark.slow

PRODUCT = "flight_delays"
HOLD = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def fresh(settled: Path, tmp_path: Path) -> Iterator[Flow]:
    """The settled lake, to change."""
    with copied(settled, tmp_path / "home") as there:
        yield there


@contextmanager
def locked(database: Path, seconds: float = 600) -> Iterator[None]:
    """Another process holds a write transaction on a database."""
    command = [sys.executable, "-c", HOLD, str(database), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


def scored_again(flow: Flow) -> str | None:
    """Score the newest day once more, as a person does; why it failed."""
    return flow.run("predictions", TODAY).error


def errors_elsewhere(home: Path, *names: str) -> list[str]:
    """Run assets in a process of its own; why each failed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_errors, home, names).result()


def _errors(home: Path, names: tuple[str, ...]) -> list[str]:
    with opened(home) as flow:
        of_a_day = {"predictions": (TODAY,)}
        return [flow.run(name, *of_a_day.get(name, ())).error or "" for name in names]


# --- MLflow's database --------------------------------------------------------------------------


def test_a_locked_tracking_database_is_named_and_the_next_run_completes(fresh):
    before, database = fresh.table("predictions"), fresh.home / "mlflow.db"
    with locked(database):
        error = scored_again(fresh)
    assert f"MLflow's database {database} is locked by another process" in error
    assert "Wait until that is done, or end it" in error
    assert_frame_equal(fresh.table("predictions"), before, check_row_order=False)
    assert scored_again(fresh) is None


def test_a_lost_tracking_database_is_not_taken_for_a_new_one(fresh):
    before, database = fresh.table("predictions"), fresh.home / "mlflow.db"
    aside = database.rename(database.with_suffix(".aside"))
    for error in errors_elsewhere(fresh.home, "predictions", "candidate", "evaluation"):
        assert f"MLflow at sqlite:///{database} has no version 1, although" in error
        assert f"{PRODUCT}/promotions in the lake says that it was promoted" in error
        assert "Put the database back from a backup" in error
    aside.replace(database)
    assert_frame_equal(fresh.table("predictions"), before, check_row_order=False)
    assert scored_again(fresh) is None
    assert fresh.table("predictions").height == before.height


# --- a model's files ----------------------------------------------------------------------------


def test_a_version_whose_files_are_gone_is_named_with_its_folder(fresh):
    before, files = fresh.table("predictions"), fresh.registry.download(_champion(fresh))
    assert files.is_relative_to(fresh.home)
    aside = files.rename(files.with_name("aside"))
    try:
        for error in (scored_again(fresh), fresh.run("bento").error):
            assert f"{PRODUCT} 1: its files are gone from {files}; put them back" in error
    finally:
        aside.rename(files)
    assert_frame_equal(fresh.table("predictions"), before, check_row_order=False)
    assert scored_again(fresh) is None


def test_a_version_whose_files_were_changed_is_not_used(fresh):
    before, files = fresh.table("predictions"), fresh.registry.download(_champion(fresh))
    changed = files / "facts.json"
    content = changed.read_bytes()
    changed.write_bytes(content + b" ")
    try:
        for error in (scored_again(fresh), fresh.run("bento").error):
            assert f"{PRODUCT} 1: the files in {files} have digest" in error
            assert "do not serve them, but put them back from a backup" in error
    finally:
        changed.write_bytes(content)
    assert_frame_equal(fresh.table("predictions"), before, check_row_order=False)
    assert scored_again(fresh) is None


# --- the alias ----------------------------------------------------------------------------------


def _champion(flow: Flow) -> ModelVersion:
    version = flow.registry.champion(PRODUCT)
    assert version is not None
    return version


def _never_judged(flow: Flow, folder: Path) -> ModelVersion:
    """A second version, the champion's files and one more, which no gate has seen."""
    first = _champion(flow)
    shutil.copytree(flow.registry.download(first), folder)
    (folder / "note.txt").write_text("by hand")
    with flow.registry.training_run(PRODUCT, tags={}) as run:
        return flow.registry.register(
            run, PRODUCT, folder, inputs=pl.DataFrame({"hour": [5.0]}), outputs=np.array([0.2]),
            tags=first.tags, pip_requirements=[],
        )  # fmt: skip


def _watch(flow: Flow) -> str:
    """One tick of the sensor; what it says."""
    stores = {name: flow.engine.definitions.resources[name] for name in ("lakehouse", "registry")}
    with dg.build_sensor_context(
        flow.instance,
        repository_def=flow.engine.definitions.get_repository_def(),
        resources=stores,
    ) as context:
        return registry_watch(context).skip_message


def _shown(flow: Flow) -> tuple[bool, str]:
    """What the UI shows of the champion's check: passed, and why."""
    key = dg.AssetCheckKey(flow.product.key("champion"), ALIAS_CHECK)
    found = flow.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    evaluation = found[key].evaluation
    return evaluation.passed, evaluation.description


def test_an_alias_moved_by_hand_serves_nothing_and_the_ui_shows_it(fresh, tmp_path):
    before, other = fresh.table("predictions"), _never_judged(fresh, tmp_path / "other")
    assert _shown(fresh)[0]
    assert _watch(fresh) == "every alias is as the UI shows it"

    fresh.registry.set_alias(PRODUCT, CHAMPION, other.version)
    error = scored_again(fresh)
    assert "the alias champion names version 2, which did not pass" in error
    assert "leak_suspect: not judged" in error
    assert "Give the alias back to version 1, which was promoted" in error
    assert_frame_equal(fresh.table("predictions"), before, check_row_order=False)
    assert incumbent(fresh.lakehouse, fresh.registry, PRODUCT).version == 1

    assert "names version 2" in _watch(fresh)
    passed, why = _shown(fresh)
    assert not passed
    assert "the alias champion names version 2" in why
    assert _watch(fresh) == "every alias is as the UI shows it"

    # A person rolls back; the loop knows by the promotions which version that is.
    asked = {"ops": {f"{PRODUCT}__rollbacks": {"config": {"by": "Ada"}}}}
    assert fresh.engine.run_job(f"{PRODUCT}_rollback", asked).error is None
    assert _champion(fresh).version == 1
    _watch(fresh)
    assert _shown(fresh) == (True, "the alias champion names version 1, which was promoted")
    assert scored_again(fresh) is None


def test_an_alias_that_was_deleted_is_missed(fresh):
    fresh.registry._client.delete_registered_model_alias(PRODUCT, CHAMPION)
    serves, why = alias_state(fresh.lakehouse, fresh.registry, PRODUCT)
    assert not serves
    assert "although version 1 was promoted last. Give the alias back to it" in why


# --- Dagster's store ----------------------------------------------------------------------------


def test_a_run_waits_for_a_locked_event_log(fresh):
    (database,) = (fresh.home / "dagster" / "events").glob("*.db")
    with locked(database, seconds=3):
        started = time.monotonic()
        assert scored_again(fresh) is None
        assert time.monotonic() - started > 2
    with sqlite3.connect(database) as log:
        assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)
