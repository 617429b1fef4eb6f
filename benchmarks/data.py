"""The data of all comparisons: the real year of flights, and larger domains made of it.

A domain of n times the size is the year n times over, side by side: the same days, with other
airports, carriers or flight numbers. So every figure in it is a real one, and what is computed for
the first copy holds for all. Made once a folder, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.measure import Work
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_version import ModelVersion

if TYPE_CHECKING:
    from mlops_assets.components.ml_product.product import Product
    from mlops_assets.ml.families.xgboost import XGBoostModel

FIRST = date(2013, 1, 1)
SMALL_FEATURES = 25


def days_of(quick: bool) -> tuple[date, date, int]:
    """Last day, last day to train on, days to validate on."""
    return (
        (date(2013, 1, 24), date(2013, 1, 18), 4)
        if quick
        else (date(2013, 12, 30), date(2013, 7, 31), 31)
    )


def lake(folder: str) -> Lakehouse:
    """The lake of the year."""
    return Lakehouse(Path(folder) / "year" / "lake")


def product(quick: bool) -> Product:
    """The product, with a cut-off within the days there are."""
    from benchmarks.plain_flow import declared

    found = declared("flight_delays")
    _, cutoff, validation = days_of(quick)
    update = {"first_cutoff": cutoff, "validation_days": validation, "device": "cpu"}
    return replace(found, training=found.training.model_copy(update=update))


def columns(folder: str) -> tuple[list[str], list[str]]:
    """The product's features, numbers and categories, without loading the product."""
    numeric, categorical = json.loads((Path(folder) / "columns.json").read_text())
    return numeric, categorical


def model(folder: str, name: str) -> XGBoostModel:
    """One of the two fitted models: `champion`, or `small` with 100 trees on 25 columns."""
    from mlops_assets.ml.families import load_model

    found: Any = load_model(Path(folder) / "models" / name)
    return found


def version() -> ModelVersion:
    """What scoring reads of a registered version."""
    return ModelVersion("flight_delays", 1, "", "", tags={"threshold": "0.33", "family": "xgboost"})


# --- made once, each by `measure.in_own_process` -------------------------------------------------


def year(folder: str, quick: bool) -> Work:
    """The domain's tables, the feature view and the training set, as the product makes them."""

    def run() -> None:
        from benchmarks.plain_flow import PlainFlow
        from mlops_assets.components.ml_product import feature_view
        from mlops_assets.components.ml_product.training_set import labelled_rows

        flow = PlainFlow(Path(folder) / "year", FIRST, days_of(quick)[0], {}, product(quick))
        flow.tables()
        view = feature_view.compute(flow.lake, flow.product, flow.first, flow.last)
        flow.write_days("flight_delays/feature_view", view)
        rows = labelled_rows(flow.lake, flow.product, None, flow.product.training.first_cutoff)
        flow.lake.overwrite("flight_delays/training_set", rows, Commit())
        read = flow.product.columns
        (Path(folder) / "columns.json").write_text(json.dumps([read.numeric, read.categorical]))

    return Work(run)


