"""A mistake in a declaration is named with its place and value, and stops no other product."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mlops_assets.components import MLProduct
from mlops_assets.components.loading import BROKEN, BrokenDeclaration, load_defs
from mlops_assets.components.ml_product.problems import problems
from mlops_assets.components.ml_product.reading import read
from mlops_assets.components.periods import PERIODS_OF, periods_of
from mlops_assets.definitions import defs
from mlops_assets.local import repository

DEFS = repository() / "mlops_assets/defs"
GOOD = (DEFS / "flight_delays/defs.yaml").read_text()
FAMILIES = "families: [hist_gradient_boosting, xgboost, embedding_mlp]"
PROBLEM = "mlops_assets.defs.flight_delays.problem"

Replaced = tuple[str, str]


def replaced(text: str, *changes: Replaced) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the declaration"
        text = text.replace(old, new)
    return text


# --- one mistake, one finding -----------------------------------------------------------------


def found(text: str) -> list[str]:
    given = yaml.safe_load(text)["attributes"]
    declared, findings = read(MLProduct, given)
    return [str(f) for f in findings + problems(declared.product("flight_delays"))]


@pytest.fixture(scope="module", autouse=True)
def _tables() -> None:
    """The domain's tables are declared, as they are when the code location loads."""
    from mlops_assets.defs.nyc_flights import features, raw  # noqa: F401


def test_nothing_is_wrong_with_the_product():
    assert found(GOOD) == []


WEEKLY = f"""from {PROBLEM} import label, spine
import dagster as dg
DAYS = dg.WeeklyPartitionsDefinition("2013-01-06", end_date="2014-01-01")
"""


def test_a_cut_off_is_a_period_and_what_is_read_makes_periods_up(tmp_path, monkeypatch):
    (tmp_path / "by_weeks.py").write_text(WEEKLY)
    (tmp_path / "by_months.py").write_text(WEEKLY.replace("Weekly", "Monthly"))
    monkeypatch.syspath_prepend(tmp_path)
    weekly = replaced(GOOD, (PROBLEM, "by_weeks"))
    [cutoff] = found(weekly)
    assert cutoff == (
        "training.first_cutoff: 2013-07-31 is within the week of 2013-07-28; write 2013-07-28 to"
        " train through it"
    )
    good = replaced(weekly, ('"2013-07-31"', '"2013-07-28"'))
    assert found(good) == []
    calendar = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    key = dg.AssetKey(["nyc_flights", "weather_known"])
    monkeypatch.setitem(PERIODS_OF, key, periods_of(calendar))
    [other] = found(good)
    assert "'nyc_flights/weather_known' comes in months, the spine in weeks" in other


