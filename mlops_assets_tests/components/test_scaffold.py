"""`mlops new`: a folder from a table; what cannot be is said with what would be good."""

from __future__ import annotations

import importlib
import json
import linecache
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from itertools import count
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster.components.component_scaffolding import scaffold_object
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.components import MLProduct
from mlops_assets.components.code_version import code_version, difference
from mlops_assets.components.ml_product.compliance import licences_of, raw_tables
from mlops_assets.components.ml_product.contract import contract_of
from mlops_assets.components.ml_product.evaluation import evaluation_asset
from mlops_assets.components.ml_product.problems import problems
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.reading import read
from mlops_assets.components.periods import periods_of
from mlops_assets.components.scaffold import New, Unusable, Wanted, new_product
from mlops_assets.components.scaffold.columns import safe_names
from mlops_assets.components.scaffold.look import LOOKED_AT, look
from mlops_assets.components.scaffold.scaffolder import MLProductScaffolder
from mlops_assets.components.tables import function_of
from mlops_assets.components.tables.table_asset import LICENCES
from mlops_assets.ml.compliance_gates import licences_stated
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.model_version import ModelVersion
from mlops_assets.stores.sources import SourceError
from mlops_assets_tests.postgresql import lacks, postgresql
from mlops_assets_tests.stores.test_sources import fill_sqlite

START = datetime(2024, 1, 1, 9)
COMPONENT = "mlops_assets.components.MLProduct"
_numbers = count()


