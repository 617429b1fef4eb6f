"""Stage 5: the report on the candidate, and the gates.

Judged are the labelled days after the cut-off that the candidate and the champion say they were
trained through; that it is true is one of the gates. No thresholds here; they are the product's.
Every outcome is a row in `gate_results` and a blocking check on the asset.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import picture, table
from mlops_assets.components.ml_product.compliance import judge_compliance, licences_of
from mlops_assets.components.ml_product.evidence import baseline_trained, recompute, trained
from mlops_assets.components.ml_product.incumbent import GATE_RESULTS, incumbent, known_version
from mlops_assets.components.ml_product.origin import described, evaluated, fitted_rows
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.report import (
    Contender,
    Report,
    evaluate,
    limits_of,
    summary_table,
)
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.ml_product.training import MODEL_FOLDER
from mlops_assets.components.ml_product.training_set import (
    LABEL,
    days_of_rows,
    labelled_rows,
    newest_labelled_day,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.evaluation_pictures import evaluation_pictures
from mlops_assets.ml.families import load_model
from mlops_assets.ml.gates import JUDGED, GateOutcome
from mlops_assets.ml.row_gates import (
    distinct_rows,
    enough_rows,
    known_in_time,
    same_schema,
    untouched_rows,
)
from mlops_assets.ml.targets import Target
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import DigestMismatch, ModelRegistry, ModelVersion
from mlops_assets.stores.model_version import threshold_of

NAME = "evaluation"
SEGMENTS = "evaluation_segments"


def evaluation_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with one blocking check a gate."""
    key = product.key(NAME)

    @product.asset(
        NAME,
        product.code_version(
            evaluate,
            product.gates,
            product.margins,
            product.segments,
            product.target,
            judge_rows,
            judge_compliance,
            product.compliance,
            licences_of(product),
            product.request,
        ),
        kinds=["polars", "mlflow"],
        description="The candidate beside the baseline and the champion, on days that none of them"
        " was trained on; its checks are the promotion gates.",
        deps=[product.key(CANDIDATE)],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, blocking=True, description=says)
            for name, says in JUDGED.items()
        ],
        automation_condition=content_changed(product.table(CANDIDATE)),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        record = store.scan(product.table(CANDIDATE)).collect().row(0, named=True)
        version = known_version(store, models, product.name, record["model_version"])
        present = rival(store, models, product, version)
        rows = judged_rows(store, product, version, present)
        target = models.load(version).target
        candidate = _candidate(models, version, rows)
        baseline = _baseline(store, models, product, version, target, record, rows)
        champion = contender(models, present, "champion", rows) if present else None
        report = evaluate(
            rows,
            target,
            candidate,
            baseline,
            champion,
            limits_of(product),
            product.segments,
            product.columns.names,
        )
        outcomes = [
            *judge_rows(store, models, product, version, present, record["baseline_run"], rows),
            *report.outcomes,
            *judge_compliance(store, product, target, rows, candidate.scores),
        ]
        write_outcomes(store, product, version, outcomes, context.run.run_id, NAME)
        contenders = [c for c in (candidate, baseline, champion) if c]
        run_id = context.run.run_id
        metadata = _publish(store, models, product, version, target, rows, report, run_id,
                            contenders)  # fmt: skip
        data_version = combine(
            candidate=version.digest,
            rows=content_hash(rows),
            champion=present.digest if present else "",
        )
        yield dg.MaterializeResult(data_version=dg.DataVersion(data_version), metadata=metadata)
        yield from checks(key, JUDGED, outcomes)

    return asset


def judged_rows(
    store: Lakehouse, product: Product, version: ModelVersion, present: ModelVersion | None
) -> pl.DataFrame:
    """Labelled rows after the last day that the candidate or the champion was trained on.

    None where no such day has its labels yet.
    """
    through = max(trained_through(v) for v in (version, present) if v)
    last = max(newest_labelled_day(store, product), through)
    rows = labelled_rows(store, product, through, last)
    return rows.filter(days_of_rows(rows) > through)


def trained_through(version: ModelVersion) -> date:
    """The last day that a version was trained or validated on, as its tag says."""
    return date.fromisoformat(version.tags["cutoff"])


def judge_rows(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    present: ModelVersion | None,
    baseline_run: str,
    rows: pl.DataFrame,
) -> list[GateOutcome]:
    """The gates on the rows, the columns and the features."""
    limits, days = product.gates, days_of_rows(rows)
    known = {"candidate": trained(store, models, product, version, rows)}
    known["baseline"] = baseline_trained(
        store, models, product, baseline_run, trained_through(version), rows
    )
    if present:
        known["champion"] = trained(store, models, product, present, rows)
    first = days.min() if rows.height else None
    return [
        same_schema(models.columns(version), product.columns),
        enough_rows(
            rows.height,
            days.n_unique(),
            limits.min_rows,
            max(2, product.periods.within(limits.min_days)),
            str(product.periods),
        ),
        distinct_rows(rows, product.spine.entity_keys),
        untouched_rows(rows.height, first, known),  # type: ignore[arg-type]
        known_in_time(recompute(store, models, product, version, rows), rows.height),
    ]


