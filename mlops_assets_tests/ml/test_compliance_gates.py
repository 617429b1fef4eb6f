"""The gates on people, groups and licences: each passes what is good and names what is not."""

import numpy as np
import polars as pl
import pytest

from mlops_assets.components.tables import masked
from mlops_assets.ml.compliance_gates import even_for_groups, licences_stated, no_personal_data
from mlops_assets.ml.targets import BINARY, Regression
from mlops_assets.stores.source_files import SourceError

ROWS = 900
RANDOM = np.random.default_rng(3)
CHANCE = RANDOM.uniform(0.1, 0.9, ROWS)
LABEL = (RANDOM.random(ROWS) < CHANCE).astype(int)
GROUP = pl.Series(["young", "old", None] * (ROWS // 3))


def test_personal_columns_reach_neither_model_nor_log():
    personal = {"name": "the contract of a/people"}
    assert no_personal_data(["age"], ["id"], personal).passed
    for reads, logged in ((["age", "name"], ["id"]), (["age"], ["name"])):
        refused = no_personal_data(reads, logged, personal)
        assert (refused.passed, refused.value) == (False, 1)
        assert "name, marked in the contract of a/people" in refused.detail


def test_groups_are_served_alike():
    even = even_for_groups(LABEL, CHANCE, {"age": GROUP}, {"age": 0.3}, BINARY)
    assert even.passed
    worse = np.where((GROUP == "old").fill_null(False).to_numpy(), 1 - CHANCE, CHANCE)
    uneven = even_for_groups(LABEL, worse, {"age": GROUP}, {"age": 0.3}, BINARY)
    assert (uneven.passed, uneven.limit) == (False, 0.3)
    assert "for old and" in uneven.detail


def test_the_column_that_fails_most_is_the_one_reported():
    truth = RANDOM.normal(size=ROWS)
    off = np.where((GROUP == "old").fill_null(False).to_numpy(), 5.0, 0.5)
    groups = {"even": pl.Series(["a", "b"] * (ROWS // 2)), "age": GROUP}
    limits = {"even": 2.0, "age": 0.5}
    found = even_for_groups(truth, truth + off, groups, limits, Regression())
    assert not found.passed
    assert found.detail.startswith("age: ")


def test_small_groups_and_no_groups_are_not_compared():
    rare = pl.Series(["a"] * (ROWS - 50) + ["b"] * 50)
    assert (
        "nothing to compare"
        in even_for_groups(LABEL, CHANCE, {"rare": rare}, {"rare": 0.1}, BINARY).detail
    )
    assert even_for_groups(LABEL, CHANCE, {}, {}, BINARY).passed


def test_licences_are_stated_and_none_is_refused():
    assert licences_stated({"a/x"}, {"a/x": "CC0-1.0"}).passed
    lacking = licences_stated({"a/x", "a/y"}, {"a/x": "CC0-1.0", "a/y": " "})
    assert not lacking.passed
    assert lacking.detail == (
        "no licence is stated of a/y; say under which terms its data may be used, as"
        ' licence="CC-BY-4.0" or licence="our own" of @raw_table in its raw.py, or under'
        " card.licences in the product's defs.yaml"
    )
    bad = licences_stated({"a/x"}, {"a/x": "CC-BY-NC-4.0"}, ["CC-BY-NC-4.0"])
    assert not bad.passed
    assert "a/x (CC-BY-NC-4.0)" in bad.detail


def test_masked_values_join_and_name_nobody(monkeypatch):
    monkeypatch.setenv("MLOPS_MASK_KEY", "a secret of some length")
    people = pl.DataFrame({"who": ["Ada", None, "Ada", "Bob"]})
    found = people.lazy().select(masked("who")).collect()["who"]
    assert found[0] == found[2] != found[3]
    assert found[1] is None
    assert len(found[0]) == 32
    monkeypatch.setenv("MLOPS_MASK_KEY", "short")
    with pytest.raises(SourceError, match="MLOPS_MASK_KEY has 5 characters"):
        masked("who")
