"""What stage 5 finds out: the candidate beside the baseline and the champion, on the same rows.

Pure: labels and scores in, figures and gate outcomes out. evaluation.py reads the rows and
publishes what is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.declaration import Gates
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, LABEL, days_of_rows
from mlops_assets.ml import gates
from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.ml.segments import MONTH, segment_metrics
from mlops_assets.ml.targets import Figures, Target

_LEAST_DAYS = 2
"""An interval over days needs as many."""


@dataclass(frozen=True)
class Contender:
    """A model's scores on the rows that are judged; `problem` says why it has none.

    `says` is how its loss is called where that of its name would mislead.
    """

    name: str
    scores: np.ndarray
    threshold: float | None
    problem: str = ""
    says: str = ""


@dataclass(frozen=True)
class Report:
    """What the scores say; without figures where the candidate's are not sound."""

    metrics: dict[str, Figures]
    intervals: dict[str, dict[str, Interval]]
    gains: dict[str, Interval]
    segments: pl.DataFrame
    outcomes: list[GateOutcome]


@dataclass(frozen=True)
class Limits:
    """The numbers of the gates on scores.

    Attributes:
        leak: from which plausibility on a leak is suspected.
        min_gain: least gain over the baseline.
        champion_margin: greatest loss against the champion.
        min_slope: least slope of the outcomes on the predictions.
    """

    leak: float
    min_gain: float
    champion_margin: float
    min_slope: float


def limits_of(product: Product) -> Limits:
    """The limits that a product declares, or that are usual for its task."""
    declared: Gates = product.gates
    leak = declared.leak_explained if product.task == "regression" else declared.leak_auc
    return Limits(
        leak=leak,
        min_gain=declared.min_gain_over_baseline,
        champion_margin=product.margins.champion,
        min_slope=declared.min_calibration_slope,
    )


def evaluate(
    rows: pl.DataFrame,
    target: Target,
    candidate: Contender,
    baseline: Contender,
    champion: Contender | None,
    limits: Limits,
    segments: Sequence[str] = (),
    features: Sequence[str] = (),
) -> Report:
    """Judge the candidate beside the baseline and the champion, paired, on the same rows.

    Args:
        rows: labelled rows with `date`, `label` and the segments' columns.
        target: what the candidate predicts.
        candidate: the model that would be promoted.
        baseline: the best declared baseline, trained on the same set.
        champion: what serves now, if anything does.
        limits: the product's gates.
        segments: columns to split the figures by, beside the month.
        features: columns that the candidate reads.
    """
    label, days = rows[LABEL], days_of_rows(rows).to_numpy()
    contenders = [c for c in (candidate, baseline, champion) if c is not None]
    read = rows.select(features)
    outcomes = judge(label, days, target, candidate, baseline, champion, limits, read)
    if len(outcomes) == 1:
        return Report({}, {}, {}, pl.DataFrame(), outcomes)
    frame = rows.select(
        pl.col(LABEL).alias("label"),
        days_of_rows(rows).alias("day"),
        pl.col(DAY).dt.strftime("%Y-%m").alias(MONTH),
        *segments,
    )
    return Report(
        metrics={c.name: target.figures(label, c.scores, c.threshold) for c in contenders},
        intervals={c.name: target.intervals(label, c.scores, days, seed=7) for c in contenders},
        gains={
            c.name: target.gain(label, candidate.scores, c.scores, days) for c in contenders[1:]
        },
        segments=segment_metrics(frame, candidate.scores, target, [MONTH, *segments]),
        outcomes=outcomes,
    )


def judge(
    label: pl.Series,
    days: np.ndarray,
    target: Target,
    candidate: Contender,
    baseline: Contender,
    champion: Contender | None,
    limits: Limits,
    features: pl.DataFrame | None = None,
) -> list[GateOutcome]:
    """The gates on scores; `features` are what the candidate reads of the rows.

    Where the candidate's are not sound, or are of one day, those that compare are not judged; a
    gate that was not judged counts as not passed.
    """
    sound = gates.sound_scores(candidate.scores, label, candidate.problem, target)
    if not sound.passed or len(np.unique(days)) < _LEAST_DAYS:
        return [sound]
    scores, theirs = candidate.scores, champion.scores if champion else None
    return [
        sound,
        gates.leak_suspect(label, scores, limits.leak, target, features),
        gates.gain_over_baseline(
            label,
            scores,
            baseline.scores,
            days,
            min_gain=limits.min_gain,
            rival=baseline.says or "the baseline's",
            target=target,
        ),
        gates.calibrated(label, scores, days, min_slope=limits.min_slope, target=target),
        gates.not_worse_than_champion(
            label, scores, theirs, days, margin=limits.champion_margin, target=target
        ),
    ]


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
                **metrics,
                **bounds,
                "candidate_gain": gain.value if gain else None,
                "candidate_gain_low": gain.low if gain else None,
                "candidate_gain_high": gain.high if gain else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
