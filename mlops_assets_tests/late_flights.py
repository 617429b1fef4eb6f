"""A small product to serve: a schedule, one feature table, a model, and its Bento, all real.

Sixty flights of one day leave from three airports, each with a history of two days.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.defs.nyc_flights.expressions import two_hours_before_departure
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, Model, family, save_model
from mlops_assets.ml.gates import REQUIRED
from mlops_assets.ml.point_in_time import Trailing, look_up
from mlops_assets.ml.serving_contract import Contract, RequestField, look_ups
from mlops_assets.stores.bento_store import BentoBuild, BentoStore
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion
from mlops_assets.stores.online_features import Spine
from mlops_assets.stores.online_snapshot import snapshot_of
from mlops_assets.stores.online_store import open_store

PRODUCT, SCHEDULE, HISTORY = "late_flights", "air/schedule", "air/origin_delays"
DAY = date(2013, 3, 8)
NEW_YORK = "America/New_York"
THRESHOLD = 0.4
KEYS = ("date", "carrier", "flight", "origin")
DEFINITION = Trailing(
    ("origin",), "origin", {"late_rate": ("late", "arrivals")}, {"24h": timedelta(hours=24)}
)
COLUMNS = FeatureColumns(
    ("scheduled_hour", "weekday", "scheduled_minutes", "distance", "origin_late_rate_24h"),
    ("carrier",),
)
REQUEST = (
    RequestField(name="carrier", type="string", example="UA", pattern="^[0-9A-Z]{2}$"),
    RequestField(name="flight", type="integer", example=100, least=1, most=9999),
    RequestField(name="origin", type="string", example="EWR"),
    RequestField(name="dest", type="string", example="BOS", description="Where to"),
    RequestField(name="scheduled_departure", type="datetime", example="2013-03-08T15:00:00Z"),
    RequestField(
        name="scheduled_arrival", type="datetime", example="2013-03-08T17:00:00Z", required=False
    ),
    RequestField(name="distance", type="integer", unit="miles", example=300, required=False),
)


def contract(**changes: Any) -> Contract:
    """The contract of version 1."""
    said = {
        "product": PRODUCT,
        "model_version": "1",
        "task": "binary",
        "family": "",
        "threshold": THRESHOLD,
        "numeric": COLUMNS.numeric,
        "categorical": COLUMNS.categorical,
        "request": REQUEST,
        "on_demand": "mlops_assets.defs.nyc_flights.expressions.two_hours_before_departure",
        "spine_table": SCHEDULE,
        "entity_keys": KEYS,
        "lookups": look_ups({HISTORY: DEFINITION}),
    }
    return Contract(**said | changes)


def schedule() -> pl.DataFrame:
    """Sixty flights of the day, one every quarter of an hour."""
    first = datetime(2013, 3, 8, 10, tzinfo=UTC)
    rows = [
        {
            "date": DAY,
            "carrier": ("UA", "DL", "B6")[n // 3 % 3],
            "flight": 100 + n,
            "origin": ("EWR", "JFK", "LGA")[n % 3],
            "dest": ("BOS", "ORD")[n % 2],
            "distance": 200 + 37 * n,
            "scheduled_departure": first + timedelta(minutes=15 * n),
            "scheduled_arrival": first + timedelta(minutes=15 * n + 60 + 3 * n),
        }
        for n in range(60)
    ]
    times = pl.col("scheduled_departure", "scheduled_arrival").cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows).with_columns(times)


def history() -> pl.DataFrame:
    """What became of flights at each airport, every twenty minutes."""
    random = np.random.default_rng(5)
    first = datetime(2013, 3, 7, 5, tzinfo=UTC)
    rows = [
        {
            "origin": origin,
            "available_at": first + timedelta(minutes=20 * n),
            "arrivals": int(random.integers(1, 6)),
            "late": int(random.integers(0, 2)),
        }
        for n in range(141)
        for origin in ("EWR", "JFK", "LGA")
    ]
    at = pl.col("available_at").cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows).with_columns(
        at, at.alias("event_time"), at.dt.convert_time_zone(NEW_YORK).dt.date().alias("date")
    )


def features() -> pl.DataFrame:
    """The feature view of the sixty flights, by the offline path."""
    derived = schedule().with_columns(two_hours_before_departure())
    return look_up(derived, history().lazy(), DEFINITION)


def requests() -> list[dict[str, Any]]:
    """What a caller asks for each of the flights."""
    names = ["carrier", "flight", "origin", "dest", "scheduled_departure"]
    return [
        row | {"scheduled_departure": row["scheduled_departure"].isoformat()}
        for row in schedule().select(names).to_dicts()
    ]


def fitted(name: str = "xgboost", seed: int = 7) -> Model:
    """A model of the features, of few rounds."""
    frame = pl.concat([features()] * 6)
    often = np.where(frame["carrier"].to_numpy() == "B6", 0.8, 0.2)
    late = np.random.default_rng(seed).random(frame.height) < often
    kind = family(name)
    few = {each: 20 for each in ("rounds", "epochs") if each in kind.defaults()}
    if "min_child_weight" in kind.defaults():
        few["min_child_weight"] = 1.0
    labelled = Labelled(frame, late.astype(float))
    return kind.fit(labelled, None, COLUMNS, few, FitOptions(seed=seed, threads=1))


def saved(folder: Path, name: str = "xgboost", seed: int = 7) -> Path:
    """Such a model's folder."""
    save_model(fitted(name, seed), folder)
    return folder