def rides(days: int = 120) -> pl.DataFrame:
    """A table with a clock, and with what a model should not read."""
    hours = [timedelta(days=d, hours=h) for d in range(days) for h in (0, 5)]
    rows = pl.DataFrame({"starts at": [START + h for h in hours]}).join(
        pl.DataFrame({"station": ["Nord", "Süd & West", "O'st"]}), how="cross"
    )
    n = pl.int_range(pl.len())
    return rows.with_columns(
        n.alias("id"),
        ((n * 7) % 23).alias("count"),
        ((n * 7) % 23 * 2.5).alias("revenue"),
        ((n * 5) % 17 / 2).alias("temp °C"),
        pl.lit("const").alias("select"),
        (pl.col("starts at") + pl.duration(hours=3)).alias("closed_at"),
        pl.when(n % 3 == 0).then(pl.lit("a b")).otherwise(pl.lit("c")).alias("class"),
    )


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project: its package, whose name no other test has."""
    package = tmp_path / f"scaffolded_{next(_numbers)}"
    (package / "defs").mkdir(parents=True)
    for folder in (package, package / "defs"):
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [n for n in sys.modules if n.partition(".")[0] == package.name]:
        del sys.modules[name]


def made(project: Path, rows: pl.DataFrame, **wanted: object) -> New:
    path = project.parent / "table.parquet"
    rows.write_parquet(path)
    asked = Wanted(**{"name": "rides", "source": str(path), "label": "count"} | wanted)
    return new_product(asked, project.parent, project / "defs" / asked.name)


def text(project: Path, file: str) -> str:
    return (project / "defs" / "rides" / file).read_text()


# --- what is written --------------------------------------------------------------------------


def test_a_table_with_a_clock(project, monkeypatch):
    monkeypatch.setenv("DATA", str(project.parent))
    asked = {"source": "$DATA/table.parquet", "time": "starts at", "zone": "Europe/Berlin"}
    found = made(project, rides(), **asked)
    assert 'open_source("$DATA/table.parquet"' in text(project, "raw.py").replace("(\n    ", "(")
    assert found.decided.task == "regression"
    assert found.decided.keys == ("station", "starts_at")
    assert found.decided.numeric == ("temp_c",)
    assert found.decided.categorical == ("station", "class_")
    assert {c: why.partition(":")[0] for c, why in found.decided.left_out.items()} == {
        "id": "another value in each row",
        "revenue": "leak suspect",
        "select": "one value only",
        "closed_at": "known only after the fact",
    }
    said = yaml.safe_load(text(project, "defs.yaml"))
    assert said["type"] == COMPONENT
    assert said["attributes"]["spine"] == {
        "table": "rides/rides", "entity_keys": ["date", "station", "starts_at"],
        "time": "starts_at", "lead_hours": 1,
    }  # fmt: skip
    assert said["attributes"]["features"]["tables"] == ["rides/station_history"]
    assert "# left out: closed_at: known only after the fact: in 100% of the rows" in text(
        project, "defs.yaml"
    )
    assert found.made.lines < 50
    assert sorted(p.name for p in (project / "defs" / "rides").iterdir()) == [
        "README.md", "__init__.py", "defs.yaml", "expressions.py", "features.py", "raw.py",
        "test_rides.py",
    ]  # fmt: skip


@pytest.mark.parametrize("label", ["count", "wine"])
@pytest.mark.parametrize("name", ["rides", "rides_of_the_bicycles_of_a_town"])
def test_what_is_written_is_formatted(project, name, label):
    wine = (pl.int_range(pl.len()) % 5).replace_strict(dict(enumerate(CLASSES))).alias("wine")
    table = rides().with_columns(wine)
    made(project, table, time="starts at", zone="Europe/Berlin", name=name, label=label)
    folder = project / "defs" / name
    for check in (["format", "--check"], ["check", "--ignore", "S108"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--config", "pyproject.toml", str(folder)]
        told = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


def test_what_is_written_reads_the_source(project):
    made(project, rides(), time="starts at", zone="Europe/Berlin")
    raw = import_module(f"{project.name}.defs.rides.raw")
    rows = function_of(raw.rides)(date(2024, 1, 1), date(2024, 1, 2))
    _, broken = raw.Rides.filter(rows)
    assert (rows.height, broken.counts()) == (12, {})
    assert rows["starts_at"].min() == datetime(2024, 1, 1, 8, tzinfo=UTC)
    features = import_module(f"{project.name}.defs.rides.features")
    assert features.station_history.key.to_user_string() == "rides/station_history"


def declared(project: Path, *changes: tuple[str, str]) -> tuple[Product, list[str]]:
    """The product that was made, with changes to its declaration, and what is wrong with it."""
    said = text(project, "defs.yaml")
    for old, new in changes:
        assert said.count(old) == 1, f"{old!r} stands {said.count(old)} times in the declaration"
        said = said.replace(old, new)
    for module in ("raw", "features"):
        import_module(f"{project.name}.defs.rides.{module}")
    values, findings = read(MLProduct, yaml.safe_load(said)["attributes"])
    product = values.product("rides")
    return product, [str(f) for f in findings + problems(product)]


MOMENTS = [
    # In Berlin: before and after summer time begins, its end twice over, the turn of a year.
    datetime(2024, 3, 31, 0, 30), datetime(2024, 3, 31, 1, 0), datetime(2024, 10, 27, 0, 59),
    datetime(2024, 10, 27, 1, 0), datetime(2024, 12, 31, 22, 59), datetime(2024, 12, 31, 23, 0),
]  # fmt: skip


def test_the_calendar_is_local_and_the_endpoint_computes_what_training_reads(project):
    made(project, rides(), time="starts at", zone="Europe/Berlin")
    product, wrong = declared(project)
    assert wrong == []
    assert product.features.numeric == ["temp_c", "hour", "weekday", "month"]
    rows = pl.DataFrame({"starts_at": MOMENTS, "station": "Nord"}).with_columns(
        pl.col("starts_at").dt.replace_time_zone("UTC")
    )
    offline = product.module.spine(rows.lazy()).collect()
    assert offline.select("hour", "weekday", "month").rows() == [
        (1, 7, 3), (3, 7, 3), (2, 7, 10), (2, 7, 10), (23, 2, 12), (0, 3, 1),
    ]  # fmt: skip
    version = ModelVersion("rides", 1, "", "", {"family": "xgboost", "threshold": ""})
    contract = Contract.model_validate_json(contract_of(product, version).model_dump_json())
    assert contract.on_demand == f"{project.name}.defs.rides.expressions.calendar"
    assert {"hour", "weekday", "month"}.isdisjoint(field.name for field in contract.request)
    alone = [rows[n : n + 1].with_columns_seq(contract.expressions()) for n in range(rows.height)]
    assert pl.concat(alone).equals(offline)


def test_a_column_that_only_an_expression_reads_may_be_given_and_is_looked_up(project):
    made(project, rides(), time="starts at")
    path = project / "defs" / "rides" / "expressions.py"
    path.write_text(path.read_text().replace("at.month()", '(pl.col("revenue") + 1)'))
    product, wrong = declared(project)
    assert wrong == []
    assert not product.request["revenue"].required
    assert product.request["starts_at"].required


def test_what_a_calendar_does_not_tell_is_no_feature(project):
    """Of days there are no hours; a column of the table keeps its name."""
    day = rides(40).with_columns(pl.col("starts at").dt.truncate("1d"), weekday=pl.lit("Mo"))
    found = made(project, day.unique(["starts at", "station"]), time="starts at")
    assert found.decided.calendar == {"starts_at_weekday": "weekday", "starts_at_month": "month"}
    assert '.weekday().alias("starts_at_weekday"), ' in text(project, "expressions.py")
    assert declared(project)[1] == []


NAMED = ".expressions.calendar"
SHARED = {
    "no function": ((NAMED, ".expressions.calender"), "serving.on_demand", "'calender'"),
    "no module": ((NAMED, ".expression.calendar"), "serving.on_demand", "No module named"),
    "no expressions": ((NAMED, ".raw.SOURCE.span"), "serving.on_demand", "names a function that"),
    "another feature": ((" hour, weekday, month]", " hours, month]"), "features.numeric[1]",
                        "'hours' is no column of the spine; did you mean 'hour'?"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", SHARED)
def test_a_mistake_in_what_spine_and_endpoint_share_is_one_finding(project, mistake):
    change, field, says = SHARED[mistake]
    made(project, rides(), time="starts at")
    _, (wrong,) = declared(project, change)
    assert wrong.startswith(f"{field}: ")
    assert says in wrong


@pytest.mark.parametrize(
    ("expression", "says"),
    [('pl.col("cuont")', 'unable to find column "cuont"'), ("3", "it gives 3"),
     ('at.date().alias("date")', "date")],
)  # fmt: skip
def test_an_expression_that_does_not_work_is_one_finding(project, expression, says):
    made(project, rides(), time="starts at")
    path = project / "defs" / "rides" / "expressions.py"
    path.write_text(path.read_text().replace('at.month().alias("month")', expression))
    _, (wrong,) = declared(project, (", weekday, month]", ", weekday]"))
    assert wrong.startswith("serving.on_demand: ")
    assert says in wrong


def test_an_edited_expression_is_other_code(project):
    made(project, rides(), time="starts at")
    before = code_version(declared(project)[0].module.spine)
    path = project / "defs" / "rides" / "expressions.py"
    path.write_text(path.read_text().replace("at.hour()", "(at.hour() // 2)"))
    linecache.checkcache()
    importlib.reload(import_module(f"{project.name}.defs.rides.expressions"))
    assert code_version(declared(project)[0].module.spine) != before


def test_a_value_that_was_not_seen_goes_to_quarantine(project):
    made(project, rides(), time="starts at")
    raw = import_module(f"{project.name}.defs.rides.raw")
    rows = function_of(raw.rides)(date(2024, 1, 1), date(2024, 1, 1))
    new = rows.head(1).with_columns(station=pl.lit("Nordwest"), count=pl.lit(-3, pl.Int64))
    assert set(raw.Rides.filter(new)[1].counts()) == {"count|min", "station|regex"}


def test_a_table_without_a_clock_and_without_keys(project):
    table = rides().select("count", "temp °C", "class")
    found = made(project, table, label="class")
    assert (found.decided.task, found.decided.positive) == ("binary", "a b")
    assert found.decided.keys == ("row",)
    assert not (project / "defs" / "rides" / "features.py").exists()
    raw = import_module(f"{project.name}.defs.rides.raw")
    every = [date.fromisoformat(str(day)) for day in raw.DAYS.get_partition_keys()]
    rows = function_of(raw.rides)(every[0], every[-1])
    assert rows.height == table.height
    assert rows["date"].n_unique() > 150


@pytest.mark.parametrize(
    ("partitioning", "days", "kind", "first", "offset"),
    [
        ("weekly", 800, dg.WeeklyPartitionsDefinition, "2024-01-08", 1),
        ("monthly", 1000, dg.MonthlyPartitionsDefinition, "2024-02-01", 1),
    ],
)
def test_a_table_in_weeks_or_months(project, partitioning, days, kind, first, offset):
    rows = rides(days).filter(pl.col("starts at") > datetime(2024, 1, 3))
    made(project, rows, time="starts at", partitioning=partitioning)
    raw = import_module(f"{project.name}.defs.rides.raw")
    import_module(f"{project.name}.defs.rides.features")
    attributes = yaml.safe_load(text(project, "defs.yaml"))["attributes"]
    declared, findings = read(MLProduct, attributes)
    product = declared.product("rides")
    assert findings + problems(product) == []
    assert type(raw.DAYS) is kind
    assert raw.DAYS.day_offset == offset
    come = raw.DAYS.get_partition_keys()
    assert come[0] == first  # the first whole one
    last = periods_of(raw.DAYS).last_day(date.fromisoformat(come[-1]))
    assert last <= rows["starts at"].max().date()
    assert product.periods == periods_of(raw.DAYS)
    # What is usual for weeks or months is left to that.
    assert list(attributes["training"]) == ["first_cutoff"]
    assert attributes["training"]["first_cutoff"] in come


def test_too_few_weeks_and_weeks_without_a_clock_are_said(project):
    with pytest.raises(Unusable, match=r"17 whole weeks .* are too few to split by .* takes 78"):
        made(project, rides(), time="starts at", partitioning="weekly")
    with pytest.raises(Unusable, match="--partitioning weekly takes --time"):
        made(project, rides(), partitioning="weekly")
    with pytest.raises(Unusable, match=r"'yearly' is no partitioning\. There are hourly, daily"):
        made(project, rides(), time="starts at", partitioning="yearly")


def test_a_table_of_days_and_a_short_one(project):
    """Its columns also have the names of the platform's own."""
    day = pl.col("starts at").dt.date().alias("date")
    days = rides(45).group_by(day, "station").agg(pl.col("count").sum().alias("label"))
    days = days.with_columns(row=pl.int_range(pl.len()) % 7)
    found = made(project, days, time="date", label="label", zone="America/New_York")
    assert found.decided.keys == ("station", "date_")
    raw = import_module(f"{project.name}.defs.rides.raw")
    rows = function_of(raw.rides)(date(2024, 1, 7), date(2024, 1, 7))
    assert rows["date_"].unique().to_list() == [datetime(2024, 1, 7, 5, tzinfo=UTC)]
    assert set(rows.columns) == {"date", "date_", "station", "label_", "row_"}
    assert raw.Rides.filter(rows)[1].counts() == {}
    assert "windows=[3, 7]" in text(project, "features.py")
    said = yaml.safe_load(text(project, "defs.yaml"))["attributes"]
    assert said["training"]["validation_days"] == 5


