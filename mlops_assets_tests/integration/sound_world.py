"""A small lake on which a sound model serves, and the means to send another the same way.

mutants.py builds its bad models on it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.incumbent import GATE_RESULTS
from mlops_assets.components.ml_product.promotion import promote
from mlops_assets.components.ml_product.training import INPUTS, MODEL_FOLDER, fit_name
from mlops_assets.components.ml_product.training_set import DAY, LABEL, made_of
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, Model, family, save_model
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.model_registry import ModelVersion
from mlops_assets_tests.integration.conftest import Flow, copied, opened, span

FIRST, CUTOFF, NEWEST_LABELLED = date(2013, 3, 1), date(2013, 3, 31), date(2013, 4, 18)
TODAY = NEWEST_LABELLED + timedelta(days=2)
BEST = "hist_gradient_boosting"
BASELINE = "logistic_regression"
TRAINING = d.Training(
    first_cutoff=CUTOFF,
    validation_days=7,
    families=[BEST],
    search=d.Search(trials=1, folds=1, fold_days=4, rows=1_000),
)
DECLARED = {"training": TRAINING, "gates": d.Gates(leak_auc=0.82)}
"""Little data, and the limits that every product has by default, but for that of leaks."""

BLOCKED = "blocking asset check"
"""What Dagster says of a run that a failed check ended; what is downstream does not begin."""

Outcomes = dict[str, dict[str, Any]]
"""Gate to its newest row in `gate_results`."""


@dataclass(frozen=True)
class World:
    """A lake with a sound champion, and what a mutant is built from."""

    flow: Flow

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The first training set."""
        return self.flow.table("training_set", version=0).sort(self.keys)

    @property
    def keys(self) -> list[str]:
        """The entity keys."""
        return self.flow.product.spine.entity_keys

    @cached_property
    def baseline(self) -> tuple[str, Model]:
        """The baseline's training, and the model."""
        from mlops_assets.ml.families import load_model

        run = self.flow.table(fit_name(BASELINE))["run_id"].item()
        return run, load_model(self.flow.registry.run_files(run, MODEL_FOLDER))

    @cached_property
    def sound(self) -> ModelVersion:
        """A model as good as the champion: the same, as a version of its own."""
        return self.submit(self.champion, ballast=1)

    @cached_property
    def champion(self) -> Model:
        """The model that serves."""
        version = self.flow.registry.champion(self.flow.product.name)
        assert version is not None
        return self.flow.registry.load(version)

    def materialize(self, *names: str, days: tuple[date, ...] = (), **config: str) -> None:
        """Run assets of the product one after the other."""
        for name in names:
            done = self.flow.run(name, *days, **config)
            assert done.error is None, f"{name}: {done.error}"

    def _stopped(self, name: str, passes: bool = False) -> None:
        """Run an asset whose blocking checks end the run, unless the mutant passes them all."""
        error = self.flow.run(name).error
        assert error is None if passes else BLOCKED in (error or ""), f"{name}: {error or 'passed'}"

    def fitted(
        self, rows: pl.DataFrame | None = None, columns: FeatureColumns | None = None
    ) -> Model:
        """The best family, fitted on these rows; on the first training set if none are given."""
        rows = self.rows if rows is None else rows
        valid = rows[DAY] > rows[DAY].max() - timedelta(days=TRAINING.validation_days)
        parts = [
            Labelled(p, p[LABEL].to_numpy()) for p in (rows.filter(~valid), rows.filter(valid))
        ]
        chosen = family(BEST)
        return chosen.fit(
            *parts, columns or self.flow.product.columns, chosen.defaults(), FitOptions()
        )

    def submit(
        self, model: Model, training_set: int = 0, cutoff: date = CUTOFF, ballast: int = 0
    ) -> ModelVersion:
        """Register a model as the pipeline does, and make it the candidate."""
        flow = self.flow
        sample = self.rows.head(5).select(flow.product.columns.names)
        inputs = made_of(flow.lakehouse, flow.product, training_set)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / MODEL_FOLDER
            save_model(model, folder)
            if ballast:
                (folder / "rows.bin").write_bytes(bytes(ballast))
            with flow.registry.training_run(flow.product.name, tags={}) as run:
                run.log_json(INPUTS, inputs)
                run.log_params({"threshold": 0.3})
                run.log_folder(MODEL_FOLDER, folder)
                tags = {
                    "family": model.family,
                    "threshold": "0.3",
                    "cutoff": cutoff.isoformat(),
                    "training_set_version": str(training_set),
                    "baseline_run": self.baseline[0],
                }
                version = flow.registry.register(
                    run, flow.product.name, folder, inputs=sample,
                    outputs=np.full(sample.height, 0.3), tags=tags, pip_requirements=[],
                )  # fmt: skip
        return self.nominate(version)

    def nominate(self, version: ModelVersion) -> ModelVersion:
        """Make a version the candidate."""
        record = {
            "model_version": version.version,
            "digest": version.digest,
            "baseline_run": self.baseline[0],
            "threshold": 0.3,
        }
        table = self.flow.product.table("candidate")
        self.flow.lakehouse.overwrite(table, pl.DataFrame([record]), Commit())
        return version

    def judge(self, version: ModelVersion, *, packaged: bool = False) -> dict[str, dict[str, Any]]:
        """Let the assets judge a candidate and try to promote it; gate to its last outcome.

        Raises:
            AssertionError: it was promoted, by the asset or by its function.
        """
        flow, before = self.flow, self.flow.registry.champion(self.flow.product.name)
        self._stopped("evaluation", passes=packaged)
        if packaged:
            self._stopped("bento")
        with suppress(dg.Failure):
            promote(flow.lakehouse, flow.registry, flow.product, version, "mutant", "", "")
        assert flow.registry.champion(flow.product.name) == before, "the alias moved"
        if packaged:
            assert flow.run("champion").error, "the asset champion let it pass"
        rows = flow.table(GATE_RESULTS).filter(digest=version.digest).sort("judged_at")
        return {row["gate"]: row for row in rows.iter_rows(named=True)}


@contextmanager
def sound_world(home: Path) -> Iterator[World]:
    """A lake on which a sound model has gone all the way and serves."""
    with opened(home, **DECLARED) as flow:
        world, graph = World(flow), flow.engine.graph
        view = dg.AssetSelection.assets(flow.product.key("feature_view")).upstream()
        days = [day.isoformat() for day in span(FIRST, TODAY)]
        for key in sorted(view.resolve(graph), key=graph.toposorted_asset_keys.index):
            partitioned = graph.get(key).is_partitioned
            done = flow.engine.run([key], days if partitioned else [])
            assert done.error is None, done.error
        world.materialize("training_set", fit_name(BASELINE), fit_name(BEST))
        world.materialize("leaderboard", "candidate", "evaluation", "bento", "champion")
        yield world


@contextmanager
def copy_of(world: World, **changes: Any) -> Iterator[World]:
    """A copy of the world to write to, with another declaration."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with copied(world.flow.home, home, **DECLARED | changes) as flow:
            yield World(flow)
