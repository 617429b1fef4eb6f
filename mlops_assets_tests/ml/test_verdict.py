"""The evidence decides: what opened the case alone never does."""

from __future__ import annotations

from datetime import date

import pytest

from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.signals import Signal
from mlops_assets.ml.verdict import Evidence, decide

CUTOFF = date(2013, 9, 30)
BETTER, SAME, WORSE = (Interval(v, v - 0.002, v + 0.002) for v in (0.006, 0.0, -0.006))


def verdict(probe: Interval | None, *fired: str, new: int = 50_000, cutoff: date | None = CUTOFF):
    signals = [Signal(name, 1.0, 0.5, True, "") for name in fired]
    evidence = Evidence(new, cutoff, probe, 20_000, 28, "no labelled day", 60.0)
    return decide(signals, evidence, margin=0.004, min_new_labels=10_000)


@pytest.mark.parametrize("signal", ["covariate_drift", "loss", "growth", "person"])
def test_a_probe_that_gains_retrains(signal):
    assert verdict(BETTER, signal)[0] == "retrain"


@pytest.mark.parametrize("signal", ["covariate_drift", "prediction_drift", "label_rate", "person"])
@pytest.mark.parametrize("probe", [SAME, WORSE, None])
def test_drift_alone_waits(signal, probe):
    assert verdict(probe, signal)[0] == "wait"


@pytest.mark.parametrize("signal", ["loss", "calibration_bias"])
@pytest.mark.parametrize("probe", [SAME, WORSE, None])
def test_harm_that_newer_data_does_not_mend_asks_a_person(signal, probe):
    assert verdict(probe, signal)[0] == "escalate"


@pytest.mark.parametrize("signal", ["growth", "age", "code_change"])
def test_more_to_learn_needs_a_probe_that_is_not_surely_worse(signal):
    assert verdict(SAME, signal)[0] == "retrain"
    assert verdict(None, signal)[0] == "retrain"
    assert verdict(WORSE, signal)[0] == "wait"
    assert verdict(WORSE, signal, "loss")[0] == "escalate"


def test_without_new_labels_nothing_retrains():
    found, reason = verdict(BETTER, "growth", "loss", new=9_999)
    assert found == "wait"
    assert "9,999 new labels to train on, at least 10,000 are needed" in reason
    assert verdict(BETTER, "loss", cutoff=None)[0] == "wait"


def test_a_signal_that_did_not_fire_says_nothing():
    quiet = [Signal("growth", 0.1, 0.33, False, "")]
    evidence = Evidence(50_000, CUTOFF, SAME, 20_000, 28, "", None)
    assert decide(quiet, evidence, margin=0.004, min_new_labels=1)[0] == "wait"
