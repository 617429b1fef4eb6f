"""Stage 5: the report on the candidate, and the gates.

Judged are the labelled days after the cut-off, on which neither the candidate, nor the baseline,
nor the champion was trained. No thresholds here; they are the product's. Every outcome is a row in
`gate_results` and a blocking check on the asset.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_of
from mlops_assets.components.metadata import picture, table
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.ml_product.training import MODEL_FOLDER
from mlops_assets.components.ml_product.training_set import (
    DAY,
    LABEL,
    labelled_rows,
    newest_labelled_day,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml import gates
from mlops_assets.ml.bootstrap import Interval, bootstrap_metrics, paired_gain, segment_metrics
from mlops_assets.ml.families import load_model
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.ml.metrics import BinaryMetrics, binary_metrics
from mlops_assets.ml.pictures import Curves, by_month_picture, evaluation_picture
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "evaluation"
SEGMENTS = "evaluation_segments"
GATE_RESULTS = "gate_results"
_BY = ("month", "carrier", "origin")

GATES = {
    "sound_scores": "Scores are probabilities, and more than one of them.",
    "enough_rows": "There are enough rows and days to judge on.",
    "untouched_rows": "No row that is judged was trained on, by any of the models.",
    "leak_suspect": "The AUC is not too good to be true.",
    "gain_over_baseline": "Log loss is below the baseline's, paired, beyond chance.",
    "not_worse_than_champion": "Log loss is not above the champion's by more than the margin.",
}
"""Each required gate, and what it says."""


@dataclass(frozen=True)
class Contender:
    """A model's scores on the rows that are judged, and the last day that it was trained on."""

    name: str
    scores: np.ndarray
    threshold: float
    trained_through: date


@dataclass(frozen=True)
class Report:
    """What the evaluation found."""

    metrics: dict[str, BinaryMetrics]
    intervals: dict[str, dict[str, Interval]]
    gains: dict[str, Interval]
    segments: pl.DataFrame
    outcomes: list[GateOutcome]


def evaluate(
    rows: pl.DataFrame,
    candidate: Contender,
    baseline: Contender,
    champion: Contender | None,
    limits: Any,
) -> Report:
    """Judge the candidate beside the baseline and the champion, paired, on the same rows.

    Args:
        rows: labelled rows with `date`, `label`, `carrier`, `origin`.
        candidate: the model that would be promoted.
        baseline: the declared baseline, trained on the same set.
        champion: what serves now, if anything does.
        limits: the product's gates.
    """
    label, days = rows[LABEL].to_numpy(), rows[DAY].to_numpy()
    contenders = [c for c in (candidate, baseline, champion) if c is not None]
    outcomes = judge(label, days, candidate, baseline, champion, limits)
    sound = all(o.passed for o in outcomes if o.name == "sound_scores")
    if not sound:
        return Report({}, {}, {}, pl.DataFrame(), outcomes)
    others = contenders[1:]
    frame = rows.select(
        pl.col(LABEL).alias("label"),
        pl.Series("probability", candidate.scores),
        pl.col(DAY).alias("day"),
        pl.col(DAY).dt.strftime("%Y-%m").alias("month"),
        *(pl.col(c) for c in _BY[1:] if c in rows.columns),
    )
    present = [s for s in _BY if s in frame.columns]
    return Report(
        metrics={c.name: binary_metrics(label, c.scores, c.threshold) for c in contenders},
        intervals={c.name: bootstrap_metrics(label, c.scores, days, seed=7) for c in contenders},
        gains={c.name: paired_gain(label, candidate.scores, c.scores, days) for c in others},
        segments=segment_metrics(frame, present),
        outcomes=outcomes,
    )


def judge(
    label: np.ndarray,
    days: np.ndarray,
    candidate: Contender,
    baseline: Contender,
    champion: Contender | None,
    limits: Any,
) -> list[GateOutcome]:
    """The promotion gates, in the order in which they are shown.

    Scores that are not sound fail that gate, and the gates that need scores are not judged; a gate
    that was not judged counts as not passed.
    """
    trained = {c.name: c.trained_through for c in (candidate, baseline, champion) if c}
    outcomes = [
        gates.sound_scores(candidate.scores, label),
        gates.enough_rows(len(label), len(np.unique(days)), limits.min_rows, limits.min_days),
        gates.untouched_rows(days, trained),
    ]
    if not outcomes[0].passed:
        return outcomes
    scores, theirs = candidate.scores, champion.scores if champion else None
    return [
        *outcomes,
        gates.leak_suspect(label, scores, limits.leak_auc),
        gates.gain_over_baseline(
            label, scores, baseline.scores, days, min_gain=limits.min_gain_over_baseline
        ),
        gates.not_worse_than_champion(label, scores, theirs, days, margin=limits.champion_margin),
    ]