CLASSES = ["Barolo", "Barbera d'Asti", "Grüner Veltliner", "no", "null"]


def test_class_names_with_spaces_quotes_and_letters(project):
    n = pl.int_range(pl.len())
    wines = rides().with_columns((n % 5).replace_strict(dict(enumerate(CLASSES))).alias("wine"))
    found = made(project, wines, label="wine")
    assert (found.decided.task, found.decided.positive) == ("multiclass", None)
    raw = import_module(f"{project.name}.defs.rides.raw")
    rows = function_of(raw.rides)(date(2000, 1, 1), date(2000, 7, 18))
    assert set(rows["wine"].unique()) == set(CLASSES)
    assert raw.Rides.filter(rows)[1].counts() == {}


def test_the_history_of_several_classes_has_the_share_of_each_frequent_one(project):
    n = pl.int_range(pl.len())
    rare = pl.when(n % 100 == 0).then(pl.lit("corked")).otherwise(pl.lit("no"))
    wines = rides().with_columns(
        (n % 5).replace_strict(dict(enumerate(CLASSES[:3])), default=rare).alias("wine")
    )
    found = made(project, wines, label="wine", time="starts at")
    assert found.decided.shares == {
        "wine_no": "no", "wine_barbera_d_asti": "Barbera d'Asti", "wine_barolo": "Barolo",
        "wine_gruener_veltliner": "Grüner Veltliner",
    }  # fmt: skip
    product, wrong = declared(project)
    assert wrong == []
    assert "station_wine_gruener_veltliner_28d" in product.columns.numeric
    features = import_module(f"{project.name}.defs.rides.features")
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    labelled = pl.DataFrame({
        "date": [days[0]] * 4 + [days[1]], "station": "Nord",
        "wine": ["Grüner Veltliner", "no", None, "corked", "Grüner Veltliner"],
    })  # fmt: skip
    sums = function_of(features.station_history)(labelled.lazy()).collect()
    assert sums.select("rows", "wine_gruener_veltliner_rows", "wine_no_rows").rows() == [
        (3, 1, 1), (1, 1, 0),
    ]  # fmt: skip


