from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mlops_assets.stores.requirements import imported_packages, pinned

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def test_pins_are_those_of_the_constraints():
    constraints = CONSTRAINTS.read_text().lower().replace("_", "-").splitlines()
    pins = pinned(["bentoml", "polars", "uvicorn[standard]", "torch"])
    assert "torch==2.13.0" in pins
    # pip's own tools are in every environment and so in no list of constraints.
    assert [pin for pin in pins if pin not in constraints and "setuptools" not in pin] == []


def test_what_a_package_needs_comes_with_it():
    names = [pin.split("==")[0] for pin in pinned(["scikit-learn"])]
    assert {"numpy", "scipy", "joblib", "threadpoolctl", "scikit-learn"} <= set(names)
    assert names == sorted(names)


def test_an_extra_adds_its_own():
    assert any(pin.startswith("httptools==") for pin in pinned(["uvicorn[standard]"]))
    assert not any(pin.startswith("httptools==") for pin in pinned(["uvicorn"]))


def test_what_is_not_installed_cannot_be_pinned():
    with pytest.raises(PackageNotFoundError):
        pinned(["no-such-package"])


def test_imports_are_named_as_packages():
    source = b"""
import json, ours.thing
from typing import TYPE_CHECKING
import numpy.linalg
if TYPE_CHECKING:
    import optuna
else:
    import polars
def fit():
    from sklearn.ensemble import HistGradientBoostingClassifier
"""
    found = imported_packages([source, b"from yaml import load"], ours={"ours"})
    assert {name.lower() for name in found} == {"numpy", "polars", "scikit-learn", "pyyaml"}
