"""A look at a home from outside, after whatever befell it: is each store whole, and do they agree?

Plain readers of Delta, SQLite and the Dagster instance; nothing of the graph is loaded. Databases
are looked at in a copy, since whoever opens one may also mend it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import polars as pl
from deltalake.exceptions import DeltaError

from mlops_assets.ml.gates import REQUIRED
from mlops_assets.stores.content import content_hash, content_hashes
from mlops_assets.stores.lakehouse import Lakehouse, TableNotFound

PRODUCT = "flight_delays"
DATA_VERSION = "dagster/data_version"
# Of these the data version is not the content of the table of their name.
_OTHER_VERSIONS = {
    "candidate", "bento", "champion", "evaluation", "model_card", "online_features",
}  # fmt: skip
# What differs from one run of the same program to the next; gates measure time and memory too.
_VOLATILE = {
    "run_id", "baseline_run", "seconds", "search_seconds", "judged_at", "decided_at", "path",
    "detail", "training_set_version", "card", "published_at", "delta_version",
}  # fmt: skip


def audit(home: Path) -> list[str]:
    """What is wrong with `home`; empty when nothing is."""
    lake = Lakehouse(home / "lake")
    with _copied_databases(home) as copy:
        if found := [*_databases(copy), *_tables(lake)]:
            return found
        with _instance(copy) as instance:
            found += _events(instance, lake) if instance else []
        return [*found, *_predictions(lake), *_champion(copy, lake)]


def differences(home: Path, control: Path, *, but: Iterable[str] = ()) -> list[str]:
    """Tables, `but` some, whose content is not the control's, other than ids, times and timings."""
    ours, theirs = Lakehouse(home / "lake"), Lakehouse(control / "lake")
    found = []
    if ours.tables() != theirs.tables():
        found.append(f"tables are {set(ours.tables()) ^ set(theirs.tables())} apart")
    for name in (set(ours.tables()) & set(theirs.tables())).difference(but):
        if content_hash(_lasting(ours, name)) != content_hash(_lasting(theirs, name)):
            found.append(f"{name} differs from the control's")
    return found


def _lasting(lake: Lakehouse, table: str) -> pl.DataFrame:
    frame = lake.scan(table).collect()
    if table.endswith("/gate_results"):
        # How often a Bento was asked, and which of its limits was nearer, lies in how long its
        # answers took.
        lasting = [pl.when(pl.col("stage") != "bento").then(n).alias(n) for n in ("rows", "limit")]
        frame = frame.drop("value", "margin", "low", "high").with_columns(lasting)
    frame = frame.drop(_VOLATILE & set(frame.columns))
    # Rows that say what happened are appended; a step that is done again says so again.
    return frame.unique() if table.endswith(("/gate_results", "/promotions")) else frame


def made_again(home: Path) -> dict[str, int]:
    """Asset to how many of its partitions were materialized more often than once."""
    again: dict[str, int] = {}
    with _copied_databases(home) as copy, _instance(copy) as instance:
        assert instance is not None
        for key in instance.all_asset_keys():
            events = _materializations(instance, key)
            if (extra := len(events) - len({event.partition for event in events})) > 0:
                again[key.to_user_string()] = extra
    return again


def _databases(home: Path) -> Iterator[str]:
    for file in [*home.glob("*.db"), *home.glob("dagster/*/*.db")]:
        with closing(sqlite3.connect(file, timeout=10)) as connection:
            try:
                answer = connection.execute("PRAGMA integrity_check").fetchall()
            except sqlite3.DatabaseError as error:
                answer = [(str(error),)]
        if answer != [("ok",)]:
            yield f"{file}: {answer}"


def _tables(lake: Lakehouse) -> Iterator[str]:
    for name in lake.tables():
        try:
            files = [Path(uri) for uri in lake.delta(name).file_uris()]
        except (DeltaError, TableNotFound) as error:
            yield f"{name} does not open: {error}"
            continue
        if lost := [file for file in files if not file.exists()]:
            yield f"{name} version {lake.version(name)}: {len(lost)} files are not there: {lost[0]}"


def _events(instance: dg.DagsterInstance, lake: Lakehouse) -> Iterator[str]:
    """Whether what Dagster says was made is in the lake, with that content."""
    for key in instance.all_asset_keys():
        name = key.to_user_string()
        newest = {event.partition: event for event in _materializations(instance, key)}
        if not newest or key.path[-1] in _OTHER_VERSIONS or key.path[-1].startswith("fit_"):
            continue
        if not lake.exists(name):
            yield f"{name} was materialized, and there is no such table"
            continue
        frame = lake.scan(name).collect()
        there = {None: content_hash(frame)} if None in newest else content_hashes(frame, "date")
        empty = content_hash(frame.clear())
        for partition, event in newest.items():
            said = (event.tags or {}).get(DATA_VERSION)
            if said != there.get(partition, empty):
                yield f"{name} {partition or ''}: materialized as {said}, the lake has another"


def _materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> list[dg.AssetMaterialization]:
    """All of an asset, oldest first."""
    records = instance.fetch_materializations(key, limit=10_000, ascending=True).records
    return [record.asset_materialization for record in records]


def _predictions(lake: Lakehouse) -> Iterator[str]:
    name = f"{PRODUCT}/predictions"
    if lake.exists(name):
        ids = lake.scan(name).select("prediction_id").collect()
        if twice := ids.height - ids.n_unique():
            yield f"{name}: {twice} ids are there twice"


def _champion(home: Path, lake: Lakehouse) -> Iterator[str]:
    """Whether the alias names a version with a promotion and all gates passed."""
    query = """
        select alias.version, tag.value from registered_model_aliases alias
        left join model_version_tags tag using (name, version)
        where name = ? and alias = 'champion' and tag.key = 'digest'"""
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        if not connection.execute(
            "select 1 from sqlite_master where name = 'model_version_tags'"
        ).fetchall():
            return
        champions = connection.execute(query, [PRODUCT]).fetchall()
    for version, digest in champions:
        promotions = lake.scan(f"{PRODUCT}/promotions").collect()
        if promotions.filter(digest=digest, status="promoted").is_empty():
            yield f"champion {version} has no row in promotions"
        results = lake.scan(f"{PRODUCT}/gate_results").filter(digest=digest).collect()
        last = results.sort("judged_at").group_by("gate").last()
        if lacking := REQUIRED - set(last.filter("passed")["gate"]):
            yield f"champion {version} has not passed {sorted(lacking)}"


@contextmanager
def _copied_databases(home: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        (copy / "dagster").mkdir()
        for file in [
            *home.glob("*.db*"),
            *home.glob("dagster/*.yaml"),
            *home.glob("dagster/*/*.db*"),
        ]:
            target = copy / file.relative_to(home)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
        yield copy


@contextmanager
def _instance(home: Path) -> Iterator[dg.DagsterInstance | None]:
    """The Dagster instance of `home`, if there is one yet."""
    if not (home / "dagster" / "dagster.yaml").exists():
        yield None
        return
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before
