"""code_version on modules written for the purpose: what changes it, and what does not."""

import importlib
import shutil
import subprocess
import sys
from itertools import count

import polars as pl
import pytest

from mlops_assets.components import code_version as module
from mlops_assets.components.code_version import Registry, code_version, difference
from mlops_assets.components.ml_product import packaging, trial
from mlops_assets.components.tables import table_asset
from mlops_assets.local import repository

TOY = '''
"""A module of ours."""
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps

import polars as pl

LIMIT = 15
SHARE = 1
DEFAULT = 7
LABELS = {"late", "early", "on time", "cancelled"}
RULE = (pl.col("delay") >= 15).filter(pl.col("event") == "arrival")


@dataclass(frozen=True)
class Bounds:
    """Least and greatest."""

    low: int = 0
    high: int = 10

    @property
    def width(self) -> int:
        return measured(self.high - self.low)


BOUNDS = Bounds(high=20)


class Base:
    weight = 1


class Rules(Base):
    threshold = DEFAULT

    @classmethod
    def apply(cls, x):
        return x * cls.threshold

    @staticmethod
    def fixed():
        return "fixed"


def measured(x):
    return abs(x)


def doubled(function):
    @wraps(function)
    def wrapper(x):
        return 2 * function(x)

    return wrapper


@doubled
def wrapped(x):
    return x + 100


@lru_cache
def cached(x):
    return x + 200


def scaled(x, by):
    return x * by


scaled_by = partial(scaled, by=300)


def closing_over(offset):
    def added(x):
        return x + offset

    return added


added = closing_over(400)
shifted = lambda x: x - 500


def target(x: int, least: int = DEFAULT, *, most=LIMIT) -> int:
    """What is versioned."""
    inside = [measured(v) for v in x if v in LABELS and v > LIMIT * SHARE]
    bounded = BOUNDS.width + Rules.apply(len(inside))
    return wrapped(cached(scaled_by(added(shifted(bounded))))), RULE


def unrelated():
    return 1
'''


@pytest.fixture
def version_of(tmp_path, monkeypatch):
    """The version of `target` in a module of its own package, written, imported and forgotten."""
    folders = count()

    def version(source):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        (folder / "toy_domain.py").write_text(source)
        with monkeypatch.context() as patched:
            patched.syspath_prepend(folder)
            patched.delitem(sys.modules, "toy_domain", raising=False)
            return code_version(importlib.import_module("toy_domain").target)

    return version