def fill(lake: Lakehouse) -> None:
    """Write the schedule and the history."""
    lake.append(SCHEDULE, schedule(), Commit(), by="date")
    lake.append(HISTORY, history(), Commit(), by="date")


def publish(lake: Lakehouse, uri: str) -> str:
    """Put what look-ups need into the online store; gives the generation."""
    there = contract()
    spine = Spine(SCHEDULE, there.spine_keys, there.spine_columns)
    tables = snapshot_of(
        lake, {HISTORY: DEFINITION}, spine, DAY, lead=timedelta(hours=2), zone=NEW_YORK
    )
    return open_store(uri).publish(PRODUCT, tables, datetime.now(UTC))


def trial(folder: Path, **more: str) -> dict[str, str]:
    """Settings of a server that needs neither lake nor registry; the store is filled."""
    lake = Lakehouse(folder / "lake")
    fill(lake)
    uri = f"lmdb://{folder / 'online'}"
    publish(lake, uri)
    log = str(folder / "requests")
    return {
        "MLOPS_SERVE": "trial", "MLOPS_ONLINE_STORE": uri, "MLOPS_REQUEST_LOG": log, **more
    }  # fmt: skip


class World:
    """A lake, a registry and Bentos in which versions are registered, packaged and promoted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lake = Lakehouse(home / "lake")
        self.models = ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
        self.bentos = BentoStore(home / "bentos")
        self.log = home / "requests"
        fill(self.lake)
        self.uri = f"lmdb://{home / 'online'}"
        publish(self.lake, self.uri)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a server that follows this registry."""
        return {
            "MLOPS_LAKE_URI": str(self.home / "lake"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.home / 'mlflow.db'}",
            "MLOPS_ONLINE_STORE": self.uri,
            "MLOPS_REQUEST_LOG": str(self.log),
        }

    def register(self, seed: int) -> ModelVersion:
        """A new version, not yet judged."""
        folder = saved(self.home / f"model-{seed}", seed=seed)
        tags = {"family": "xgboost", "threshold": str(THRESHOLD)}
        with self.models.training_run(PRODUCT, tags={}) as run:
            return self.models.register(
                run,
                PRODUCT,
                folder,
                inputs=features().select(COLUMNS.names),
                outputs=np.zeros(2),
                tags=tags,
                pip_requirements=["xgboost"],
            )

    def package(self, version: ModelVersion) -> BentoBuild:
        """The Bento of a version, named by its tags."""
        built = self.bentos.build(
            name=PRODUCT,
            model_folder=self.models.download(version),
            contract=contract(model_version=str(version.version)),
            labels={},
        )
        self.tag(version, built.tag, built.contract.hash)
        return built

    def tag(self, version: ModelVersion, bento: str, contract_hash: str) -> None:
        """Name a version's Bento and contract."""
        self.models.set_tags(PRODUCT, version.version, {"bento": bento, "contract": contract_hash})

    def judge(self, version: ModelVersion) -> None:
        """Let it pass every gate."""
        rows = [
            {"model_version": version.version, "digest": version.digest, "gate": gate,
             "passed": True, "detail": "", "judged_at": datetime.now(UTC)}
            for gate in sorted(REQUIRED)
        ]  # fmt: skip
        self.lake.append(f"{PRODUCT}/gate_results", pl.DataFrame(rows), Commit())

    def promote(self, version: ModelVersion) -> None:
        """Say that it was promoted, then move the alias, as the product does."""
        row = {"model_version": version.version, "digest": version.digest, "status": "promoted",
               "decided_at": datetime.now(UTC)}  # fmt: skip
        self.lake.append(f"{PRODUCT}/promotions", pl.DataFrame([row]), Commit())
        self.models.set_alias(PRODUCT, CHAMPION, version.version)
