"""What the servers of the comparison are started with: one model, one day of flights, in each form.

Under `folder/served`: the online store of the newest day, the contract, the Bento, MLflow's
package, and the bodies of the same flights as each server wants them.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from mlops_assets.stores.model_version import ModelVersion

ROWS = 256
"""Flights that are asked for in turn."""
THRESHOLD = "0.33"
UNSEEN = 20_000
"""Flights of which each is asked for once: the same ones, a microsecond later each."""
VERSION = ModelVersion("flight_delays", 1, "", "", {"family": "xgboost", "threshold": THRESHOLD})


def place(folder: str) -> Path:
    """Where all of it lies."""
    return Path(folder) / "served"


def make(folder: str, quick: bool) -> None:
    """Make all of it."""
    from benchmarks.data import lake, model, product
    from mlops_assets.components.ml_product.contract import contract_of
    from mlops_assets.components.ml_product.trial import requests_of
    from mlops_assets.stores.bento_store import BentoStore
    from mlops_assets.stores.model_package import package
    from mlops_assets.stores.online_features import Spine
    from mlops_assets.stores.online_snapshot import snapshot_of
    from mlops_assets.stores.online_store import open_store

    target, store, declared, champion = (
        place(folder), lake(folder), product(quick), model(folder, "champion"),
    )  # fmt: skip
    files = Path(folder) / "models" / "champion"
    day = date.fromisoformat(store.partitions("flight_delays/feature_view")[-2])
    rows = store.scan("flight_delays/feature_view", first=day, last=day).collect().head(ROWS)
    built = BentoStore(target / "bentos").build(
        name=declared.name, model_folder=files, contract=contract_of(declared, VERSION), labels={}
    )
    contract = built.contract
    spine = Spine(contract.spine_table, contract.spine_keys, contract.spine_columns)
    zone = declared.days.timezone
    tables = snapshot_of(store, declared.definitions, spine, day, lead=declared.lead, zone=zone)
    open_store(f"lmdb://{target / 'online'}").publish(declared.name, tables, datetime.now(UTC))
    features = rows.select(champion.columns.names)
    expected = champion.predict(features)
    package(
        files, target / "mlflow", inputs=features, outputs=expected, pip_requirements=[],
        run_id="benchmark",
    )  # fmt: skip
    requests = requests_of(store, contract, rows)
    known = (*contract.spine_keys, *contract.spine_columns)
    flights = store.scan(contract.spine_table, first=day, last=day).collect()
    whole = rows.select(contract.entity_keys).join(flights, on=contract.entity_keys).select(known)
    _write(target, "requests", requests)
    plain = [_plain(row) for row in features.to_dicts()]
    _write(target, "features", plain)
    _write(target, "bento", [{"features": row} for row in plain])
    # MLflow's server takes no null for a number, but NaN, which JSON does not have.
    numbers = set(champion.columns.numeric)
    records = [
        {k: float("nan") if v is None and k in numbers else v for k, v in row.items()}
        for row in plain
    ]
    _write(target, "records", [{"dataframe_records": [row]} for row in records])
    unseen = zip(range(UNSEEN), cycle(whole.to_dicts()), strict=False)
    _write(target, "unseen", [_moved(row, timedelta(microseconds=n)) for n, row in unseen])
    (target / "contract.json").write_text(contract.model_dump_json())
    said = {"tag": built.tag, "expected": expected.tolist()}
    (target / "said.json").write_text(json.dumps(said))


def _write(target: Path, name: str, bodies: list[Any]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{name}.json").write_text(json.dumps([json.dumps(body) for body in bodies]))


def _moved(row: dict[str, Any], later: timedelta) -> dict[str, Any]:
    return {k: (v + later).isoformat() if isinstance(v, datetime) else v for k, v in row.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row ready for JSON, in which there is no NaN."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