NO_HISTORY = {
    "no time": ({}, "- no history of the label is read: without --time"),
    "ids": (
        {"time": "starts at", "keys": ("id",)},
        "- no history of the label is read: no key has",
    ),
}


@pytest.mark.parametrize("label", ["class", "count", "station"])
@pytest.mark.parametrize("case", NO_HISTORY)
def test_where_no_history_is_read_the_readme_says_why(project, case, label):
    wanted, says = NO_HISTORY[case]
    made(project, rides(), label=label, **wanted)
    assert says in text(project, "README.md")
    assert not (project / "defs" / "rides" / "features.py").exists()


TASKS = {
    "binary": (pl.int_range(pl.len()) % 2, None),
    "binary of 1 and 2": (pl.int_range(pl.len()) % 3 // 2 + 1, 2),
    "binary of text": (
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("No")).otherwise(pl.lit("yes")), "yes",
    ),
    "binary of booleans": (pl.int_range(pl.len()) % 2 == 0, None),
    "multiclass of few integers": (pl.int_range(pl.len()) % 4, None),
    "regression": (pl.int_range(pl.len()) / 3, None),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_task_follows_from_the_label(project, task):
    label, positive = TASKS[task]
    found = made(project, rides().with_columns(label.alias("y")), label="y", time="starts at")
    assert (found.decided.task, found.decided.positive) == (task.split()[0], positive)
    assert found.decided.why.startswith("y ")


def test_columns_get_names_that_are_names():
    own = ["Straße", "2nd", "class", "date", "a b", "a-b", "价格", "cast", "SELECT", "count"]
    assert list(safe_names(own).values()) == [
        "strasse", "c_2nd", "class_", "date_", "a_b", "a_b_2", "column_7", "cast_", "select",
        "count",
    ]  # fmt: skip


def test_a_csv_is_typed_by_its_values(project):
    table = rides(40).with_columns(
        plz=pl.format("0{}", pl.int_range(pl.len()) % 90 + 10),
        holiday=(pl.int_range(pl.len()) % 9 == 0),
    )
    table.write_csv(project.parent / "table.csv", datetime_format="%Y-%m-%dT%H:%M:%S+01:00")
    found = made(project, table, source=str(project.parent / "table.csv"), time="starts at")
    assert "plz" in found.decided.categorical
    assert {"temp_c", "holiday"} <= set(found.decided.numeric)


def test_ten_million_rows_are_looked_at_in_part(tmp_path):
    n = pl.int_range(10_000_000)
    table = pl.select(n.alias("id"), (n % 97).cast(pl.Int16).alias("y"))
    table.write_parquet(tmp_path / "big.parquet", compression="uncompressed")
    found = look(Wanted("big", str(tmp_path / "big.parquet"), "y"))
    assert found.count == 10_000_000
    assert LOOKED_AT // 2 < found.rows.height <= LOOKED_AT


# --- mistakes ---------------------------------------------------------------------------------

CLOCK = {"time": "starts at"}
MISTAKES = {
    "wrong column": ({"label": "cuont"}, "there is no column 'cuont' (did you mean 'count'?)"),
    "wrong key": ({"keys": ("statoin",)}, "no column 'statoin' (did you mean 'station'?)"),
    "one class": ({"label": "select"}, "the label 'select' has 1 value ('const') in 720 rows"),
    "duplicate keys": (
        {"keys": ("station",), **CLOCK},
        "the keys station do not identify a row: 720 rows share theirs, as 2 with station",
    ),
    "a bad name": ({"name": "My rides"}, "use lower-case letters, digits and _, as in bike_rides"),
    "a name that is taken": ({"name": "predictions"}, "is the name of something else here"),
    "an unknown task": ({"task": "regresion"}, "'regresion' is no task; did you mean 'regression'"),
    "an unknown zone": ({"zone": "Europe/Berln"}, "did you mean 'Europe/Berlin'?"),
    "a task that does not fit": (
        {"label": "class", "task": "regression"},
        "the label 'class' is String with 2 values, which is nothing for regression",
    ),
    "not a time": ({"time": "count"}, "column 'count' is Int64, expected a time"),
    "no file": ({"source": "gone.parquet"}, "gone.parquet: there is no such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_and_leaves_nothing(project, mistake):
    wanted, says = MISTAKES[mistake]
    with pytest.raises((Unusable, SourceError), match=re.escape(says)):
        made(project, rides(), **wanted)
    assert [p.name for p in (project / "defs").iterdir()] == ["__init__.py"]
    assert not list(project.glob(".new_*"))


TABLES = {
    "too few rows": (rides(10), {}, "60 rows are too few to learn from and to judge; 100 is the"),
    "too few days": (rides(20), CLOCK, "20 days (2024-01-01 to 2024-01-20) are too few to split"),
    "times of the future": (
        rides().with_columns(pl.col("starts at").dt.offset_by("200y")), CLOCK,
        "'starts at' reaches into the future, to 2224-04-29",
    ),
    "mixed time zones": (
        rides().with_columns(
            pl.col("starts at").dt.to_string("iso:strict")
            + pl.when(pl.int_range(pl.len()) > 700).then(pl.lit("Z")).otherwise(pl.lit(""))
        ), CLOCK,
        "column 'starts at' mixes times with a zone (19, as '2024-",
    ),
    "a label of many texts": (
        rides().with_columns(pl.format("text {}", "id").alias("count")), {},
        "the label 'count' is String with 720 values; expected a number, or at most 20 classes",
    ),
    "nothing identifies a row": (
        pl.concat([rides(), rides()]).drop("id"), CLOCK,
        "no column or pair of columns identifies a row; of station, starts_at: 1,440 rows share",
    ),
    "a row without a time": (
        rides().with_columns(pl.when(pl.col("id") != 5).then(pl.col("starts at"))), CLOCK,
        "column 'starts at' is empty; no day would ask for such a row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TABLES)
def test_a_table_that_will_not_do_is_said(project, mistake):
    table, wanted, says = TABLES[mistake]
    with pytest.raises((Unusable, SourceError), match=re.escape(says)):
        made(project, table, **wanted)
    assert [p.name for p in (project / "defs").iterdir()] == ["__init__.py"]


# --- licences and leaks -----------------------------------------------------------------------


def test_a_licence_that_is_stated_is_written_as_it_is(project):
    found = made(project, rides(), time="starts at", licence='the "open" terms of Süd')
    assert not any("licence" in note for note in found.decided.notes)
    product, _ = declared(project)
    assert licences_of(product) == {"rides/rides": 'the "open" terms of Süd'}
    stated = licences_stated(raw_tables(product), licences_of(product))
    assert stated.passed


def test_a_licence_that_nobody_stated_is_asked_for_and_refused(project):
    LICENCES.pop("rides/rides", None)
    found = made(project, rides(), time="starts at")
    assert found.decided.notes[0].startswith(
        "no licence is stated: fill it in at licence= in raw.py"
    )
    assert "# Fill in the licence, as" in text(project, "raw.py")
    assert '"our own")' not in text(project, "raw.py")
    product, wrong = declared(project)
    assert wrong == []
    refused = licences_stated(raw_tables(product), licences_of(product))
    assert not refused.passed
    assert refused.detail.startswith("no licence is stated of rides/rides; say under which terms")


def test_to_state_a_licence_lets_the_evaluation_judge_anew(project):
    LICENCES.pop("rides/rides", None)
    made(project, rides(), time="starts at")
    product, _ = declared(project)
    before = next(iter(evaluation_asset(product).specs)).code_version
    LICENCES["rides/rides"] = "CC0-1.0"
    now = next(iter(evaluation_asset(product).specs)).code_version
    assert difference(before, now) == ["configuration"]


def test_the_readme_says_which_columns_tell_most_and_what_to_raise_if_that_is_honest(project):
    made(project, rides(), time="starts at")
    said = " ".join(text(project, "README.md").split())
    assert "each alone: revenue R² 0.834 (left out). If all" in said
    assert "raise `leak_explained` under `gates:` in `defs.yaml`" in said


def test_the_readme_names_them_of_classes_too(project):
    easy = rides().with_columns(size=pl.when(pl.col("class") == "c").then(5).otherwise(1))
    found = made(project, easy, label="class")
    assert next(iter(found.decided.telling)) == "size"
    said = " ".join(text(project, "README.md").split())
    assert "each alone: size AUC 1.000 (left out)" in said
    assert "raise `leak_auc`" in said


def test_what_is_there_stays_and_what_a_killed_process_left_goes(project):
    (project / ".new_rides_1").mkdir()
    (project / ".new_rides_1" / "raw.py").write_text("half of")
    made(project, rides(), time="starts at")
    assert not list(project.glob(".new_*"))
    before = text(project, "raw.py")
    with pytest.raises(Unusable, match="is there already and stays as it is; take another name"):
        made(project, rides(), label="class")
    assert text(project, "raw.py") == before


def test_a_password_is_not_written(project):
    from mlops_assets.components.scaffold.render import place

    assert place("postgresql://me:hidden@db/x") == "postgresql://me@db/x"
    assert place("postgresql://me:$SECRET@db/x") == "postgresql://me:$SECRET@db/x"


# --- databases --------------------------------------------------------------------------------


def test_a_table_of_sqlite(project):
    path = project.parent / "a.db"
    rows = rides().with_columns(pl.col("starts at", "closed_at").dt.to_string("iso"))
    fill_sqlite(path, "order", rows)
    found = made(project, rides(), source=f"sqlite:///{path}", table="order", time="starts at")
    assert found.decided.keys == ("station", "starts_at")
    raw = import_module(f"{project.name}.defs.rides.raw")
    assert function_of(raw.rides)(date(2024, 1, 3), date(2024, 1, 3)).height == 6


def test_a_table_of_postgresql(project, monkeypatch):
    if missing := lacks():
        pytest.skip(f"PostgreSQL cannot run here: {missing} is not installed")
    import psycopg

    monkeypatch.setenv("PGPASSWORD", "a-password")
    with postgresql("a-password") as address:
        with psycopg.connect(address) as base:
            base.execute("create table rides (at timestamptz, station text, count int)")
            rows = rides().select("starts at", "station", "count").rows()
            with base.cursor() as cursor:
                cursor.executemany("insert into rides values (%s, %s, %s)", rows)
        found = made(project, rides(), source=address, table="rides", time="at")
        assert found.decided.keys == ("station", "at")
        raw = import_module(f"{project.name}.defs.rides.raw")
        read = function_of(raw.rides)(date(2024, 1, 3), date(2024, 1, 3))
        assert raw.Rides.filter(read)[1].counts() == {}
        assert read.height == 6
    assert "a-password" not in text(project, "raw.py")


# --- the two ways to ask ----------------------------------------------------------------------


def test_the_command(project, monkeypatch):
    rides().write_csv(project.parent / "rides.csv")
    monkeypatch.setattr("mlops_assets.local.repository", lambda: project.parent)
    (project.parent / "mlops_assets" / "defs").mkdir(parents=True)
    asked = ["new", "rides", "--from", str(project.parent / "rides.csv"), "--label", "count"]
    found = CliRunner().invoke(app, [*asked, "--time", "starts at", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (said["task"], said["keys"]) == ("regression", ["station", "starts_at"])
    assert all((project.parent / file).is_file() for file in said["files"])
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def scaffolded(project: Path, **params: str) -> Path:
    folder = project / "defs" / "rides"
    scaffold_object(folder, COMPONENT, json.dumps(params), "yaml", project.parent)
    return folder


def test_dagster_scaffolds_the_same_folder(project):
    own = made(project, rides(), time="starts at")
    written = {p.name: p.read_text() for p in own.made.folder.iterdir()}
    for path in own.made.folder.iterdir():
        path.unlink()
    source = str(project.parent / "table.parquet")
    folder = scaffolded(project, source=source, label="count", time="starts at")
    assert {p.name: p.read_text() for p in folder.iterdir()} == written


def test_dagster_scaffolds_a_declaration_to_fill_in(project):
    import click

    declared = yaml.safe_load((scaffolded(project) / "defs.yaml").read_text())
    assert declared["attributes"]["spine"]["table"] == "rides/rides"
    with pytest.raises(click.UsageError, match="give --label, the column to predict"):
        scaffold_object(project / "defs" / "b", COMPONENT, '{"source": "x.csv"}', "yaml", None)
    assert not (project / "defs" / "b").exists()


def test_every_field_of_the_declaration_is_described():
    schema = MLProduct.model_json_schema()
    parts = {"": schema, **schema["$defs"]}
    assert [
        f"{part}.{name}"
        for part, declared in parts.items()
        for name, field in declared.get("properties", {}).items()
        if "description" not in field and "$ref" not in field  # a part says it itself
    ] == []
    shown = MLProduct.get_model_cls().model_json_schema()["properties"]
    assert shown["task"]["description"] == schema["properties"]["task"]["description"]


def test_every_option_is_described():
    fields = MLProductScaffolder.get_scaffold_params().model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    assert set(fields) | {"name"} == set(replace(Wanted("a", "b", "c")).__dict__)
