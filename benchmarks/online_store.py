"""The embedded online store on the newest days of a real lake: LMDB, SQLite, and a Redis if given.

`MLOPS_HOME=… python -m benchmarks.online_store [redis://…]` prints one line a store: seconds to
publish, MB on disk, and microseconds (10th percentile, median, 99th) to read the chunks of one
flight's eight look-ups, and for the whole look-up. `times` is how often the keys are there, each
time under other names. The stores take turns at each row, so that a busy machine meets all of them
alike; its 10th percentile is near what a quiet one gives.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.defs.flight_delays.problem import spine
from mlops_assets.defs.nyc_flights.expressions import LEAD, NEW_YORK
from mlops_assets.defs.nyc_flights.features import DELAYS_BY
from mlops_assets.local import lake_uri
from mlops_assets.ml.online import Packed
from mlops_assets.ml.point_in_time import Definition
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.online_features import OnlineFeatures
from mlops_assets.stores.online_snapshot import snapshot_of
from mlops_assets.stores.online_store import (
    OnlineStore,
    Snapshot,
    Table,
    open_store,
)

PRODUCT = "flight_delays"
TABLES = [
    "nyc_flights/weather_known",
    "nyc_flights/scheduled_congestion",
    *(f"nyc_flights/{name}_delays" for name in DELAYS_BY),
]
ROWS, DAYS = 2000, 7


class SqliteStore(OnlineStore):
    """The same in one SQLite file a generation: a table of keys and chunks, read only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder
        self._open: sqlite3.Connection | None = None

    def _write(self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        self.folder.mkdir(parents=True)
        with sqlite3.connect(self.folder / "data.sqlite") as file:
            file.execute("pragma journal_mode = off")
            file.execute("create table chunk (key blob primary key, value blob) without rowid")
            file.executemany("insert into chunk values (?, ?)", chunks)
        file.close()
        self._snapshot = snapshot
        path = f"file:{self.folder / 'data.sqlite'}?mode=ro&immutable=1"
        self._open = sqlite3.connect(path, uri=True)
        self._open.execute("pragma mmap_size = 4294967296")

    def snapshot(self, product: str) -> Snapshot:
        return self._snapshot

    def get_many(self, snapshot: Snapshot, keys: Sequence[bytes]) -> list[bytes | None]:
        marks = ",".join("?" * len(keys))
        query = f"select key, value from chunk where key in ({marks})"
        found = dict(self._open.execute(query, keys))
        return [found.get(key) for key in keys]

    def chunks(self, snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
        yield from self._open.execute("select key, value from chunk")


class Recorded(OnlineStore):
    """A store that writes down how long its reads take."""

    def __init__(self, store: OnlineStore) -> None:
        self.store = store
        self.seconds: list[int] = []
        self.publish, self.snapshot = store.publish, store.snapshot
        self.write, self.chunks = store.write, store.chunks

    def get_many(self, snapshot: Snapshot, keys: Sequence[bytes]) -> list[bytes | None]:
        begun = time.perf_counter_ns()
        found = self.store.get_many(snapshot, keys)
        self.seconds.append(time.perf_counter_ns() - begun)
        return found


Recorded.__abstractmethods__ = frozenset()


def main() -> None:
    """Publish, look up, print."""
    lake = Lakehouse(lake_uri())
    last = date.fromisoformat(lake.partitions("nyc_flights/flight_schedule")[-1])
    first = last - timedelta(days=DAYS - 1)
    definitions = {name: DEFINITIONS[name] for name in TABLES}
    tables = snapshot_of(lake, definitions, None, first, lead=LEAD, zone=NEW_YORK)
    planned = spine(lake.scan("nyc_flights/flight_schedule", first=first, last=last))
    rows = planned.collect().sample(ROWS, seed=1).to_dicts()
    printed = Printed("times", "store", "publish s", "MB")
    for what in ("read us", "look-up us"):
        for column in (f"{what}: p10", "p50", "p99"):
            printed.add_column(column)
    for times in (1, 16):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            many = {name: _repeated(table, times) for name, table in tables.items()}
            measured = _measure(_stores(folder), many, definitions, rows)
            for name, figures in measured.items():
                size = _megabytes(folder / name)
                printed.add_row(str(times), name, figures[0], size, *figures[1:])
    Console().print(printed)


def _stores(folder: Path) -> dict[str, OnlineStore]:
    stores: dict[str, OnlineStore] = {
        "lmdb": open_store(f"lmdb://{folder / 'lmdb'}"),
        "sqlite": SqliteStore(folder / "sqlite"),
    }
    if len(sys.argv) > 1:
        stores["redis"] = open_store(sys.argv[1], timeout=30)
    return stores


def _measure(
    stores: dict[str, OnlineStore],
    tables: dict[str, Table],
    definitions: dict[str, Definition],
    rows: list[dict[str, Any]],
) -> dict[str, list[str]]:
    published, recorded = {}, {}
    for name, store in stores.items():
        begun = time.perf_counter()
        store.publish(PRODUCT, tables, datetime.now(UTC))
        published[name] = f"{time.perf_counter() - begun:.2f}"
        recorded[name] = Recorded(store)
    online = {name: OnlineFeatures(each, PRODUCT, definitions) for name, each in recorded.items()}
    looked: dict[str, list[int]] = {name: [] for name in stores}
    values: dict[int, Any] = {}
    for row in [*rows[:100], *rows]:
        for name, each in online.items():
            begun = time.perf_counter_ns()
            found = each.look_up([row])[0]
            looked[name].append(time.perf_counter_ns() - begun)
            if values.setdefault(id(row), found.values) != found.values:
                raise AssertionError(f"{name} answers otherwise than {next(iter(online))}")
    return {
        name: [published[name], *_quantiles(recorded[name].seconds), *_quantiles(looked[name])]
        for name in stores
    }


def _quantiles(nanoseconds: list[int]) -> list[str]:
    quantiles = np.quantile(nanoseconds[100:], (0.1, 0.5, 0.99))
    return [f"{value / 1000:.0f}" for value in quantiles]


def _repeated(table: Table, times: int) -> Table:
    """The same chunks under more keys, as of that many more entities."""
    chunks = dict(table.packed.chunks)
    for n in range(1, times):
        chunks |= {name + b"%d" % n: chunk for name, chunk in table.packed.chunks.items()}
    return Table(Packed(table.packed.layout, table.packed.keys * times, chunks), table.covered)


def _megabytes(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.exists() else []
    return f"{sum(file.stat().st_blocks * 512 for file in files) / 2**20:.1f}" if files else ""


if __name__ == "__main__":
    main()
