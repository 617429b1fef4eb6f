"""What people are told of, in plain words: from events of the instance and rows of the lake.

A message follows from what happened alone, so that who looks twice gives the same message, with the
same key, twice. Sending it once is outbox.py's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.promotion import PROMOTIONS
from mlops_assets.components.ml_product.retrain_case import ESCALATE, RETRAIN, WAIT
from mlops_assets.components.ml_product.retrain_case import NAME as DECISIONS
from mlops_assets.stores.lakehouse import Lakehouse, TableNotFound
from mlops_assets.stores.notifications import Message

UI = "MLOPS_DAGSTER_UI"
"""Variable with the base address of the Dagster UI, for links."""
_PAGE = 1000

Row = dict[str, Any]
Told = tuple[Product, Callable[[Product, Row], Message]]
"""Whose table it is, and how a row of it is told."""


def asset_link(key: dg.AssetKey) -> str:
    """Where the UI shows an asset."""
    return f"{_ui()}/assets/{'/'.join(key.path)}"


def run_link(run_id: str) -> str:
    """Where the UI shows a run."""
    return f"{_ui()}/runs/{run_id}"


def _ui() -> str:
    return os.environ.get(UI, "http://127.0.0.1:3000").rstrip("/")


# --- events ------------------------------------------------------------------------------------


def _records(
    instance: dg.DagsterInstance, chosen: dg.EventRecordsFilter, **options: Any
) -> Sequence[dg.EventLogRecord]:
    # The instance has no call of its own for evaluations of checks, whatever their asset.
    return instance.event_log_storage.get_event_records(chosen, **options)


def newest_event(instance: dg.DagsterInstance) -> int:
    """Storage id of the newest event that `of_events` looks at; 0 for none."""
    found = [
        records[0].storage_id
        for kind in _OF_EVENTS
        if (records := _records(instance, dg.EventRecordsFilter(kind), limit=1))
    ]
    return max(found, default=0)


def of_events(
    instance: dg.DagsterInstance, graph: dg.AssetGraph, after: int
) -> tuple[list[Message], int]:
    """Messages on failed runs and failed blocking checks after a storage id, and the next id."""
    records = sorted(
        (
            record
            for kind in _OF_EVENTS
            for record in _records(
                instance,
                dg.EventRecordsFilter(kind, after_cursor=after),
                limit=_PAGE,
                ascending=True,
            )
        ),
        key=lambda record: record.storage_id,
    )
    # A kind whose page is full has more behind it; the others must not run ahead of it.
    taken = records[:_PAGE]
    failed = [
        _run_failed(instance, r) for r in taken if _kind(r) == dg.DagsterEventType.RUN_FAILURE
    ]
    checks = [r for r in taken if _kind(r) != dg.DagsterEventType.RUN_FAILURE]
    messages = [m for m in failed if m is not None] + list(_checks_failed(checks, graph))
    return messages, taken[-1].storage_id if taken else after


def _kind(record: dg.EventLogRecord) -> dg.DagsterEventType | None:
    event = record.event_log_entry.dagster_event
    return event.event_type if event else None


_OF_EVENTS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION)


def _run_failed(instance: dg.DagsterInstance, record: dg.EventLogRecord) -> Message | None:
    run = instance.get_run_by_id(record.run_id)
    # A run of a command in a terminal has no origin; who typed it sees it.
    if run is None or run.remote_job_origin is None:
        return None
    names = [key.to_user_string() for key in sorted(run.asset_selection or ())]
    what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" if names else ""
    partition = run.tags.get("dagster/partition", "")
    about = " ".join(part for part in (what or run.job_name, partition) if part)
    return Message(
        f"run_failed:{run.run_id}", f"Run failed: {about}",
        f"{_error(instance, run.run_id)} What it was to make is as it was before.",
        run_link(run.run_id), "bad",
    )  # fmt: skip


def _error(instance: dg.DagsterInstance, run_id: str) -> str:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    for record in records:
        event = record.event_log_entry.dagster_event
        error = event.step_failure_data.error if event else None
        if error is not None:
            cause = error.cause if error.cause and "Error occurred" in error.message else error
            return cause.message.strip().split(": ", 1)[-1][:500]
    return "It ended without a word from a step."


def _checks_failed(records: Iterable[dg.EventLogRecord], graph: dg.AssetGraph) -> Iterator[Message]:
    """One message a run and check, however many days it failed on."""
    failed: dict[tuple[str, dg.AssetCheckKey], list[Any]] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        evaluation: Any = event.event_specific_data if event else None
        if evaluation is None or evaluation.passed:
            continue
        key = evaluation.asset_check_key
        blocking = evaluation.blocking or (
            key in graph.asset_check_keys and graph.get_check_spec(key).blocking
        )
        if blocking:
            failed.setdefault((record.run_id, key), []).append(evaluation)
    for (run_id, key), evaluations in failed.items():
        days = sorted({e.partition for e in evaluations if e.partition})
        named = f" on {days[0]}" if len(days) == 1 else f" on {len(days)} days" if days else ""
        asset = key.asset_key
        yield Message(
            f"check_failed:{run_id}:{asset.to_user_string()}:{key.name}",
            f"Check failed: {asset.to_user_string()}, {key.name}{named}",
            f"{evaluations[0].description or 'It says no more.'} What depends on it waits.",
            asset_link(asset), "bad",
        )  # fmt: skip


# --- rows --------------------------------------------------------------------------------------


def tables(products: Iterable[Product]) -> dict[str, Told]:
    """Tables whose new rows people are told of, and how."""
    found: dict[str, Told] = {}
    for product in products:
        found[product.table(PROMOTIONS)] = (product, of_promotion)
        found[product.table(DECISIONS)] = (product, of_decision)
    return found


def new_rows(lake: Lakehouse, table: str, since: int | None) -> tuple[list[Row], int | None]:
    """Rows of a table that it did not have at a version (None: it was not there), and its version.

    A version that cannot be read any more counts as none: every row is new then.
    """
    if not lake.exists(table):
        return [], None
    version = lake.version(table)
    if version == since:
        return [], version
    rows = lake.scan(table).sort("decided_at").collect()
    if since is not None:
        try:
            before = lake.scan(table, version=since).collect()
        except (TableNotFound, FileNotFoundError):
            before = rows.clear()
        key = [c for c in ("decision_id", "digest", "status", "decided_at") if c in rows.columns]
        rows = rows.join(before.select(key).unique(), on=key, how="anti", nulls_equal=True)
    return rows.sort("decided_at").to_dicts(), version


def of_promotion(product: Product, row: Row) -> Message:
    """A candidate waits for a person, serves, or went."""
    name, version, link = product.name, row["model_version"], asset_link(product.key(CHAMPION))
    key = f"promotion:{name}:{version}:{row['status']}:{row['decided_at']}"
    why = f" Reason: {row['reason']}." if row["reason"] else ""
    if row["status"] == "waiting":
        return Message(
            key, f"{name}: version {version} waits for approval",
            f"By {row['by']}.{why} `mlops approve {name} --by NAME` lets it serve; until then the"
            " present champion does.",
            link, "attention",
        )  # fmt: skip
    if row["status"] == "promoted":
        return Message(
            key, f"{name}: version {version} serves now", f"By {row['by']}.{why}", link, "good"
        )
    return Message(
        key, f"{name}: version {version} {row['status'].replace('_', ' ')}",
        f"By {row['by']}.{why}", link, "attention",
    )  # fmt: skip


def of_decision(product: Product, row: Row) -> Message:
    """A retrain case was opened, or decided again."""
    name, verdict = product.name, row["verdict"]
    says = {
        RETRAIN: f"Decided: retrain on labels through {row['cutoff']}.",
        WAIT: "Decided: wait, and look again after the cool-down.",
        ESCALATE: f"A person must decide: `mlops decide {name} --verdict retrain --by NAME`.",
    }.get(verdict, f"Decided: {verdict}.")
    if verdict == RETRAIN and row["mode"] != "auto":
        says += f" The mode is {row['mode']}: a person launches it."
    what = "retrain case opened" if row["review"] == 1 else f"retrain case, look {row['review']}"
    return Message(
        f"decision:{row['decision_id']}",
        f"{name}: {'needs a person, ' if verdict == ESCALATE else ''}{what} on {row['day']}",
        f"{says} {row['reason']}. Signals: {row['fired'] or 'none'}; opened by {row['opened_by']}.",
        asset_link(product.key(DECISIONS)),
        "attention" if verdict == ESCALATE else "info",
    )


def as_versions(lake: Lakehouse, names: Iterable[str]) -> dict[str, int | None]:
    """The versions of tables now, None where there is no such table."""
    return {name: lake.version(name) if lake.exists(name) else None for name in names}
