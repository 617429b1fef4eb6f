"""What stage 5 finds out: the candidate beside the baseline and the champion, on the same rows.

Pure: labels and scores in, figures and gate outcomes out. evaluation.py reads the rows and
publishes what is found here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.declaration import Gates
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.ml import gates
from mlops_assets.ml.bootstrap import Interval, bootstrap_metrics, paired_gain, segment_metrics
from mlops_assets.ml.gates import GateOutcome
from mlops_assets.ml.metrics import BinaryMetrics, binary_metrics

_BY = ("month", "carrier", "origin")
_LEAST_DAYS = 2
"""An interval over days needs as many."""


@dataclass(frozen=True)
class Contender:
    """A model's scores on the rows that are judged; `problem` says why it has none.

    `says` is how its log loss is called where that of its name would mislead.
    """

    name: str
    scores: np.ndarray
    threshold: float
    problem: str = ""
    says: str = ""


@dataclass(frozen=True)
class Report:
    """What the scores say; without figures where the candidate's are not sound."""

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
    limits: Gates,
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
    if len(outcomes) == 1:
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
    limits: Gates,
) -> list[GateOutcome]:
    """The gates on scores.

    Where the candidate's are not sound, or are of one day, those that compare are not judged; a
    gate that was not judged counts as not passed.
    """
    sound = gates.sound_scores(candidate.scores, label, candidate.problem)
    if not sound.passed or len(np.unique(days)) < _LEAST_DAYS:
        return [sound]
    scores, theirs = candidate.scores, champion.scores if champion else None
    return [
        sound,
        gates.leak_suspect(label, scores, limits.leak_auc),
        gates.gain_over_baseline(
            label,
            scores,
            baseline.scores,
            days,
            min_gain=limits.min_gain_over_baseline,
            rival=baseline.says or "the baseline's",
        ),
        gates.calibrated(label, scores, days, min_slope=limits.min_calibration_slope),
        gates.not_worse_than_champion(label, scores, theirs, days, margin=limits.champion_margin),
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
                **asdict(metrics),
                **bounds,
                "candidate_gain": gain.value if gain else None,
                "candidate_gain_low": gain.low if gain else None,
                "candidate_gain_high": gain.high if gain else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