def as_judged(
    store: Lakehouse, product: Product, version: ModelVersion, name: str = NAME
) -> pl.DataFrame:
    """The evaluation, or its segments, as it was when a version was last judged.

    Without rows where it never was.
    """
    table = product.table(name)
    newest = store.version(table) if store.exists(table) else -1
    for past in range(newest, -1, -1):
        rows = store.scan(table, version=past).filter(model_version=version.version).collect()
        if rows.height:
            return rows
    return pl.DataFrame()


def contender(
    models: ModelRegistry, version: ModelVersion, name: str, rows: pl.DataFrame
) -> Contender:
    """A registered version's scores of the rows."""
    scores = models.load(version).predict(rows)
    return Contender(name, scores, version.threshold)


def _candidate(models: ModelRegistry, version: ModelVersion, rows: pl.DataFrame) -> Contender:
    """The candidate's scores; NaN, which a gate refuses, where it cannot score the rows."""
    try:
        return contender(models, version, "candidate", rows)
    except DigestMismatch:
        raise
    except (ValueError, ArithmeticError) as error:
        nothing = np.full(rows.height, np.nan)
        return Contender("candidate", nothing, version.threshold, str(error))


def write_outcomes(
    store: Lakehouse,
    product: Product,
    version: ModelVersion,
    outcomes: list[GateOutcome],
    run_id: str,
    stage: str,
) -> None:
    """Append each outcome to `gate_results`."""
    rows = [
        {
            "model_version": version.version,
            "digest": version.digest,
            "stage": stage,
            "gate": outcome.name,
            **{k: v for k, v in asdict(outcome).items() if k != "name"},
            "judged_at": datetime.now(UTC),
            "run_id": run_id,
        }
        for outcome in outcomes
    ]
    frame = pl.DataFrame(rows, schema=_OUTCOME_SCHEMA)
    store.append(product.table(GATE_RESULTS), frame, Commit(run_id=run_id, note=stage))


def checks(
    key: dg.AssetKey, gates: Iterable[str], outcomes: list[GateOutcome]
) -> Iterator[dg.AssetCheckResult]:
    """A check result for each gate; one that was not judged fails."""
    judged = {o.name: o for o in outcomes}
    for name in gates:
        outcome = judged.get(name)
        facts = asdict(outcome) if outcome else {}
        numbers = ("value", "limit", "margin", "low", "high", "rows")
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=bool(outcome and outcome.passed),
            description=outcome.detail if outcome else "not judged: see the gates that failed",
            metadata={k: facts[k] for k in numbers if facts.get(k) is not None},
        )


_OUTCOME_SCHEMA: dict[str, Any] = {
    "model_version": pl.Int64, "digest": pl.String, "stage": pl.String, "gate": pl.String,
    "passed": pl.Boolean, "value": pl.Float64, "limit": pl.Float64, "margin": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "rows": pl.Int64, "detail": pl.String,
    "judged_at": pl.Datetime("us", "UTC"), "run_id": pl.String,
}  # fmt: skip


def rival(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> ModelVersion | None:
    """The champion; the candidate itself where the champion is its refit, which saw more days."""
    present = incumbent(store, models, product.name)
    if present and evaluated(store, models, product, present).digest == version.digest:
        return version
    return present


def _baseline(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    target: Target,
    record: dict[str, Any],
    rows: pl.DataFrame,
) -> Contender:
    """The baseline's scores; where it is the candidate itself, it has to beat the labels' mean."""
    run_id = record["baseline_run"]
    threshold = threshold_of(models.run_param(run_id, "threshold"))
    if record.get("role") == "baseline":
        known = fitted_rows(store, product, version).select(LABEL).collect()[LABEL]
        scores, name = target.constant(target.encode(known), rows.height)
        says = f"that of {name}, as the candidate is the baseline"
        return Contender("baseline", scores, threshold, says=says)
    model = load_model(models.run_files(run_id, MODEL_FOLDER))
    return Contender("baseline", model.predict(rows), threshold)


def _publish(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    target: Target,
    rows: pl.DataFrame,
    report: Report,
    run_id: str,
    contenders: list[Contender],
) -> dict[str, Any]:
    common = {
        "model_version": version.version,
        "fitted_on": described(version),
        "rows": rows.height,
        "days": (days := days_of_rows(rows)).n_unique(),
        "first_day": str(days.min()),
        "last_day": str(days.max()),
    }
    if not report.metrics:
        return common
    summary = summary_table(report)
    made_by = pl.lit(version.version, pl.Int64).alias("model_version")
    commit = Commit(run_id=run_id)
    store.overwrite(product.table(NAME), summary.with_columns(made_by), commit)
    store.overwrite(product.table(SEGMENTS), report.segments.with_columns(made_by), commit)
    pictures = evaluation_pictures(
        target, rows[LABEL], {c.name: c.scores for c in contenders}, report.segments
    )
    run = models.open(product.name, version.run_id)
    for name, png in pictures.items():
        run.log_bytes(f"evaluation/{name}.png", png)
    run.log_metrics(
        {
            f"evaluation_{k}": float(v)
            for k, v in report.metrics["candidate"].items()
            if v is not None
        }
    )
    run.log_text("evaluation/segments.csv", report.segments.write_csv())
    return {
        **common,
        "metric": report.intervals["candidate"][target.metric].value,
        "comparison": table(summary.with_columns(pl.selectors.float().round(4))),
        **{name: picture(png, name) for name, png in pictures.items()},
        "segments": table(report.segments.with_columns(pl.selectors.float().round(4))),
    }
