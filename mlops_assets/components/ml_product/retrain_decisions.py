"""Stage 13: retrain cases, decided; one row a decision, with all its signals and numbers.

The job `<product>_consider` makes it, by the watch or by a person; automation conditions never do.
The evidence decides (ml/verdict.py) unless a person does. Nothing is launched here: sensors.py
reads the rows. A decision has its own partition, so that the same one made twice, by a run that
was killed and repeated or by two daemons, is one row.
"""

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product import drift, performance
from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.probe import evidence
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import AUTOMATIC
from mlops_assets.components.ml_product.retrain_case import (
    NAME,
    RETRAIN,
    SCHEMA,
    WAIT,
    Case,
    asked_case,
    carried_out,
    decisions,
    due_case,
    today_of,
)
from mlops_assets.components.ml_product.training_set import NEWEST, asked_cutoff
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.verdict import Evidence, decide
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

KEY = "decision_id"
_NUMBERS = ["probe_gain", "probe_low", "probe_high", "probe_rows", "probe_days", "new_labels",
            "cost_seconds"]  # fmt: skip


class Considered(dg.Config):
    """What a person asks or says; all empty for a case that signals opened."""

    opened_by: str = Field(
        default="", description="Your name: decide now, whether or not a signal fired."
    )
    verdict: str = Field(
        default="", description="retrain or wait, to settle the case; empty lets evidence decide."
    )
    reason: str = Field(default="", description="Why, for those who read it later.")
    cutoff: str = Field(
        default="",
        description="With retrain: last local day to train on (YYYY-MM-DD), or newest.",
    )

    def checked(self, product: str) -> "Considered":
        """Itself.

        Raises:
            dagster.Failure: a verdict that is none, or one that nobody signs.
        """
        if self.verdict not in ("", RETRAIN, WAIT):
            raise dg.Failure(
                f"{product}: verdict {self.verdict!r} is none; write {RETRAIN} or {WAIT}, or leave"
                " it empty to let the evidence decide.",
                allow_retries=False,
            )
        if self.verdict and not self.opened_by:
            raise dg.Failure(
                f"{product}: the verdict {self.verdict} needs opened_by, the name of the person"
                " who decides.",
                allow_retries=False,
            )
        return self


def consider_job(product: Product) -> Any:
    """Decide the case that is due; in the Launchpad a person opens or settles one."""
    return dg.define_asset_job(
        f"{product.name}_consider",
        selection=dg.AssetSelection.assets(product.key(NAME)),
        description="Gather the evidence on the retrain case that is due and decide it; with"
        " opened_by, open or settle one as a person.",
    )


