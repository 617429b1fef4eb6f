"""The checks of `mlops doctor`: is this environment whole, and does something do what is due?

Each check is a function that gives a finding and never raises: what it cannot look at has failed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from mlops_assets.components.ml_product import online_features
from mlops_assets.components.ml_product.incumbent import objections
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.provenance import newest_data_version
from mlops_assets.components.run_workers import abandoned
from mlops_assets.components.watchdog import signs
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.notifications import VARIABLE, Notifier
from mlops_assets.stores.online_store import OnlineStore, OnlineStoreError

HEARTBEAT_SECONDS = 30
"""Dagster's daemons report so often."""
LEAST_FREE_BYTES = 2**30
STOPPED_SECONDS = 24 * 3600
"""Time for which automation may be held while something is due."""
_CURSOR = "mlops/doctor"


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and what to do where it is not well."""

    check: str
    passed: bool
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class Environment:
    """What is looked at. `due` tells how many partitions the conditions ask for now."""

    home: Path
    instance: dg.DagsterInstance
    lake: Lakehouse
    models: ModelRegistry
    products: Iterable[Product]
    online: OnlineStore
    due: Callable[[], int]
    limit_seconds: float


def examine(environment: Environment, only: Iterable[str] = ()) -> Iterator[Finding]:
    """The findings of all checks, or of those named, in order.

    Raises:
        ValueError: naming the checks there are, if one is unknown.
    """
    if unknown := sorted(set(only) - set(CHECKS)):
        raise ValueError(f"no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    for name in only or CHECKS:
        try:
            yield from CHECKS[name](environment)
        except Exception as error:
            # Looking is the check: whatever stops it is the finding.
            yield Finding(name, False, f"cannot be looked at: {type(error).__name__}: {error}")


def _daemons(environment: Environment) -> Iterator[Finding]:
    """Each of Dagster's daemons has reported within the limit."""
    limit = environment.limit_seconds + HEARTBEAT_SECONDS
    beats = environment.instance.get_daemon_heartbeats()
    required = sorted(environment.instance.get_required_daemon_types())
    ages = {name: time.time() - beats[name].timestamp for name in required if name in beats}
    silent = [name for name in required if name not in ages]
    late = [f"{name} ({age:.0f} s)" for name, age in ages.items() if not -limit < age < limit]
    if silent or late:
        found = [f"never: {', '.join(silent)}"] * bool(silent) + [
            f"late: {', '.join(late)}"
        ] * bool(late)
        yield Finding(
            "daemon", False, f"no heartbeat within {limit:.0f} s: {'; '.join(found)}",
            "Start `mlops ui`, or the daemon's deployment; its log says why it ended.",
        )  # fmt: skip
    else:
        yield Finding(
            "daemon",
            True,
            f"{len(ages)} daemons, the last heartbeat {min(ages.values()):.0f} s ago",
        )


def _automation(environment: Environment) -> Iterator[Finding]:
    """The sensor has looked at the graph within the limit, and well."""
    found = signs(environment.instance)
    age = None if found.newest is None else time.time() - found.newest
    when = "never" if age is None else f"{age:.0f} s ago"
    if found.held:
        due = environment.due()
        long = age is None or age > STOPPED_SECONDS
        yield Finding(
            "automation", not (due and long),
            f"held by a person, last look {when}; {due} partitions are due",
            "Start the sensor `automation` in the UI, or do what is due with `mlops apply`.",
        )  # fmt: skip
    elif age is None or not -environment.limit_seconds < age < environment.limit_seconds:
        why = f"; the newest failed: {found.error}" if found.error else ""
        yield Finding(
            "automation", False,
            f"last good look {when}, at least every {environment.limit_seconds:.0f} s is due{why}",
            "See the ticks of `automation` in the UI, and the logs of daemon and code server;"
            " then start them anew.",
        )  # fmt: skip
    else:
        yield Finding("automation", True, f"last look {when}")


def _lake(environment: Environment) -> Iterator[Finding]:
    """The lake can be listed, written and read."""
    from deltalake.fs import DeltaStorageHandler

    lake = environment.lake
    tables = lake.tables()
    if "://" not in lake.uri:
        Path(lake.uri).mkdir(parents=True, exist_ok=True)
    probe = pl.DataFrame({"written_at": [datetime.now(UTC)]})
    name = f".doctor-{os.getpid()}.parquet"
    options = lake.storage_options or None
    probe.write_parquet(f"{lake.uri}/{name}", storage_options=options)
    back = pl.read_parquet(f"{lake.uri}/{name}", storage_options=options)
    DeltaStorageHandler(lake.uri, lake.storage_options).delete_file(name)
    same = back.equals(probe)
    yield Finding(
        "lake", same, f"{len(tables)} tables in {lake.uri}, read and written",
        "" if same else "What is read is not what was written; see the store.",
    )  # fmt: skip


