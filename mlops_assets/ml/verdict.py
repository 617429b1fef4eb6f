"""Retrain, wait, or ask a person: the evidence decides, not the signal that opened the case.

A probe is a quick model of the champion's family, fitted without the newest labelled days and
compared with the champion on just those. Drift with a probe that gains nothing is weather. Growth,
age and changed code say that a training would see more or other things than a probe can show, so
they need only a probe that is not surely worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.signals import Signal

Verdict = Literal["retrain", "wait", "escalate"]

MORE_TO_LEARN = frozenset({"growth", "age", "code_change"})
HURTS = frozenset({"loss", "calibration_bias"})


@dataclass(frozen=True)
class Evidence:
    """What was found out cheaply.

    Attributes:
        new_labels: labelled rows that a training set would gain.
        cutoff: last day of that training set; None where there could be none.
        probe: what the probe gains over the champion (`Target.gain`), by days; None where
            there was nothing to compare on.
        probe_rows: rows compared on.
        probe_days: days compared on.
        note: how the probe was made, or why there is none.
        cost_seconds: what the last training took.
    """

    new_labels: int
    cutoff: date | None
    probe: Interval | None
    probe_rows: int
    probe_days: int
    note: str
    cost_seconds: float | None


def decide(
    signals: Sequence[Signal],
    evidence: Evidence,
    *,
    margin: float,
    min_new_labels: int,
    unit: str = "nats",
) -> tuple[Verdict, str]:
    """The verdict, and why, with its numbers.

    Args:
        signals: those of the case; the ones that fired count.
        evidence: what was found out.
        margin: what a probe must gain to be a reason by itself, in `unit`.
        min_new_labels: labelled rows below which a training would see nothing new.
        unit: of a gain.
    """
    fired = {signal.name for signal in signals if signal.fired}
    probe, new = evidence.probe, evidence.new_labels
    more, hurts = sorted(fired & MORE_TO_LEARN), sorted(fired & HURTS)
    if evidence.cutoff is None or new < min_new_labels:
        return "wait", f"{new:,} new labels to train on, at least {min_new_labels:,} are needed"
    if probe is not None and probe.value >= margin:
        return "retrain", f"a probe gains {_gain(probe)} {unit}, at least {margin} are needed"
    if more and (probe is None or probe.high >= 0):
        shown = f"a probe gains {_gain(probe)}" if probe else evidence.note
        return "retrain", f"{', '.join(more)}: {new:,} new labels; {shown}"
    if probe is None:
        return ("escalate" if hurts else "wait"), f"no probe: {evidence.note}"
    if hurts:
        return "escalate", (
            f"{', '.join(hurts)}, but a probe gains only {_gain(probe)} {unit} of the {margin} that"
            " are needed: newer data does not mend it"
        )
    return "wait", f"a probe gains {_gain(probe)} {unit}, at least {margin} are needed"


def _gain(probe: Interval) -> str:
    return f"{probe.value:+.4f} [{probe.low:+.4f}, {probe.high:+.4f}]"
