"""The demo's work as a plain script: what a team writes before it has a platform.

Calls the functions that the assets call, in the same order, and writes the same Delta tables.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from benchmarks.measure import Work
from mlops_assets.components.ml_product import drift, feature_view, performance, scoring
from mlops_assets.components.ml_product.contract import contract_of
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.report import Contender, evaluate, limits_of
from mlops_assets.components.ml_product.training_set import DAY, LABEL, labelled_rows
from mlops_assets.components.ml_product.trial import try_out
from mlops_assets.components.tables import function_of
from mlops_assets.defs.nyc_flights import contracts, features, raw
from mlops_assets.local import repository
from mlops_assets.ml.drift import Reference
from mlops_assets.ml.families import FitOptions, Labelled, family, save_model
from mlops_assets.ml.metrics import choose_threshold
from mlops_assets.ml.pictures import Curves, by_month_picture, drift_picture, evaluation_picture
from mlops_assets.ml.splits import split_by_day
from mlops_assets.stores.bento_store import BentoStore
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_version import ModelVersion

NAME = "flight_delays"
DAILY = {
    raw.flight_schedule: contracts.FlightSchedule,
    raw.flight_events: contracts.FlightEvents,
    raw.weather: contracts.Weather,
}
FEATURES = {
    raw.flight_events: [
        features.origin_delays,
        features.carrier_delays,
        features.carrier_origin_delays,
        features.route_delays,
        features.destination_delays,
        features.flight_number_delays,
    ],
    raw.weather: [features.weather_known],
    raw.flight_schedule: [features.scheduled_congestion],
}


def declared(name: str) -> Product:
    """A product as the code location loads it."""
    component: Any = dg.ComponentTree.for_project(repository()).load_component(name)
    return component.product(name)


class PlainFlow:
    """One lake, filled stage by stage; `stages` holds the seconds of each."""

    def __init__(
        self,
        home: Path,
        first: date,
        last: date,
        params: dict[str, Any],
        product: Product | None = None,
    ) -> None:
        self.params = params
        self.lake = Lakehouse(home / "lake")
        self.bentos = BentoStore(home / "bentos")
        self.first, self.last = first, last
        self.product = product or declared(NAME)
        self.labelled_through = last - timedelta(days=self.product.label.known_after_days)
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        yield
        self.stages[name] = time.perf_counter() - started

    def write_days(self, name: str, frame: pl.DataFrame) -> None:
        """A daily table, in one commit."""
        days = [str(day) for day in frame[DAY].unique().sort()]
        self.lake.overwrite_partitions(name, frame, by=DAY, partitions=days, commit=Commit())

    def tables(self) -> None:
        """Raw tables under their contracts, and the feature tables."""
        for asset, contract in DAILY.items():
            name = "/".join(asset.key.path)
            with self.stage(asset.key.path[-1]):
                good, _ = contract.filter(function_of(asset)(self.first, self.last))
                self.write_days(name, good)
        for source, assets in FEATURES.items():
            for asset in assets:
                with self.stage(asset.key.path[-1]):
                    rows = self.lake.scan("/".join(source.key.path))
                    table = function_of(asset)(rows).collect()
                    self.write_days("/".join(asset.key.path), table)

    def fits(self) -> dict[str, Any]:
        """The view, the training set, and each family with the parameters that are given."""
        product, settings = self.product, self.product.training
        with self.stage("feature_view"):
            view = feature_view.compute(self.lake, product, self.first, self.last)
            self.write_days(f"{NAME}/feature_view", view)
        with self.stage("training_set"):
            rows = labelled_rows(self.lake, product, None, settings.first_cutoff)
            self.lake.overwrite(f"{NAME}/training_set", rows, Commit())
        masks = split_by_day(rows[DAY], settings.first_cutoff, settings.validation_days)
        train, valid = (
            Labelled(part, part[LABEL].to_numpy()) for part in (rows.filter(m) for m in masks)
        )
        fitted = {}
        for name in (*settings.families, settings.baseline):
            with self.stage(f"fit_{name}"):
                chosen = family(name)
                options = FitOptions(settings.seed, settings.threads, settings.device)
                model = chosen.fit(train, valid, product.columns, self.params[name], options)
                threshold = choose_threshold(valid.label, model.predict(valid.frame))
                fitted[name] = (model, threshold)
        self.training_rows = rows
        return fitted

    def judge(self, fitted: dict[str, Any]) -> None:
        """The report with its pictures, and the Bento, tried."""
        product, cutoff = self.product, self.product.training.first_cutoff
        with self.stage("evaluation"):
            rows = labelled_rows(self.lake, product, cutoff, self.labelled_through)
            rows = rows.filter(pl.col(DAY) > cutoff)
            candidate, baseline = (
                Contender(role, model.predict(rows), threshold)
                for role, (model, threshold) in (
                    ("candidate", fitted["xgboost"]),
                    ("baseline", fitted[product.training.baseline]),
                )
            )
            limits = limits_of(product)
            report = evaluate(rows, product.target, candidate, baseline, None, limits)
            label = rows[LABEL].to_numpy()
            evaluation_picture({c.name: Curves.of(label, c.scores) for c in (candidate, baseline)})
            by_month_picture(report.segments.filter(pl.col("segment") == "month"))
        with self.stage("bento"), tempfile.TemporaryDirectory() as folder:
            model, threshold = fitted["xgboost"]
            save_model(model, Path(folder) / "model")
            tags = {"family": "xgboost", "threshold": repr(threshold)}
            version = ModelVersion(NAME, 1, "", "", tags=tags)
            files = Path(folder) / "model"
            built = self.bentos.build(
                name=NAME, model_folder=files, contract=contract_of(product, version), labels={}
            )
            try_out(self.lake, self.bentos, built.tag, rows, files, product)

    def watch(self, fitted: dict[str, Any]) -> None:
        """Predictions, performance and drift."""
        product, cutoff = self.product, self.product.training.first_cutoff
        model, threshold = fitted["xgboost"]
        first = cutoff + timedelta(days=1)
        tags = {"threshold": repr(threshold), "family": "xgboost", "cutoff": cutoff.isoformat()}
        version = ModelVersion(NAME, 1, "", "", tags=tags)
        with self.stage("predictions"):
            view = self.lake.scan(f"{NAME}/feature_view", first=first, last=self.last).collect()
            scored = scoring.revise(scoring.score(view, model, version, product), None, product)
            self.lake.append(f"{NAME}/predictions", scored, Commit(), by=DAY)
        with self.stage("performance"):
            events = self.lake.scan(product.label.table, first=first, last=self.last)
            labels = product.labels(events).collect()
            through = scored.filter(pl.col(DAY) <= self.labelled_through)
            self.write_days(
                f"{NAME}/performance", performance.performance(through, labels, product)
            )
        with self.stage("drift"):
            reference = self.training_rows.with_columns(
                pl.Series("probability", model.predict(self.training_rows))
            )
            keys = product.spine.entity_keys
            current = view.join(scored.select(*keys, "probability"), on=keys, how="left")
            days = view[DAY].unique().sort().to_list()
            known = Reference.of(
                reference,
                product.columns.numeric,
                product.columns.categorical,
                prediction="probability",
            )
            rows = drift.drift(known, current, days, product, version)
            self.write_days(f"{NAME}/drift", rows)
            drift_picture(rows)
            drift.report(product, reference, current, self.last)


def plain(folder: str, last: str, params: dict[str, Any]) -> Work:
    """All of it through a day, with these parameters of each family; tables alone without any."""
    stages: dict[str, float] = {}

    def run() -> None:
        flow = PlainFlow(Path(folder), date(2013, 1, 1), date.fromisoformat(last), params)
        flow.tables()
        if params:
            fitted = flow.fits()
            flow.judge(fitted)
            flow.watch(fitted)
        stages.update(flow.stages)

    return Work(run, parts=stages)