def _online(environment: Environment) -> Iterator[Finding]:
    """The online store has what was published last; one that lost it is not filled by itself."""
    for product in environment.products:
        published = newest_data_version(
            environment.instance, dg.AssetKey([product.name, online_features.NAME])
        )
        if published is None:
            yield Finding("online", True, f"{product.name} has published nothing yet")
            continue
        try:
            there = environment.online.snapshot(product.name).generation
            said = f"{product.name} has generation {there[:12]}, published was {published[:12]}"
        except OnlineStoreError as error:
            there, said = None, str(error)
        yield Finding(
            "online", there == published, said,
            f"Publish it again: materialize {product.name}/{online_features.NAME}.",
        )  # fmt: skip


def _registry(environment: Environment) -> Iterator[Finding]:
    """The registry answers."""
    versions = sum(len(environment.models.versions(p.name)) for p in environment.products)
    yield Finding(
        "registry", True, f"{versions} model versions in {environment.models.tracking_uri}"
    )


def _dagster(environment: Environment) -> Iterator[Finding]:
    """Dagster's storage can be written and read."""
    now = datetime.now(UTC).isoformat()
    storage = environment.instance.run_storage
    storage.set_cursor_values({_CURSOR: now})
    well = storage.get_cursor_values({_CURSOR}).get(_CURSOR) == now
    yield Finding(
        "dagster", well, f"storage of {environment.instance.root_directory} written, read"
    )


def _disk(environment: Environment) -> Iterator[Finding]:
    """There is room."""
    free = shutil.disk_usage(environment.home).free
    yield Finding(
        "disk", free >= LEAST_FREE_BYTES,
        f"{free / 2**30:.1f} GiB free at {environment.home}, at least"
        f" {LEAST_FREE_BYTES / 2**30:.0f} GiB is due",
        "" if free >= LEAST_FREE_BYTES else "Make room; `mlops upkeep` says which files can go.",
    )  # fmt: skip


def _champions(environment: Environment) -> Iterator[Finding]:
    """What serves has passed its gates."""
    for product in environment.products:
        version = environment.models.champion(product.name)
        if version is None:
            yield Finding("champion", True, f"{product.name} has none yet")
            continue
        refused = objections(environment.lake, product.name, version)
        named = f"{product.name} version {version.version}"
        yield Finding(
            "champion", not refused,
            f"{named} {'did not pass ' + '; '.join(refused) if refused else 'passed its gates'}",
            f"`mlops rollback {product.name}` gives the alias to one that did." if refused else "",
        )  # fmt: skip


def _half_done(environment: Environment) -> Iterator[Finding]:
    """No run counts as started although its process has ended."""
    found = [run for run, _ in abandoned(environment.instance)]
    named = ", ".join(run.run_id[:8] for run in found)
    yield Finding(
        "runs", not found,
        f"{len(found)} started and their process is gone: {named}" if found else "none half-done",
        "Terminate them in the UI with the box ticked that forces it; what they would have made is"
        " asked for again." if found else "",
    )  # fmt: skip


def _notifications(environment: Environment) -> Iterator[Finding]:
    """Every address can be used; none is allowed."""
    notifier = Notifier.from_environment()
    bad = notifier.problems
    yield Finding(
        "notifications", not bad,
        "; ".join(bad) or (f"{len(notifier)} addresses" if len(notifier) else
                           f"{VARIABLE} is not set: messages are shown in the UI only"),
        "Write each as Apprise does, say mailto://… or json://…, separated by spaces.",
    )  # fmt: skip


CHECKS: dict[str, Callable[[Environment], Iterator[Finding]]] = {
    "daemon": _daemons,
    "automation": _automation,
    "lake": _lake,
    "online": _online,
    "registry": _registry,
    "dagster": _dagster,
    "disk": _disk,
    "champion": _champions,
    "runs": _half_done,
    "notifications": _notifications,
}
"""Name to check, in the order in which they are made."""