def evaluation_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with one blocking check a gate."""
    key = product.key(NAME)

    @product.asset(
        NAME,
        product.code_version(evaluate, product.gates),
        kinds=["polars", "mlflow"],
        description="The candidate beside the baseline and the champion, on days that none of them"
        " was trained on; its checks are the promotion gates.",
        deps=[product.key(CANDIDATE)],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, blocking=True, description=says)
            for name, says in sorted(GATES.items())
        ],
        automation_condition=content_of(product.table(CANDIDATE)),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        record = store.scan(product.table(CANDIDATE)).collect().row(0, named=True)
        version = models.get(product.name, record["model_version"])
        rows = judged_rows(store, product, models, version)
        candidate = contender(models, version, "candidate", rows)
        baseline = _baseline(models, version, record["baseline_run"], rows)
        present = models.champion(product.name)
        champion = contender(models, present, "champion", rows) if present else None
        report = evaluate(rows, candidate, baseline, champion, product.gates)
        write_outcomes(store, product, version, report.outcomes, context.run.run_id, NAME)
        metadata = _publish(store, models, product, version, rows, report, context.run.run_id,
                            [c for c in (candidate, baseline, champion) if c])  # fmt: skip
        data_version = combine(
            candidate=version.digest,
            rows=content_hash(rows),
            champion=present.digest if present else "",
        )
        yield dg.MaterializeResult(data_version=dg.DataVersion(data_version), metadata=metadata)
        yield from _checks(key, report.outcomes)

    return asset


def judged_rows(
    store: Lakehouse, product: Product, models: ModelRegistry, version: ModelVersion
) -> pl.DataFrame:
    """Labelled rows after the last day that the candidate or the champion was trained on."""
    present = models.champion(product.name)
    through = max(trained_through(v) for v in (version, present) if v)
    last = newest_labelled_day(store, product)
    if last <= through:
        raise dg.Failure(
            f"{product.name}: no labelled day after {through}, the last that a model was trained"
            f" on; the newest labelled day is {last}. Wait for labels, or cut off earlier.",
            allow_retries=False,
        )
    rows = labelled_rows(store, product, through, last)
    return rows.filter(pl.col(DAY) > through)


def trained_through(version: ModelVersion) -> date:
    """The last day that a version was trained or validated on."""
    return date.fromisoformat(version.tags["cutoff"])


def contender(
    models: ModelRegistry, version: ModelVersion, name: str, rows: pl.DataFrame
) -> Contender:
    """A registered version's scores of the rows."""
    scores = models.load(version).predict(rows)
    return Contender(name, scores, float(version.tags["threshold"]), trained_through(version))


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


_OUTCOME_SCHEMA: dict[str, Any] = {
    "model_version": pl.Int64, "digest": pl.String, "stage": pl.String, "gate": pl.String,
    "passed": pl.Boolean, "value": pl.Float64, "limit": pl.Float64, "margin": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "rows": pl.Int64, "detail": pl.String,
    "judged_at": pl.Datetime("us", "UTC"), "run_id": pl.String,
}  # fmt: skip


def _baseline(
    models: ModelRegistry, version: ModelVersion, run_id: str, rows: pl.DataFrame
) -> Contender:
    model = load_model(models.run_files(run_id, MODEL_FOLDER))
    threshold = float(models.run_param(run_id, "threshold"))
    return Contender("baseline", model.predict(rows), threshold, trained_through(version))


def _checks(key: dg.AssetKey, outcomes: list[GateOutcome]) -> Iterator[dg.AssetCheckResult]:
    judged = {o.name: o for o in outcomes}
    for name in sorted(GATES):
        outcome = judged.get(name)
        facts = asdict(outcome) if outcome else {}
        numbers = ("value", "limit", "margin", "low", "high", "rows")
        shown = {k: facts[k] for k in numbers if facts.get(k) is not None}
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=bool(outcome and outcome.passed),
            description=outcome.detail if outcome else "not judged: the scores are not sound",
            metadata=shown,
        )


def _publish(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    rows: pl.DataFrame,
    report: Report,
    run_id: str,
    contenders: list[Contender],
) -> dict[str, Any]:
    common = {
        "model_version": version.version,
        "rows": rows.height,
        "days": rows[DAY].n_unique(),
        "first_day": str(rows[DAY].min()),
        "last_day": str(rows[DAY].max()),
    }
    if not report.metrics:
        return common
    summary = summary_table(report)
    made_by = pl.lit(version.version, pl.Int64).alias("model_version")
    commit = Commit(run_id=run_id)
    store.overwrite(product.table(NAME), summary.with_columns(made_by), commit)
    store.overwrite(product.table(SEGMENTS), report.segments.with_columns(made_by), commit)
    curves = {c.name: Curves.of(rows[LABEL].to_numpy(), c.scores) for c in contenders}
    pictures = {
        "roc_pr_calibration": evaluation_picture(curves),
        "auc_by_month": by_month_picture(report.segments.filter(pl.col("segment") == "month")),
    }
    run = models.open(product.name, version.run_id)
    for name, png in pictures.items():
        run.log_bytes(f"evaluation/{name}.png", png)
    run.log_metrics(
        {
            f"evaluation_{k}": float(v)
            for k, v in asdict(report.metrics["candidate"]).items()
            if v is not None
        }
    )
    run.log_text("evaluation/segments.csv", report.segments.write_csv())
    return {
        **common,
        "metric": report.metrics["candidate"].log_loss,
        "comparison": table(summary.with_columns(pl.selectors.float().round(4))),
        **{name: picture(png, name) for name, png in pictures.items()},
        "segments": table(report.segments.with_columns(pl.selectors.float().round(4))),
    }


def summary_table(report: Report) -> pl.DataFrame:
    """One row a model: its figures, intervals, and the candidate's paired gain over it."""
    rows = []
    for name, metrics in report.metrics.items():
        bounds = {
            f"{metric}_{end}": getattr(interval, end)
            for metric, interval in report.intervals[name].items()
            for end in ("low", "high")
        }
        gain = report.gains.get(name)
        rows.append(
            {
                "model": name,
                **asdict(metrics),
                **bounds,
                "candidate_gain": gain.value if gain else None,
                "candidate_gain_low": gain.low if gain else None,
                "candidate_gain_high": gain.high if gain else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