def settled_home(folder: str, last: str) -> Work:
    """A home on which `mlops demo` has run through a day."""
    home = Path(folder) / "home"
    os.environ |= {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    from mlops_assets.cli import app

    def run() -> None:
        # Not as demo.py has it: a fit whose search is timed rests on other code.
        if status := app(["demo", "--through", last], standalone_mode=False):
            raise RuntimeError(f"mlops demo ended with {status}")

    return Work(run)


def corrected_source(folder: str, day: str) -> Work:
    """The source's files, where one flight of a day arrived an hour and a half late after all."""
    from mlops_assets.defs.nyc_flights.source import data_folder

    def run() -> None:
        target, when = Path(folder) / "source", date.fromisoformat(day)
        shutil.copytree(data_folder(), target, dirs_exist_ok=True)
        with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
            rows = pl.read_csv(archive.read("flights.csv"), null_values="NA")
        landed = (pl.date("year", "month", "day") == when) & pl.col("arr_delay").is_not_null()
        first = landed & (landed.cum_sum() == 1)
        late = (
            pl.when(first).then(pl.col("arr_delay") + 90).otherwise("arr_delay").alias("arr_delay")
        )
        text = rows.with_columns(late).write_csv(null_value="NA")
        with zipfile.ZipFile(target / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("flights.csv", text)

    return Work(run)


def models(folder: str, quick: bool) -> Work:
    """The product's champion, with its defaults, and a small model of 25 columns."""

    from mlops_assets.ml.families import (
        FeatureColumns,
        FitOptions,
        Labelled,
        family,
        save_model,
    )
    from mlops_assets.ml.splits import split_by_day

    def run() -> None:
        rows = lake(folder).scan("flight_delays/training_set").collect()
        declared = product(quick)
        settings, columns = declared.training, declared.columns
        masks = split_by_day(rows["date"], settings.first_cutoff, settings.validation_days)
        train, valid = (
            Labelled(part, part["label"].to_numpy()) for part in (rows.filter(m) for m in masks)
        )
        chosen, options = family("xgboost"), FitOptions(settings.seed, settings.threads)
        numeric = SMALL_FEATURES - len(columns.categorical)
        small = FeatureColumns(columns.numeric[:numeric], columns.categorical)
        few = {"rounds": 20} if quick else {}
        for name, read, params, judged in (
            ("champion", columns, few, valid),
            ("small", small, {"rounds": 20 if quick else 100}, None),
        ):
            fitted = chosen.fit(train, judged, read, params, options)
            save_model(fitted, Path(folder) / "models" / name)

    return Work(run)


def join_tables(folder: str, copies: int) -> Work:
    """Spine, delays and weather as Parquet files; each copy has its own carriers and airports."""

    def run() -> None:
        target = Path(folder) / f"join_{copies}"
        target.mkdir(parents=True, exist_ok=True)
        lead = timedelta(hours=2)
        store = lake(folder)
        spine = store.scan("nyc_flights/flight_schedule").select(
            "carrier", "origin", (pl.col("scheduled_departure") - lead).alias("prediction_time")
        )
        sums = ["arrivals", "late_arrivals", "arrival_delay"]
        keys = ["carrier", "origin", "available_at"]
        # One row a key and moment: an as-of join of the rivals takes any one of those that tie.
        delays = (
            store.scan("nyc_flights/carrier_origin_delays").group_by(keys).agg(pl.col(sums).sum())
        )
        weather = (
            store.scan("nyc_flights/weather_known")
            .sort("event_time")
            .unique(["origin", "available_at"], keep="last", maintain_order=True)
            .select("origin", "event_time", "available_at", "temperature_f", "wind_speed_mph")
        )
        for name, table in {"spine": spine, "delays": delays, "weather": weather}.items():
            rows = _beside(table.collect(), copies, ["carrier", "origin"])
            if name == "spine":
                rows = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
            rows.write_parquet(target / f"{name}.parquet")

    return Work(run)


def large_view(folder: str, copies: int, features: str) -> Work:
    """A feature view of a larger airline: each copy has flight numbers of its own."""

    def run() -> None:
        columns = model(folder, features).columns.names
        days = lake(folder).scan("flight_delays/feature_view").select(
            "date", "carrier", "flight", "origin", "prediction_time",
            *(c for c in columns if c not in ("carrier", "origin")),
        ).collect().partition_by("date")  # fmt: skip
        target = Lakehouse(Path(folder) / f"view_{copies}_{features}")

        def frames() -> Iterator[pl.DataFrame]:
            for day in days:
                yield pl.concat(
                    day.with_columns(pl.col("flight") + 10_000 * n) for n in range(copies)
                )

        target.append_frames("flight_delays/feature_view", frames(), Commit())

    return Work(run)


def served(folder: str, quick: bool) -> Work:
    """What the servers of benchmarks/serving.py are started with."""
    from benchmarks.served import make

    return Work(lambda: make(folder, quick))


def _beside(table: pl.DataFrame, copies: int, keys: list[str]) -> pl.DataFrame:
    own = [key for key in keys if key in table.columns]
    return pl.concat(table.with_columns(pl.col(own) + (f"{n}" if n else "")) for n in range(copies))
