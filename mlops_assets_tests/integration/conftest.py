"""A small lake on which the whole flow has run: real flights of 2013, real Delta, MLflow, Bento."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster.components.core.defs_module import ComponentPath

from mlops_assets.components.arrival_schedule import with_arrival
from mlops_assets.components.engine import Done, Engine, Report
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import labelled_rows
from mlops_assets.local import prepare, repository
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

FIRST, CUTOFF, TODAY = date(2013, 1, 1), date(2013, 1, 24), date(2013, 2, 4)
NEWEST_LABELLED = TODAY - timedelta(days=2)

SMALL = {
    "training": d.Training(
        first_cutoff=CUTOFF,
        validation_days=5,
        holdout_days=7,
        families=["hist_gradient_boosting"],
        search=d.Search(trials=1, folds=1, fold_days=4, rows=5_000),
    ),
    # Three weeks are too few to beat the baseline surely; that the gate refuses then is tested
    # in components/test_evaluation_gates.py.
    "gates": d.Gates(
        min_gain_over_baseline=-0.1,
        champion_margin=0.5,
        min_calibration_slope=0.3,
        min_rows=2_000,
        min_days=7,
    ),
    "monitoring": d.Monitoring(drift_window_days=7, report_rows=500),
}


@dataclass(frozen=True)
class Flow:
    """The flights domain and one small product, on stores of their own."""

    home: Path
    instance: dg.DagsterInstance
    engine: Engine
    product: Product
    lakehouse: Lakehouse
    registry: ModelRegistry

    def table(self, name: str, version: int | None = None) -> pl.DataFrame:
        """A table of the product, or any by domain/table."""
        full = name if "/" in name else self.product.table(name)
        return self.lakehouse.scan(full, version=version).collect()

    def arrive(self, first: date, last: date) -> Report:
        """Let days arrive and everything follow."""
        report = Report()
        self.engine.arrive(span(first, last), report)
        return self.engine.settle(report)

    def run(self, name: str, *days: date, **config: str) -> Done:
        """Materialize one asset of the product, as a person does."""
        key, keys = self.product.key(name), [day.isoformat() for day in days]
        return self.engine.run([key], keys, self._config(name, config))

    def decide(self, command: str, name: str, **config: str) -> Report:
        """Launch the job `retrain` or `approve`, and let everything follow."""
        job = f"{self.product.name}_{command}"
        report = Report([self.engine.run_job(job, self._config(name, config))])
        return self.engine.settle(report)

    def _config(self, name: str, config: dict[str, str]) -> dict[str, object]:
        op = self.engine.graph.get(self.product.key(name)).assets_def.node_def.name
        return {"ops": {op: {"config": config}}} if config else {}

    def trainings(self) -> dict[str, Any]:
        """MLflow's runs of the product by id."""
        from mlflow import MlflowClient

        client = MlflowClient(self.registry.tracking_uri, self.registry.tracking_uri)
        experiment = client.get_experiment_by_name(self.product.name)
        return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}

    def metadata(self, name: str) -> dict[str, dg.MetadataValue]:
        """What the newest materialization of an asset says of itself."""
        event = self.instance.get_latest_materialization_event(self.product.key(name))
        return dict(event.asset_materialization.metadata)


def merged(*parts: dg.Definitions) -> dg.Definitions:
    """Some of the graph as a whole, with the schedules by which days arrive."""
    return with_arrival(dg.Definitions.merge(*parts))


@contextmanager
def opened(home: Path, name: str = "flight_delays", **changes: object) -> Iterator[Flow]:
    """A real product with small settings, `changes` on top, bound to `home`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLOPS_HOME", str(home))
        environment.setenv("DAGSTER_HOME", str(home / "dagster"))
        # MLflow itself sets it when a retraining begins, which must not outlive this home.
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        prepare()
        tree = dg.ComponentTree.for_project(repository())
        declared = tree.load_component(name).model_copy(update=SMALL | changes)
        path = ComponentPath.from_path(tree.defs_module_path / name)
        definitions = merged(
            tree.build_defs_at_path("nyc_flights"),
            tree.build_defs_at_path("platform"),
            declared.build_defs(tree.load_context.for_component_loc(path)),
        )
        with dg.DagsterInstance.get() as instance:
            yield Flow(
                home,
                instance,
                Engine(definitions, instance),
                declared.product(name),
                definitions.resources["lakehouse"].store,
                definitions.resources["registry"].store,
            )


def span(first: date, last: date) -> list[date]:
    """The days `first` to `last`."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


@contextmanager
def copied(home: Path, folder: Path, **changes: object) -> Iterator[Flow]:
    """A copy to write to."""
    with opened(copy_home(home, folder), **changes) as flow:
        yield flow


HOLDS_PATHS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Columns of MLflow's database that say where files are, by table."""


def copy_home(home: Path, folder: Path) -> Path:
    """Copy a home, models included; nothing in the copy points into the other."""
    shutil.copytree(home, folder, symlinks=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as mlflow, mlflow:
        for table, columns in HOLDS_PATHS.items():
            for column in columns:
                moved = f"update {table} set {column} = replace({column}, ?, ?)"
                mlflow.execute(moved, [f"{home}/", f"{folder}/"])
    return folder


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of a test run to ask for it makes; the others wait for it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of all processes
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home on which five weeks have arrived and everything has followed; do not write to it.

    It is made once, and all processes of a test run read it.
    """

    def make(home: Path) -> None:
        with opened(home) as flow:
            flow.engine.settle()
            assert flow.arrive(FIRST, TODAY).errors == []

    return once(tmp_path_factory, "settled", make)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The labelled rows of the feature view, January to November 2013."""
    last = date(2013, 11, 30)
    with opened(tmp_path_factory.mktemp("year")) as flow:
        graph, days = flow.engine.graph, span(FIRST, last + timedelta(days=2))
        view = dg.AssetSelection.assets(flow.product.key("feature_view")).upstream()
        for key in sorted(view.resolve(graph), key=graph.toposorted_asset_keys.index):
            assert flow.engine.run([key], [day.isoformat() for day in days]).error is None
        return labelled_rows(flow.lakehouse, flow.product, None, last)