MISTAKES: list[tuple[str, str, str, str]] = [
    # what stands there, what is written instead, the field, what is said
    (FAMILIES, "families: [xgbost]", "training.families[0]", "did you mean 'xgboost'? There are"),
    (FAMILIES, "families: [xgboost, xgboost]", "training.families[1]", "'xgboost' stands there tw"),
    (FAMILIES, "families: []", "training.families", "at least 1 item"),
    ("      dest: {d", "      to: {d", "serving.request.to", "'to' is no column of the spine's ta"),
    ("example: 1744", "example: x", "serving.request.flight.example", "'x' is no integer, which"),
    ("two_hours_before_departure", "hours", "serving.on_demand", "has no attribute 'hours'"),
    (FAMILIES, "families: xgboost", "training.families", "'xgboost' should be a valid list"),
    (FAMILIES, "families: [xgboost, 3]", "training.families[1]", "3 should be a valid string"),
    ("baseline: logistic_regression", "baseline: linear", "training.baseline", "'linear' is no fa"),
    ("baseline: logistic_regression", "baseline: xgboost", "training.baseline", "in families too"),
    ("    baseline:", "    threshold: 0.5\n    baseline:", "training.threshold", "0.5 is no"),
    ("    baseline:", "    metric: accuracy\n    baseline:", "training.metric",
     "there are log_loss"),
    ("    baseline:", "    treads: 2\n    baseline:", "training.treads", "did you mean 'threads'?"),
    ("trials: 4", "trials: 0", "training.search.trials", "0 should be greater than or equal to 1"),
    ("seconds: 20", "seconds: soon", "training.search.seconds", "'soon' should be a valid number"),
    ("folds: 2", "folds: true", "training.search.folds", "True is no number"),
    ("folds: 2", "folds: 7", "training.search", "7 folds of 30 days and a day to train on need"),
    ('"2013-07-31"', "in July", "training.first_cutoff", "'in July' is no day; write it as"),
    ('"2013-07-31"', '"2014-07-31"', "training.first_cutoff", "not between 2013-01-01 and 2013-12"),
    ('    first_cutoff: "2013-07-31"\n', "", "training.first_cutoff", "is missing. Last local day"),
    ("validation_days: 31", "validation_days: 212", "training.validation_days",
     "212 days leave nothing"),
    ("validation_days: 31", "validation_days: 31\n    holdout_days: 212", "training.holdout_days",
     "212 days leave nothing of the history: 212 days, from 2013-01-01"),
    ("lead_hours: 2", "lead_hours: 5088", "spine.lead_hours",
     "5088 hours are longer than the history"),
    ("lead_hours: 2", "lead_hours: 3", "spine.lead_hours",
     "3 hours, but LEAD in mlops_assets.defs.flight_delays.problem is 2"),
    ("lead_hours: 2", "lead_hours: -1", "spine.lead_hours", "-1 should be greater than or equal"),
    ("lead_hours: 2", "lead_hours: .inf", "spine.lead_hours", "inf should be a finite number"),
    ("[date, carrier, flight, origin]", "[date, carrier, flihgt]", "spine.entity_keys[2]",
     "did you mean 'flight'?"),
    ("table: nyc_flights/flight_schedule", "table: nyc_flights/schedule", "spine.table",
     "did you mean 'nyc_flights/flight_schedule'?"),
    ("known_after_days: 2", "known_after_days: 153", "label.known_after_days", "past the last day"),
    ("- nyc_flights/weather_known", "- nyc_flights/weather_now", "features.tables[0]",
     "did you mean 'nyc_flights/weather_known'?"),
    ("- nyc_flights/weather_known", "- nyc_flights/origin_delays", "features.tables[2]", "twice"),
    ("nyc_flights.features", "nyc_flights.futures", "features.declared_in", "No module named"),
    ("[scheduled_hour, weekday,", "[scheduled_our, weekday,", "features.numeric[0]",
     "did you mean 'scheduled_hour'?"),
    ("[scheduled_hour, weekday,", "[scheduled_departure, weekday,", "features.numeric[0]",
     "'scheduled_departure' is Datetime"),
    ("[carrier, origin, dest]", "[origin, carrier, gate]", "features.categorical[2]",
     "'gate' is no column"),
    ("[carrier, origin, dest]", "[origin, carrier, weekday]", "features.categorical[2]",
     "in numeric too"),
    ("[carrier, origin, dest]", "[origin, carrier, carrier]", "features.categorical[2]", "twice"),
    ("[carrier, origin, dest]", "[carrier, dest]", "evaluation.segments[1]",
     "'origin' is no feature of the spine"),
    ("  task: binary", "  task: binry", "task", "did you mean 'binary'?"),
    ("  task: binary", "  task: regression", "training.baseline", "not for regression"),
    ("    baseline:", "    params: {xgbost: {}}\n    baseline:", "training.params.xgbost",
     "did you mean 'xgboost'?"),
    ("    baseline:", "    params: {xgboost: {depth: 3}}\n    baseline:",
     "training.params.xgboost.depth", "did you mean 'max_depth'?"),
    ("leak_auc: 0.82", "leak_auc: 0.4", "gates.leak_auc", "0.4 should be greater than 0.5"),
    ("leak_auc: 0.82", "min_days: 29", "gates.min_days", "training.holdout_days, 28, to judge on"),
    (
        "retraining:\n", "retraining:\n    fired_days: 9\n    of_days: 7\n",
        "retraining.fired_days", "9 of retraining.of_days 7 can never be",
    ),
    (
        "retraining:\n", 'retraining:\n    calendar: "each month"\n', "retraining.calendar",
        "'each month' is no cron schedule",
    ),
    ("leak_auc: 0.82", "min_days: 200", "gates.min_days", "after training.first_cutoff only 151"),
    ("min_gain_over_baseline: 0.0", "min_gain_over_baseline: 0.7", "gates.min_gain_over_baseline",
     "more than any model gains"),
    ("approval: none", "approval: requierd", "promotion.approval", "did you mean 'required'?"),
    ("retraining:\n", "compliance: {sensitive: {orgin: 0.2}}\n  retraining:\n",
     "compliance.sensitive.orgin", "'orgin' is no column of the spine; did you mean 'origin'?"),
    ("retraining:\n", "compliance: {sensitive: {origin: -0.2}}\n  retraining:\n",
     "compliance.sensitive.origin", "-0.2 is no gap; write a share of the mean loss, as 0.2"),
    ("team:data-science", "science", "owners[0]", "write team:NAME or an e-mail address"),
    (f"problem: {PROBLEM}", "problem: mlops_assets.nowhere", "problem", "No module named"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "says"), MISTAKES, ids=lambda text: text[:24])
