"""The engine on a toy graph: what is asked for, what is not, and what a failure or a kill leaves.

readings (three days) ─▶ scaled ─▶ tens ─▶ total (no days)
"""

import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import dataframely as dy
import polars as pl
import pytest

from mlops_assets.components.automation import Requested, StillDue, content_changed
from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.provenance import provenance_of
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets.components.tables import feature_table, raw_table
from mlops_assets.local import repository
from mlops_assets.ml.point_in_time import Latest

DAYS = dg.DailyPartitionsDefinition("2013-03-01", end_date="2013-03-04")
KEYS = ["2013-03-01", "2013-03-02", "2013-03-03"]
DEFINITION = Latest(("station",), {"value": "value"}, timedelta(days=1))
FAIL, KILL = "fail", "kill"


class Readings(dy.Schema):
    date = dy.Date(primary_key=True)
    station = dy.Int64(primary_key=True)
    value = dy.Int64(nullable=False)


def graph(home: Path, factor: int = 1, **added: pl.Expr) -> dg.Definitions:
    """The toy graph on a lake under `home`, whose source is a file a day."""

    @raw_table(days=DAYS, contract=Readings)
    def readings(first, last):
        days = [k for k in KEYS if first.isoformat() <= k <= last.isoformat()]
        values = [int((home / k).read_text()) for k in days]
        rows = pl.DataFrame({"date": days, "station": 1, "value": values})
        return rows.with_columns(pl.col("date").str.to_date(), pl.col("station").cast(pl.Int64))

    @feature_table(days=DAYS, definition=DEFINITION)
    def scaled(readings):
        day = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        times = {"event_time": day, "available_at": day}
        return readings.with_columns(pl.col("value") * factor, **times, **added)

    @feature_table(days=DAYS, definition=DEFINITION)
    def tens(scaled):
        if (home / FAIL).exists():
            raise ValueError("the sensor is broken")
        if (home / KILL).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return scaled.with_columns(pl.col("value") // 10)

    @dg.asset(deps=[tens.key], automation_condition=content_changed())
    def total(lakehouse: LakehouseResource):
        value = lakehouse.store.scan("components/tens").collect()["value"].sum()
        return dg.MaterializeResult(metadata={"value": value}, data_version=dg.DataVersion("0"))

    lakehouse = LakehouseResource(uri=str(home / "lake"))
    return dg.Definitions([readings, scaled, tens, total], resources={"lakehouse": lakehouse})


@pytest.fixture
def home(tmp_path):
    """A folder with a source."""
    for number, key in enumerate(KEYS, start=1):
        change(tmp_path, key, 10 * number)
    return tmp_path


@pytest.fixture
def engine(home):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Engine(graph(home), instance)


def arrive(engine):
    report = Report()
    engine.arrive(engine.sources[0].days, report)
    assert report.errors == []
    return report


def change(home, key, value):
    (home / key).write_text(str(value))


def total(engine):
    event = engine.instance.get_latest_materialization_event(dg.AssetKey("total"))
    return event.asset_materialization.metadata["value"].value


def recomputed(report):
    return {name.removeprefix("components/"): n for name, n in report.recomputed.items()}


ALL = {"scaled": 3, "tens": 3, "total": 1}


def test_settling_makes_everything_once_and_then_nothing(engine):
    assert engine.settle().runs == []
    arrived = arrive(engine)
    assert recomputed(arrived) == {"readings": 3}
    assert recomputed(engine.settle()) == ALL
    assert total(engine) == 6
    assert engine.settle().runs == []


def test_days_that_are_asked_for_together_are_one_run(engine):
    arrive(engine)
    by_asset = {run.assets: run.partitions for run in engine.settle().runs}
    assert by_asset[("components/scaled",)] == by_asset[("components/tens",)] == tuple(KEYS)


def test_the_same_content_stops_the_wave(engine):
    arrive(engine)
    engine.settle()
    arrive(engine)
    assert engine.settle().runs == []


def test_changed_content_recomputes_its_own_day_and_stops_where_it_is_equal_again(home, engine):
    arrive(engine)
    engine.settle()
    change(home, KEYS[1], 25)
    arrive(engine)
    report = engine.settle()
    assert recomputed(report) == {"scaled": 1, "tens": 1}
    assert {run.partitions for run in report.runs} == {(KEYS[1],)}
    change(home, KEYS[1], 50)
    arrive(engine)
    assert recomputed(engine.settle()) == {"scaled": 1, "tens": 1, "total": 1}
    assert total(engine) == 9


def test_changed_code_recomputes_the_days_that_are_there(home, engine):
    arrive(engine)
    engine.settle()
    changed = Engine(graph(home, factor=2), engine.instance)
    assert recomputed(changed.settle()) == ALL
    assert total(engine) == 12
    assert changed.settle().runs == []


def test_a_column_more_is_null_in_days_that_are_not_yet_recomputed(home, engine):
    arrive(engine)
    engine.settle()
    scaled = dg.AssetKey(["components", "scaled"])
    lake = LakehouseResource(uri=str(home / "lake")).store
    wider = Engine(graph(home, half=pl.col("value") / 2), engine.instance)
    assert wider.run([scaled], [KEYS[2]]).error is None
    assert lake.scan("components/scaled").collect().sort("date")["half"].to_list() == [
        None,
        None,
        15,
    ]
    report = wider.settle()
    assert report.errors == []
    assert recomputed(report)["scaled"] == 2
    assert lake.scan("components/scaled").collect().sort("date")["half"].to_list() == [5, 10, 15]


def test_a_column_of_another_type_is_refused_by_name_and_what_was_there_stays(home, engine):
    arrive(engine)
    Engine(graph(home, half=pl.col("value") / 2), engine.instance).settle()
    changed = Engine(graph(home, half=pl.format("{}", "value")), engine.instance)
    report = changed.settle()
    assert "components/scaled: column 'half' is String and was Float64" in report.errors[0]
    lake = LakehouseResource(uri=str(home / "lake")).store
    assert lake.scan("components/scaled").collect().sort("date")["half"].to_list() == [5, 10, 15]


def test_what_failed_is_asked_for_again_and_nothing_downstream_before(home, engine):
    arrive(engine)
    (home / FAIL).touch()
    report = engine.settle()
    assert recomputed(report) == {"scaled": 3}
    assert [run.assets for run in report.runs] == [("components/scaled",), ("components/tens",)]
    assert "the sensor is broken" in report.errors[0]
    assert recomputed(engine.settle()) == {}
    (home / FAIL).unlink()
    assert recomputed(engine.settle()) == {"tens": 3, "total": 1}
    assert total(engine) == 6
    assert engine.settle().runs == []


def test_a_change_that_failed_is_not_forgotten(home, engine):
    arrive(engine)
    engine.settle()
    change(home, KEYS[1], 50)
    arrive(engine)
    (home / FAIL).touch()
    assert recomputed(engine.settle()) == {"scaled": 1}
    (home / FAIL).unlink()
    assert recomputed(engine.settle()) == {"tens": 1, "total": 1}
    assert total(engine) == 9


def test_a_change_after_a_first_settling_that_failed_is_seen(home, engine):
    arrive(engine)
    (home / FAIL).touch()
    engine.settle()
    (home / FAIL).unlink()
    change(home, KEYS[1], 50)
    arrive(engine)
    assert recomputed(engine.settle())["scaled"] == 1
    assert total(engine) == 9
    assert engine.settle().runs == []


def test_a_run_of_many_days_goes_on_to_what_follows(engine):
    """As the UI and the daemon launch a backfill of several assets; each day has its content."""
    arrive(engine)
    keys = [dg.AssetKey(["components", name]) for name in ("scaled", "tens")]
    assert engine.run(keys, KEYS).error is None
    provenance = provenance_of(engine.instance)
    provenance.refresh(keys)
    for key in keys:
        made = provenance.made(key)
        assert set(made) == set(KEYS)
        assert len({each.data_version for each in made.values()}) == 3
    assert recomputed(engine.settle()) == {"total": 1}


TO_BE_KILLED = """
import sys, warnings
from pathlib import Path
import dagster as dg
from mlops_assets.components.engine import Engine
from mlops_assets_tests.components.test_engine import graph
Engine(graph(Path(sys.argv[1])), dg.DagsterInstance.get()).settle()
"""


def test_a_killed_engine_goes_on_where_it_was(home, monkeypatch):
    """With the instance that the local environment has."""
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    (home / "dagster").mkdir()
    shutil.copy(repository() / "dagster.yaml", home / "dagster")
    with dg.DagsterInstance.get() as instance:
        engine = Engine(graph(home), instance)
        arrive(engine)
        (home / KILL).touch()
        killed = subprocess.run([sys.executable, "-W", "ignore", "-c", TO_BE_KILLED, str(home)])
        assert killed.returncode == -signal.SIGKILL
        (home / KILL).unlink()
        # A session does so as it opens; else the killed run counts as one that still makes them.
        assert len(end_abandoned(instance)) == 1
        assert recomputed(engine.settle()) == {"tens": 3, "total": 1}
        assert total(engine) == 6
        assert engine.settle().runs == []


def test_a_look_reads_of_failures_only_what_is_new(engine, home, monkeypatch):
    arrive(engine)
    (home / FAIL).touch()
    engine.settle()
    fetch, read = engine.instance.fetch_observations, []

    def counted(*args, **options):
        page = fetch(*args, **options)
        read.extend(page.records)
        return page

    monkeypatch.setattr(engine.instance, "fetch_observations", counted)
    provenance_of(engine.instance).retries = False  # as in the daemon, which nobody asked
    seen = []
    for _ in range(3):
        assert engine.due() == {}
        seen.append(len(read))
    assert seen == [3, 3, 3]
    (home / FAIL).unlink()
    change(home, KEYS[1], 50)
    arrive(engine)
    assert {key.path[-1] for key in engine.due()} == {"scaled"}


class RunEnds(dg.AutomationCondition):
    """Somebody's run ends while a look is under way."""

    def evaluate(self, context):
        name = context.key.path[-1]
        keys = ["2013-01-01"] if context.partitions_def else [None]
        for partition in keys:
            context.asset_graph_view.instance.report_runless_asset_event(
                dg.AssetMaterialization(name, partition=partition)
            )
        return dg.AutomationResult(context, context.candidate_subset)


def test_what_a_run_made_while_the_look_was_under_way_is_not_asked_for_again():
    at_first = dg.AutomationCondition.missing() & RunEnds()
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-03")

    @dg.asset(automation_condition=at_first)
    def whole() -> None: ...

    @dg.asset(automation_condition=at_first & StillDue(()))
    def seen() -> None: ...

    @dg.asset(partitions_def=days, automation_condition=at_first & StillDue(()))
    def seen_daily() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        asked = dg.evaluate_automation_conditions([whole, seen, seen_daily], instance)
    assert asked.get_num_requested(dg.AssetKey("whole")) == 1
    assert asked.get_num_requested(dg.AssetKey("seen")) == 0
    assert asked.get_requested_partitions(dg.AssetKey("seen_daily")) == {"2013-01-02"}


def test_who_takes_no_days_waits_for_days_that_are_asked_for_at_the_same_look():
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-03")

    @dg.asset(partitions_def=days, automation_condition=dg.AutomationCondition.missing())
    def daily() -> None: ...

    @dg.asset(
        deps=[daily], automation_condition=~dg.AutomationCondition.any_deps_match(Requested())
    )
    def waits() -> None: ...

    @dg.asset(deps=[daily], automation_condition=content_changed())
    def other() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        definitions = dg.Definitions([daily, waits, other])
        asked = dg.evaluate_automation_conditions(definitions, instance)
        assert asked.get_num_requested(dg.AssetKey("waits")) == 0
        for day in ("2013-01-01", "2013-01-02"):
            instance.report_runless_asset_event(dg.AssetMaterialization("daily", partition=day))
        asked = dg.evaluate_automation_conditions(definitions, instance)
        assert asked.get_num_requested(dg.AssetKey("waits")) == 1


@pytest.mark.parametrize("to_be_made_anew", ["daily", "whole"])
def test_a_change_waits_for_an_input_that_is_made_anew_in_another_run(to_be_made_anew):
    """`whole` has no days; `sum_of_days` reads `daily`, and `each_day` reads `whole`."""
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-02")
    always = ~dg.AutomationCondition.in_progress()

    def condition(name):
        return always if name == to_be_made_anew else None

    @dg.asset(partitions_def=days, automation_condition=condition("daily"))
    def daily() -> None: ...

    @dg.asset(automation_condition=condition("whole"))
    def whole() -> None: ...

    @dg.asset(deps=[daily], automation_condition=content_changed())
    def sum_of_days() -> None: ...

    @dg.asset(partitions_def=days, deps=[whole], automation_condition=content_changed())
    def each_day() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:

        def made(name, content):
            day = "2013-01-01" if name in ("daily", "each_day") else None
            tags = {"dagster/data_version": content}
            event = dg.AssetMaterialization(name, partition=day, tags=tags)
            instance.report_runless_asset_event(event)

        for name in ("daily", "whole", "sum_of_days", "each_day"):
            made(name, "first")
        for name in ("daily", "whole"):
            made(name, "second")
        definitions = dg.Definitions([daily, whole, sum_of_days, each_day])
        asked = dg.evaluate_automation_conditions(definitions, instance)
        waits, goes_on = "sum_of_days", "each_day"
        if to_be_made_anew == "whole":
            waits, goes_on = goes_on, waits
        assert asked.get_num_requested(dg.AssetKey(to_be_made_anew)) == 1
        assert asked.get_num_requested(dg.AssetKey(waits)) == 0
        assert asked.get_num_requested(dg.AssetKey(goes_on)) == 1