def decisions_asset(product: Product) -> dg.AssetsDefinition:
    """The asset; it has no automation condition, sensors and people launch it."""

    @product.asset(
        NAME,
        product.code_version(decide, product.retraining),
        description="Decided retrain cases: retrain, wait, or escalate to a person; why, and on"
        " what evidence.",
        deps=[product.key(performance.NAME), product.key(drift.NAME)],
    )
    def asset(
        context: dg.AssetExecutionContext,
        config: Considered,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models = lakehouse.store, registry.store
        asked = config.checked(product.name)
        today = today_of(store, product)
        if today is None:
            raise dg.Failure(f"{product.name}: {product.spine.table} has no day yet")
        done = carried_out(context.instance, product)
        if asked.opened_by:
            case: Case | None = asked_case(
                store, models, product, today, done, asked.opened_by, asked.reason
            )
        else:
            case = due_case(store, models, product, today, done)
        if case is None:
            return _result(decisions(store, product), None)
        row = decision(store, models, product, case, asked)
        write(store, product, row, context.run.run_id)
        return _result(decisions(store, product), row)

    return asset


def decision(
    store: Lakehouse, models: ModelRegistry, product: Product, case: Case, asked: Considered
) -> dict[str, Any]:
    """The row of a case: gather the evidence and decide, or take a person's word."""
    found, limits = _found(store, models, product, case, asked), product.retraining
    verdict: str
    if asked.verdict:
        verdict, reason, by = asked.verdict, asked.reason or "a person decided", asked.opened_by
        cutoff: date | None = asked_cutoff(store, product, asked.cutoff or NEWEST)
    else:
        by, cutoff = AUTOMATIC, found.cutoff
        verdict, reason = decide(
            case.signals,
            found,
            margin=product.margins.probe,
            min_new_labels=limits.min_new_labels,
            unit=product.target.unit,
        )
    there = decisions(store, product)
    return {
        # A person may settle what automation decides at the same moment; both rows stay.
        KEY: f"{case.id}.{case.review}" + ("" if by == AUTOMATIC else "-by-a-person"),
        "case_id": case.id,
        "number": there.height + 1,
        "review": case.review,
        "opened": case.opened,
        "opened_by": case.opened_by,
        "day": case.day,
        "champion": case.champion,
        "verdict": verdict,
        "reason": reason,
        "by": by,
        "mode": limits.mode,
        "fired": ", ".join(case.fired),
        "signals": json.dumps([asdict(signal) for signal in case.signals]),
        "cutoff": cutoff if verdict == RETRAIN else None,
        **_numbers(found),
        "decided_at": datetime.now(UTC),
    }


def write(store: Lakehouse, product: Product, row: dict[str, Any], run_id: str) -> None:
    """Add a decision, unless it is there."""
    there = decisions(store, product)
    if row[KEY] in set(there[KEY]):
        return
    frame = pl.DataFrame([row | {"run_id": run_id}], schema=SCHEMA)
    commit = Commit(run_id=run_id, note=f"{row['case_id']}: {row['verdict']}")
    store.overwrite_partitions(
        product.table(NAME), frame, by=KEY, partitions=[row[KEY]], commit=commit
    )


def _found(
    store: Lakehouse, models: ModelRegistry, product: Product, case: Case, asked: Considered
) -> Evidence:
    champion = incumbent(store, models, product.name)
    if champion is None:
        return Evidence(0, None, None, 0, 0, "there is no champion yet", None)
    why = f"settled by {asked.opened_by}" if asked.verdict else ""
    return evidence(store, models, product, champion, case.day, asked=why)


def _numbers(found: Evidence) -> dict[str, Any]:
    probe = found.probe
    return {
        "new_labels": found.new_labels,
        "probe_gain": probe.value if probe else None,
        "probe_low": probe.low if probe else None,
        "probe_high": probe.high if probe else None,
        "probe_rows": found.probe_rows,
        "probe_days": found.probe_days,
        "probe_note": found.note,
        "cost_seconds": found.cost_seconds,
    }


def _result(rows: pl.DataFrame, row: dict[str, Any] | None) -> dg.MaterializeResult[Any]:
    data_version = dg.DataVersion(combine(decisions=",".join(sorted(rows[KEY]))))
    if row is None:
        shown: dict[str, Any] = {"decision": "no case is due"}
        return dg.MaterializeResult(data_version=data_version, metadata=shown)
    numbers = pl.DataFrame({"number": _NUMBERS, "value": [row[n] for n in _NUMBERS]}, strict=False)
    fired = pl.DataFrame(json.loads(row["signals"]), infer_schema_length=None)
    return dg.MaterializeResult(
        data_version=data_version,
        metadata={
            "rows": rows.height,
            "decision": row[KEY],
            "verdict": row["verdict"],
            "reason": row["reason"],
            "by": row["by"],
            "day": _text(row["day"]),
            "cutoff": _text(row["cutoff"]),
            "model_version": row["champion"],
            "signals": table(fired),
            "evidence": table(numbers),
            "probe": row["probe_note"],
        },
    )


def _text(day: date | None) -> str:
    return day.isoformat() if day else ""