def test_one_mistake_is_one_finding(old, new, field, says):
    (finding,) = found(replaced(GOOD, (old, new)))
    assert finding.startswith(f"{field}: ")
    assert says in finding


def test_a_sensitive_column_may_be_one_that_the_model_does_not_read_or_a_looked_up_one():
    groups = "compliance: {sensitive: {flight: 0.2, carrier_late_rate_24h: 0.2}}\n"
    assert found(replaced(GOOD, ("retraining:\n", f"{groups}  retraining:\n"))) == []


def test_a_missing_part_is_one_finding():
    text = replaced(GOOD, (GOOD[GOOD.index("  spine:") : GOOD.index("  label:")], ""))
    assert found(text) == ["spine: is missing. The rows to predict."]


def test_a_part_that_is_no_mapping_is_one_finding():
    text = replaced(GOOD, (GOOD[GOOD.index("  gates:") : GOOD.index("  serving:")], "  gates: 3\n"))
    (finding,) = found(text)
    assert finding.startswith("gates: 3 is no mapping; it has the fields min_gain_over_baseline, ")


def test_wrong_types_hide_no_other_mistake():
    fields = {
        "training.first_cutoff": ('"2013-07-31"', "soon"),
        "training.families[1]": (FAMILIES, "families: [xgboost, linear]"),
        "features.numeric[0]": ("[scheduled_hour,", "[hour,"),
        "spine.lead_hours": ("lead_hours: 2", "lead_hours: two"),
    }
    reported = [f.partition(":")[0] for f in found(replaced(GOOD, *fields.values()))]
    assert sorted(reported) == sorted(fields)


SPINE = "def spine(flight_schedule):\n    return flight_schedule"
LABEL = "def label(flight_events):\n    return flight_events"
MODULES = [
    ("def broken(:", "SyntaxError: invalid syntax (problem_{n}.py:1)"),
    ("DAYS = 1 / 0", "ZeroDivisionError: division by zero (problem_{n}.py:1)"),
    (f"DAYS = 3\n{SPINE}", "lacks label"),
    (
        f"DAYS = 3\n{SPINE}\n{LABEL}",
        "3 is not what rows can come in: hourly partitions",
    ),
    (f"from {PROBLEM} import *\n{SPINE}", "spine(...) gives no 'prediction_time'; it has carrier"),
    (f"from {PROBLEM} import *\n{SPINE}.foo", "has no attribute 'foo' (problem_{n}.py:3)"),
    (f"from {PROBLEM} import *\n{SPINE}.select('x')", 'unable to find column "x"'),
    (f"from {PROBLEM} import *\n{LABEL}", "label(...) gives no 'label'; it has available_at"),
]