def edited(old, new):
    assert TOY.count(old) == 1, old
    return TOY.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    inside = [", "    # why\n    inside = ["),
        ('"""What is versioned."""', '"""Something else."""'),
        ('    """What is versioned."""\n', ""),
        ('"""Least and greatest."""', '"""Ends."""'),
        ("return abs(x)", "return abs(\n        x\n    )"),
        ("x: int, least: int", "x: list[int], least: float"),
        ("return 1", "return 2"),
        ('"""A module of ours."""', "import math"),
    ],
    ids=[
        "comment", "docstring", "no docstring", "docstring of a class", "layout", "annotations",
        "another function", "an import",
    ],
)  # fmt: skip
def test_what_no_result_rests_on_does_not_change_it(version_of, old, new):
    assert version_of(edited(old, new)) == version_of(TOY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return wrapped(", "return -wrapped("),
        ("return abs(x)", "return -abs(x)"),
        ("LIMIT = 15", "LIMIT = 16"),
        ("LIMIT = 15\nSHARE = 1", "LIMIT = 1\nSHARE = 15"),
        ('"late", "early"', '"late", "diverted"'),
        ("least: int = DEFAULT", "least: int = 8"),
        ("DEFAULT = 7", "DEFAULT = 8"),
        ("most=LIMIT", "most=SHARE"),
        ("closing_over(400)", "closing_over(401)"),
        ("return x + offset", "return x - offset"),
        ("Bounds(high=20)", "Bounds(high=21)"),
        ("low: int = 0", "low: int = 1"),
        ("self.high - self.low", "self.low - self.high"),
        ("x * cls.threshold", "x + cls.threshold"),
        ('return "fixed"', 'return "moved"'),
        ("weight = 1", "weight = 2"),
        ("2 * function(x)", "3 * function(x)"),
        ("return x + 100", "return x + 101"),
        ("return x + 200", "return x + 201"),
        ("by=300", "by=301"),
        ("return x * by", "return x / by"),
        ("x - 500", "x - 501"),
        ('pl.col("delay") >= 15', 'pl.col("delay") >= 16'),
        ('== "arrival")', '== "arrival" * 40)'),
    ],
    ids=[
        "body", "called function", "constant", "two constants swapped", "set", "default",
        "constant of a default", "keyword default", "closure value", "closure code",
        "dataclass value", "dataclass default", "property", "class method", "static method",
        "base class", "decorator", "decorated", "cached", "partial value", "partial code",
        "lambda", "expression", "end of a long expression",
    ],
)  # fmt: skip
def test_what_the_result_rests_on_changes_it(version_of, old, new):
    assert version_of(edited(old, new)) != version_of(TOY)


def test_the_declaration_of_an_asset_is_not_what_it_computes(version_of):
    declared = edited("def target(", "@lru_cache(maxsize=5)\ndef target(")
    assert version_of(declared) == version_of(TOY)


def test_plain_roots_count_by_value_and_place():
    assert code_version({"a": 1}, {2, 1}) == code_version({"a": 1}, {1, 2})
    versions = {code_version(*r) for r in [(1, 2), (2, 1), ("1", 2), (1,), (None,), (pl.col("x"),)]}
    assert len(versions) == 6


USES_LIBRARIES = """
import polars as pl
from json import dumps


def helper(x):
    from sklearn.metrics import log_loss

    return log_loss(x, x)


def target(x):
    return pl.col(dumps(helper(x)))
"""


@pytest.fixture
def upgraded(monkeypatch):
    """Let a distribution seem to have another version."""
    installed = module.version

    def upgrade(distribution, number):
        module._pinned.cache_clear()
        monkeypatch.setattr(
            module, "version", lambda name: number if name == distribution else installed(name)
        )

    yield upgrade
    module._pinned.cache_clear()


def test_the_libraries_that_a_result_rests_on_are_part_of_it(version_of, upgraded):
    before = version_of(USES_LIBRARIES)
    libraries = [pin.partition("==")[0] for pin in before.split("/")[2].split(",")]
    assert libraries == ["polars", "scikit-learn"]
    upgraded("xgboost", "9.9")
    assert version_of(USES_LIBRARIES) == before
    upgraded("scikit-learn", "9.9+local")
    after = version_of(USES_LIBRARIES)
    [said] = difference(before, after)
    assert said.startswith("scikit-learn ")
    assert said.endswith("→ 9.9")


def test_a_module_of_ours_that_is_imported_inside_is_followed(version_of, monkeypatch):
    inside = "def target(x):\n    from mlops_assets.stores.dtypes import plain_type\n"
    before = version_of(inside + "    return plain_type(x)\n")
    monkeypatch.setattr(module, "_module_text", lambda name: "another text")
    assert difference(before, version_of(inside + "    return plain_type(x)\n")) == ["code"]


def test_declared_settings_are_told_from_code():
    before = code_version(len, settings={"days": 31})
    assert difference(before, code_version(len, settings={"days": 30})) == ["configuration"]
    assert difference(before, before) == []
    assert difference("0123456789abcdef", before) == ["code"]


OF_THE_GRAPH = """
from mlops_assets.definitions import defs
graph = defs().resolve_asset_graph()
print(sorted((k.to_user_string(), graph.get(k).code_version) for k in graph.executable_asset_keys))
"""


def test_each_process_finds_the_same_versions_wherever_the_package_lies(tmp_path):
    """Else automation would recompute everything at each start, or in another checkout."""
    for package in ("mlops_assets", "bentos"):
        shutil.copytree(repository() / package, tmp_path / package)
    shutil.copy(repository() / "pyproject.toml", tmp_path)
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", OF_THE_GRAPH],
            env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(folder)}, cwd=folder,
            capture_output=True, text=True, check=True,
        ).stdout
        for seed, folder in (("1", repository()), ("2", tmp_path))
    }  # fmt: skip
    assert len(found) == 1
    assert "flight_events" in found.pop()


def test_what_else_is_declared_in_the_process_is_no_part_of_a_bento(monkeypatch):
    """Its code reads the contract of its own spine, and no registry of all tables."""
    roots = (packaging.build, trial.try_out)
    before = code_version(*roots)
    monkeypatch.setitem(table_asset.TABLES, "toys/toy", None)
    assert code_version(*roots) == before


def test_what_a_process_has_declared_is_no_part_of_a_version():
    """Two processes that loaded other modules first find the same versions."""
    declared = Registry()

    def reads(name):
        return declared[name]

    before = code_version(reads)
    declared["a/table"] = 3
    assert code_version(reads) == before
