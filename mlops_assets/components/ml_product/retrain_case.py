"""Stage 13: whether there is a case for retraining; reads only, and keeps nothing in mind.

A case is about one champion and stays open until another champion replaces it or a person settles
it. While it is open it is looked at again when the cool-down is over, so that any number of
drifting days is one case. What opens it are signals on any day since the last look; what became of
it are the rows of `retrain_decisions`. All days are the data's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import AUTOMATIC, waiting
from mlops_assets.components.ml_product.shadow import first_scored, serving
from mlops_assets.components.ml_product.signals import look
from mlops_assets.components.ml_product.training_set import DAY, DECISION
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.ml import signals
from mlops_assets.ml.signals import Signal
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "retrain_decisions"
RETRAIN, WAIT, ESCALATE = "retrain", "wait", "escalate"
CLOSED = "closed"
_STATES = {RETRAIN: "to be retrained", WAIT: "open", ESCALATE: "waits for a person"}

SCHEMA: dict[str, Any] = {
    "decision_id": pl.String, "case_id": pl.String, "number": pl.Int64, "review": pl.Int64,
    "opened": pl.Date, "opened_by": pl.String, "day": pl.Date, "champion": pl.Int64,
    "verdict": pl.String, "reason": pl.String, "by": pl.String, "mode": pl.String,
    "fired": pl.String, "signals": pl.String, "cutoff": pl.Date, "new_labels": pl.Int64,
    "probe_gain": pl.Float64, "probe_low": pl.Float64, "probe_high": pl.Float64,
    "probe_rows": pl.Int64, "probe_days": pl.Int64, "probe_note": pl.String,
    "cost_seconds": pl.Float64, "decided_at": pl.Datetime("us", "UTC"), "run_id": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A case that is due to be decided, for the `review`-th time, counted from 1."""

    id: str
    review: int
    opened: date
    opened_by: str
    day: date
    champion: int
    signals: tuple[Signal, ...]

    @property
    def fired(self) -> list[str]:
        """Names of the signals that fired."""
        return [signal.name for signal in self.signals if signal.fired]


def decisions(store: Lakehouse, product: Product) -> pl.DataFrame:
    """The rows of `retrain_decisions` in the order in which they were made, a person's last."""
    if not store.exists(product.table(NAME)):
        return pl.DataFrame(schema=SCHEMA)
    by_a_person = pl.col("by") != AUTOMATIC
    return store.scan(product.table(NAME)).sort("number", by_a_person).collect()


def carried_out(instance: dg.DagsterInstance, product: Product) -> set[str]:
    """Decisions for which a training set has been cut; the flow goes on from there by itself."""
    cut = instance.fetch_materializations(product.key(TRAINING_SET), limit=1000).records
    found = set()
    for record in cut:
        assert record.asset_materialization is not None
        named = record.asset_materialization.metadata.get(DECISION)
        found.add(str(named.value) if named else "")
    return found - {""}


def open_row(rows: pl.DataFrame, champion: int, done: set[str]) -> dict[str, Any] | None:
    """The newest decision if its case is still open, else None."""
    if rows.is_empty():
        return None
    row = rows.row(-1, named=True)
    if row["champion"] != champion:
        return None
    if row["verdict"] == RETRAIN:
        return row if row["decision_id"] not in done else None
    return row if row["by"] == AUTOMATIC else None


def to_launch(rows: pl.DataFrame, champion: int, done: set[str]) -> dict[str, Any] | None:
    """The decision that asks for a training set which has not been cut yet, or None."""
    row = open_row(rows, champion, done)
    return row if row and row["verdict"] == RETRAIN else None


def cases(rows: pl.DataFrame, champion: int, done: set[str]) -> pl.DataFrame:
    """One row a case, in order: its newest decision, how often it was looked at, its state."""
    row = open_row(rows, champion, done)
    open_one = row["decision_id"] if row else ""
    state = (
        pl.when(pl.col("decision_id") == open_one)
        .then(pl.col("verdict").replace(_STATES))
        .otherwise(pl.lit(CLOSED))
    )
    found = rows.group_by("case_id", maintain_order=True).agg(
        pl.col("opened", "opened_by", "champion").first(),
        pl.len().alias("decisions"),
        pl.col("decision_id", "day", "fired", "verdict", "reason", "by").last(),
    )
    return found.with_columns(state.alias("state")).drop("decision_id")


def today_of(store: Lakehouse, product: Product) -> date | None:
    """The newest day of the spine, None before the first."""
    if not store.exists(product.spine.table):
        return None
    return product.today(store.partitions(product.spine.table)[-1])


def due_case(
    store: Lakehouse, models: ModelRegistry, product: Product, today: date, done: set[str]
) -> Case | None:
    """The case that signals ask to decide now, or None.

    Args:
        store: the lake.
        models: the registry.
        product: the declaration.
        today: the data's own day.
        done: decisions that were carried out, see `carried_out`.
    """
    champion = incumbent(store, models, product.name)
    if champion is None:
        return None
    rows = decisions(store, product)
    # What was decided comes first, and a candidate that waits for approval.
    if to_launch(rows, champion.version, done) or waiting(store, product):
        return None
    first = _first_day(store, product, champion, rows)
    if first is None or first > today:
        return None
    found = look(store, models, product, champion, first, today)
    if not any(signal.fired for signal in found):
        return None
    return _case(rows, champion.version, done, today, AUTOMATIC, found, product)


def asked_case(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    today: date,
    done: set[str],
    by: str,
    reason: str,
) -> Case:
    """The case that a person asks to decide: the open one, or a new one."""
    champion = incumbent(store, models, product.name)
    rows = decisions(store, product)
    asked = signals.person(by, reason)
    if champion is None:
        return _case(rows, 0, done, today, by, [asked], product)
    found = look(store, models, product, champion, today, today)
    return _case(rows, champion.version, done, today, by, [*found, asked], product)


def _first_day(
    store: Lakehouse, product: Product, champion: ModelVersion, rows: pl.DataFrame
) -> date | None:
    """The first day on which a signal may ask; None while the champion has scored nothing."""
    scored = first_scored(store, product)
    found = serving(scored, scored[DAY][-1], product.periods) if scored.height else None
    if found is None or found.version != champion.version:
        return None
    since = [found.since, *(rows["day"].tail(1))]
    return max(since) + timedelta(days=product.retraining.cool_down_days)


def _case(
    rows: pl.DataFrame,
    champion: int,
    done: set[str],
    today: date,
    by: str,
    found: list[Signal],
    product: Product,
) -> Case:
    row = open_row(rows, champion, done)
    opened, opened_by = (row["opened"], row["opened_by"]) if row else (today, by)
    name = row["case_id"] if row else f"{product.name}-v{champion}-{today}"
    before = rows.filter(pl.col("case_id") == name)
    review = 1 + (int(before["review"].max()) if before.height else 0)  # type: ignore[arg-type]
    return Case(name, review, opened, opened_by, today, champion, tuple(found))