@pytest.mark.parametrize("number", range(len(MODULES)))
def test_what_is_wrong_with_the_problem_module(tmp_path, monkeypatch, number):
    text, says = MODULES[number]
    (tmp_path / f"problem_{number}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    findings = found(replaced(GOOD, (PROBLEM, f"problem_{number}")))
    of_module = [f for f in findings if f.startswith("problem: ")]
    assert says.format(n=number) in "\n".join(of_module)


# --- a whole project --------------------------------------------------------------------------

_numbers = count()


@dataclass(frozen=True)
class Project:
    """A copy of defs/ as a project of its own; its names differ, so that copies do not meet."""

    root: Path
    package: str

    @property
    def defs(self) -> Path:
        return self.root / self.package / "defs"

    @property
    def domain(self) -> str:
        return f"{self.package}_flights"

    def own(self, text: str) -> str:
        """Text of the real defs/ with this project's names."""
        return text.replace("mlops_assets.defs", f"{self.package}.defs").replace(
            "nyc_flights", self.domain
        )

    def product(self, folder: str, *changes: Replaced) -> None:
        """Declare a product: the real one with changes."""
        (self.defs / folder).mkdir(parents=True, exist_ok=True)
        (self.defs / folder / "defs.yaml").write_text(replaced(self.own(GOOD), *changes))

    def load(self) -> dg.Definitions:
        return load_defs(self.root / self.package)

    def check_defs(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`dg check defs`, really."""
        return subprocess.run(
            [Path(sys.executable).with_name("dg"), "check", "defs", *options],
            env=os.environ | {"MLOPS_HOME": str(self.root / "home"), "NO_COLOR": "1"},
            cwd=self.root, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch) -> Any:
    made = Project(tmp_path, f"project_{os.getpid()}_{next(_numbers)}")
    for part, folder in {"nyc_flights": made.domain, "flight_delays": "flight_delays",
                         "platform": "platform"}.items():  # fmt: skip
        shutil.copytree(
            DEFS / part, made.defs / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(DEFS / "__init__.py", made.defs)
    for file in [*made.defs.rglob("*.py"), *made.defs.rglob("*.yaml")]:
        file.write_text(made.own(file.read_text()))
    (made.defs.parent / "__init__.py").touch()
    (made.defs.parent / "definitions.py").write_text((DEFS.parent / "definitions.py").read_text())
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\n'
        f'root_module = "{made.package}"\ncode_location_name = "{made.package}"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    yield made
    for name in [n for n in sys.modules if n.partition(".")[0] == made.package]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def real() -> dg.Definitions:
    """The definitions that the project is a copy of."""
    return defs()


def keys(definitions: dg.Definitions, folder: str) -> set[str]:
    graph = definitions.resolve_asset_graph()
    names = {k.to_user_string() for k in graph.get_all_asset_keys()}
    return {name for name in names if name.startswith(f"{folder}/")}


def test_a_broken_product_does_not_stop_the_others(project, real, caplog):
    project.product(
        "delays_soon", (FAMILIES, "families: [xgbost]"), ("lead_hours: 2", "lead_hours: x")
    )
    with caplog.at_level(logging.ERROR, logger="mlops"):
        definitions = project.load()

    assert keys(definitions, "flight_delays") == keys(real, "flight_delays")
    assert keys(definitions, "delays_soon") == {"delays_soon/declaration"}
    stand_in = definitions.resolve_asset_graph().get(dg.AssetKey(["delays_soon", "declaration"]))
    assert stand_in.group_name == "delays_soon"
    assert stand_in.tags.items() >= BROKEN.items()
    file = f"{project.package}/defs/delays_soon/defs.yaml"
    said = {f"{file}:14: spine.lead_hours: 'x'", f"{file}:37: training.families[0]: 'xgbost'"}
    assert {
        r.getMessage()[: len(s)] for r, s in zip(caplog.records, sorted(said), strict=True)
    } == said
    for place in said:
        where, _, field = place.partition(": ")
        assert f"`{where}` {field}" in stand_in.description

    upstream = [f"{project.domain}/{t}" for t in ("flight_schedule", "flight_events", "weather")]
    selected = [*upstream, *yaml.safe_load(project.own(GOOD))["attributes"]["features"]["tables"]]
    run = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[
            dg.AssetKey(t.split("/")) for t in [*selected, "flight_delays/feature_view"]
        ],
        partition_key="2013-01-02",
    )
    assert run.success
    assert len(run.asset_materializations_for_node("flight_delays__feature_view")) == 1


def test_a_broken_module_takes_only_what_needs_it(project, real, caplog):
    features = project.defs / project.domain / "features.py"
    features.write_text(features.read_text() + "\n\n1 / 0\n")
    line = len(features.read_text().splitlines())
    definitions = project.load()
    whole = {k.replace("nyc_flights", project.domain) for k in keys(real, "nyc_flights")}
    left = keys(definitions, project.domain)
    assert left < whole | {f"{project.domain}/declaration"}
    assert {f"{project.domain}/{t}" for t in ("flight_schedule", "flight_events", "weather")} < left
    assert keys(definitions, "flight_delays") == {"flight_delays/declaration"}
    said = [record.getMessage() for record in caplog.records]
    file = f"{project.package}/defs/{project.domain}/features.py"
    assert f"{file}:{line}: ZeroDivisionError: division by zero" in said
    assert any("features.declared_in: " in s and f"(features.py:{line})" in s for s in said)


def test_products_of_one_name_are_both_named_and_neither_loads(project, caplog):
    project.product("europe/flight_delays")
    definitions = project.load()
    assert keys(definitions, "flight_delays") == {"flight_delays/declaration"}
    files = [f"{project.package}/defs/{f}flight_delays/defs.yaml:" for f in ("europe/", "")]
    for message, own, other in zip(
        [r.getMessage() for r in caplog.records], files, files[::-1], strict=True
    ):
        assert message.startswith(own)
        assert f"{other}1 too; rename one of the folders" in message


NO_DECLARATIONS = {
    "open": ("type: [", "defs.yaml:1: not YAML: expected"),
    "typo": ("type: mlops_assets.components.MLProdcut\n", "has no attribute `MLProdcut`"),
    "more": (
        "type: mlops_assets.components.MLProduct\nattributes: {}\nowner: me",
        ":3: owner: 'me': Extra",
    ),
    "none": ("type: mlops_assets.components.MLProduct\nattributes: {}\n", ":2: spine: is missing"),
}


def test_a_file_that_is_no_declaration_stops_nothing(project, real, caplog):
    for folder, (text, _) in NO_DECLARATIONS.items():
        (project.defs / folder).mkdir()
        (project.defs / folder / "defs.yaml").write_text(text)
    definitions = project.load()
    assert keys(definitions, "flight_delays") == keys(real, "flight_delays")
    for folder, (_, says) in NO_DECLARATIONS.items():
        assert keys(definitions, folder) == {f"{folder}/declaration"}
        own = [r.getMessage() for r in caplog.records if f"/{folder}/" in r.getMessage()]
        assert says in "\n".join(own)


def test_what_the_rest_cannot_do_without_is_an_error(project):
    resources = project.defs / "platform" / "resources.py"
    resources.write_text("import nothing_of_this_name\n")
    with pytest.raises(BrokenDeclaration, match="lakehouse") as raised:
        project.load()
    assert [p.line for p in raised.value.problems] == [1]
    assert "No module named 'nothing_of_this_name'" in str(raised.value)


def test_values_from_the_environment_are_read(project, monkeypatch):
    for folder, trials in {"tuned": "3", "mistuned": "none at all"}.items():
        monkeypatch.setenv(f"TRIALS_{folder}", trials)
        project.product(folder, ("trials: 4", f"trials: \"{{{{ env('TRIALS_{folder}') }}}}\""))
    definitions = project.load()
    assert "tuned/champion" in keys(definitions, "tuned")
    assert keys(definitions, "mistuned") == {"mistuned/declaration"}


@pytest.mark.slow
def test_dg_check_defs_reports_everything_together(project):
    project.product(
        "delays_soon", (FAMILIES, "families: [xgbost]"), ("lead_hours: 2", "lead_hours: x")
    )
    project.product(
        "delays_late", ("    baseline:", "    threshold: 0.5\n    tries: 3\n    baseline:")
    )
    project.product("delays_lost", ("[carrier, origin, dest]", "[carrier, gate, origin]"))
    project.product("europe/flight_delays")
    extra = project.defs / project.domain / "extra.py"
    extra.write_text("def table(:\n")

    checked = project.check_defs()
    assert checked.returncode == 1
    output = checked.stdout + checked.stderr
    reported = re.findall(r"(\S+/defs/\S+):(\d+): (.+?)(?:: (.*))?$", output, re.MULTILINE)
    name = "the product's name 'flight_delays' is that of"
    fields = [says.partition(f" {project.package}")[0] for _, _, says, _ in reported]
    assert sorted(fields) == sorted([
        "SyntaxError", "spine.lead_hours", "training.families[0]", "training.threshold",
        "training.tries", "features.categorical[1]", name, name,
    ]), output  # fmt: skip
    for file, line, _, says in reported:
        written = (project.root / file.split(" ")[-1]).read_text().splitlines()[int(line) - 1]
        if value := re.match(r"'?([\w.]+)'? (should|is no )", says):
            assert value[1] in written
