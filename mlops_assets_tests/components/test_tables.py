"""Tables as assets on a toy domain: days, checks, quarantine, data versions."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import dataframely as dy
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables import Quality, feature_table, raw_table, table_of
from mlops_assets.components.tables.examine import Table, examine
from mlops_assets.components.tables.measures import Known
from mlops_assets.ml.point_in_time import Latest
from mlops_assets.stores.content import content_hash
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.source_files import SourceError

DAYS = dg.DailyPartitionsDefinition("2013-03-01", end_date="2013-03-11")
D1, D2, D3 = (date(2013, 3, n) for n in (1, 2, 3))
ROWS = 20
MEAN = Latest(("station",), {"mean": "value"})
RAW = "components/readings"


def a_day(day, value=1.0, rows=ROWS):
    return pl.DataFrame({"date": [day] * rows, "station": range(rows), "value": [value] * rows})


class Source:
    days: dict[date, pl.DataFrame] = {}
    stations = pl.DataFrame()


class Readings(dy.Schema):
    date = dy.Date(primary_key=True)
    station = dy.Int64(primary_key=True)
    value = dy.Float64(nullable=False, max=100)

    @dy.rule()
    def is_not_the_error_code(cls) -> pl.Expr:
        return pl.col("value") != -999


class Stations(dy.Schema):
    station = dy.Int64(primary_key=True)


@raw_table(days=DAYS, contract=Readings, quality=Quality(rows=(10, 30), max_rejected=0.1))
def readings(first, last):
    return pl.concat(frame for day, frame in Source.days.items() if first <= day <= last)


@raw_table(days=DAYS, contract=Readings)
def corrections(first, last):
    return pl.concat(a_day(day) for day in Source.days if first <= day <= last)


@raw_table(contract=Stations, quality=Quality(rows=(2, 5)))
def stations():
    return Source.stations


def mean_of(frame):
    day = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    means = frame.group_by("date", "station").agg(pl.col("value").mean())
    return means.with_columns(event_time=day, available_at=day)


@feature_table(days=DAYS, definition=MEAN)
def daily_mean(readings):
    return mean_of(readings)


@feature_table(days=DAYS, definition=MEAN)
def both_mean(readings, corrections):
    return mean_of(pl.concat([readings, corrections]))


@feature_table(days=DAYS, definition=MEAN, quality=Quality(rows=(3, 30)))
def known_mean(readings, stations):
    return mean_of(readings.join(stations, on="station"))


@dataclass
class Lab:
    lake: Lakehouse
    instance: dg.DagsterInstance

    def make(self, *assets, first=None, last=None):
        ends = {"start": first, "end": last or first} if first else {}
        return dg.materialize(
            assets,
            instance=self.instance,
            resources={"lakehouse": LakehouseResource(uri=self.lake.uri)},
            tags={f"dagster/asset_partition_range_{k}": str(day) for k, day in ends.items()},
            raise_on_error=False,
        )  # fmt: skip

    def rows(self, table):
        return self.lake.scan(table).collect()

    def published(self, table=RAW):
        return self.instance.get_materialized_partitions(dg.AssetKey(table.split("/")))

    def events(self, table=RAW):
        return self.instance.fetch_materializations(dg.AssetKey(table.split("/")), 100).records


def tags_of(record):
    return record.event_log_entry.asset_materialization.tags


def reason(result):
    error = next(e for e in result.all_events if e.is_step_failure).step_failure_data.error
    return (error.cause or error).message


@pytest.fixture
def lab(tmp_path):
    Source.days = {day: a_day(day) for day in (D1, D2, D3)}
    Source.stations = pl.DataFrame({"station": [1, 2, 3]})
    with dg.DagsterInstance.ephemeral() as instance:
        yield Lab(Lakehouse(tmp_path / "lake"), instance)


def test_a_backfill_is_one_run_with_a_version_and_checks_for_each_day(lab):
    result = lab.make(readings, first=D1, last=D3)
    events = {r.partition_key: r for r in lab.events()}
    assert set(events) == lab.published() == {"2013-03-01", "2013-03-02", "2013-03-03"}
    assert {r.run_id for r in events.values()} == {result.run_id}
    for day, record in events.items():
        versions = [tags_of(record)[f"dagster/{kind}_version"] for kind in ("data", "code")]
        code = readings.code_versions_by_key[readings.key]
        assert versions == [content_hash(a_day(date.fromisoformat(day))), code]
        assert record.event_log_entry.asset_materialization.metadata["rows"].value == ROWS
    newest = events["2013-03-03"].event_log_entry.asset_materialization.metadata
    assert [row.data["column"] for row in newest["profile"].records] == ["date", "station", "value"]
    commit = lab.lake.delta(RAW).history()[0]
    assert commit["run_id"] == result.run_id
    assert json.loads(commit["data_versions"]) == {
        day: tags_of(record)["dagster/data_version"] for day, record in events.items()
    }
    for check in readings.check_specs:
        history = lab.instance.event_log_storage.get_asset_check_execution_history(check.key, 10)
        evaluations = [r.event.dagster_event.asset_check_evaluation_data for r in history]
        assert {e.partition for e in evaluations} == set(events)
        assert all(e.passed and e.blocking for e in evaluations)


@pytest.mark.parametrize(
    ("check", "bad", "rule"),
    [
        ("volume", a_day(D2, rows=5), "withheld: volume"),
        ("contract", a_day(D2, value=101.0), "value: max"),
        ("contract", pl.concat([a_day(D2), a_day(D2, rows=3)]), "primary_key"),
        ("volume", a_day(D2, rows=18), "withheld: volume"),
    ],
)
def test_a_bad_day_is_withheld_and_the_others_are_published(lab, check, bad, rule):
    lab.make(readings, first=D1, last=D2)
    Source.days = {D1: a_day(D1, 2.0), D2: bad, D3: a_day(D3, 2.0)}
    result = lab.make(readings, first=D1, last=D3)
    assert not result.success
    assert "components/readings: withheld 2013-03-02 (" in reason(result)
    expected = pl.concat([a_day(D1, 2.0), a_day(D2), a_day(D3, 2.0)])
    assert_frame_equal(lab.rows(RAW), expected, check_row_order=False)
    made = {r.partition_key for r in lab.events() if r.run_id == result.run_id}
    assert made == {"2013-03-01", "2013-03-03"}
    refused = lab.rows(f"{RAW}_quarantine")
    assert_frame_equal(refused.drop("rule"), bad, check_row_order=False)
    assert rule in set(refused["rule"])
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert (check, "2013-03-02") in {(e.check_name, e.partition) for e in failed}


def test_what_the_source_says_is_the_sentence_of_the_failure_and_is_not_tried_again(lab):
    @raw_table(days=DAYS, contract=Readings)
    def broken(first, last):
        raise SourceError("readings.csv, line 7: 'x' is no number")

    result = lab.make(broken, first=D1)
    assert "components/broken: readings.csv, line 7: 'x' is no number." in reason(result)
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert failure.user_failure_data is not None
    assert lab.lake.tables() == []
    assert lab.published("components/broken") == set()


@pytest.mark.parametrize(("rows", "passed"), [(20, True), (19, True), (18, False), (25, True)])
def test_a_day_that_comes_again_may_lose_a_twentieth_of_its_rows(lab, rows, passed):
    lab.make(readings, first=D1)
    Source.days[D1] = a_day(D1, rows=rows)
    assert lab.make(readings, first=D1).success == passed
    assert lab.rows(RAW).height == (rows if passed else ROWS)


def judged(frame, days=(D1,), known=None, order_by=(), **quality):
    """What fails, by check and day, in a frame without a contract."""
    table = Table("toy", None, Quality(**quality), "", order_by=order_by)
    verdicts = examine(frame, table, list(days), known).verdicts
    return {(v.check, v.day): v.detail for v in verdicts if not v.passed}


VALUE = {"value": (pl.col("value"), 0, 10)}
TWELVE = a_day(D1, 3.0, rows=12).with_columns(pl.lit("a").alias("at"))


@pytest.mark.parametrize(
    ("frame", "quality", "said"),
    [
        (a_day(D1, 11.0), {"medians": VALUE}, "value: median 11, expected 0 to 10; is the unit"),
        (a_day(D1, None), {"medians": VALUE}, "value: median none, expected 0 to 10"),
        (a_day(D1, 10.0), {"medians": VALUE}, None),
        (a_day(D1, 11.0).clear(), {"medians": VALUE, "balance": VALUE}, None),
        (TWELVE, {"varies": ("value",)}, " value is 3.0 in all 12 readings; is the gauge stuck?"),
        (TWELVE, {"varies": ("value",), "varies_by": ("at",)}, "a value is 3.0 in all 12 readings"),
        (TWELVE, {"varies": ("value",), "varies_by": ("station",)}, None),
        (TWELVE.head(11), {"varies": ("value",)}, None),
        (TWELVE.with_columns(value=None), {"varies": ("value",)}, None),
    ],
)  # fmt: skip
def test_medians_and_frozen_values(frame, quality, said):
    found = judged(frame, **quality)
    assert bool(found) == (said is not None)
    assert all(said in detail for detail in found.values())


def at(day, *hours):
    """Rows of one key: (hour of the event, hour at which it became available)."""
    noon = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return pl.DataFrame(
        {
            "date": [day] * len(hours),
            "station": [1] * len(hours),
            "event_time": [noon + timedelta(hours=event) for event, _ in hours],
            "available_at": [noon + timedelta(hours=known) for _, known in hours],
        }
    )


@pytest.mark.parametrize(
    ("rows", "around", "refused"),
    [
        (at(D1, (1, 2), (2, 3), (3, 3)), None, None),
        (at(D1, (1, 5), (2, 3), (3, 4)), None, 3),
        (at(D1, (1, 2), (1, 3)), None, 2),
        (at(D2, (1, 2), (2, 3)), at(D1, (23, 26.5)), 1),
        (at(D2, (1, 2), (2, 30)), at(D3, (1, 2)), 1),
        (at(D2, (1, 2), (2, 3)), at(D1, (23, 25)), None),
    ],
)
def test_rows_must_become_available_in_the_order_of_their_event_time(rows, around, refused):
    day = rows["date"][0]
    found = judged(rows, [day], Known(around=around), ("station",))
    assert set(found) == ({("in_order", str(day))} if refused else set())
    assert all(f"{refused} rows do not become available" in said for said in found.values())


def test_only_a_look_up_by_days_relies_on_the_order():
    @feature_table(days=DAYS, definition=Latest(("station",), {"mean": "value"}, timedelta(1)))
    def fresh_mean(readings):
        return mean_of(readings)

    assert table_of(fresh_mean).checks == ["in_order"]
    assert table_of(daily_mean).checks == []


@pytest.mark.parametrize(("feature", "sources"), [(daily_mean, 1), (both_mean, 2)])
def test_downstream_skips_a_withheld_day_until_it_is_mended(lab, feature, sources):
    upstream = [readings, corrections][:sources]
    table = "/".join(feature.key.path)
    Source.days[D2] = a_day(D2, rows=5)
    for raw in upstream:
        lab.make(raw, first=D1, last=D3)
    assert lab.make(feature, first=D1, last=D3).success
    assert lab.published(table) == {"2013-03-01", "2013-03-03"}
    assert set(lab.rows(table)["date"]) == {D1, D3}
    alone = lab.make(feature, first=D2)
    assert "none of the days asked for is published upstream" in reason(alone)
    Source.days[D2] = a_day(D2)
    assert all(lab.make(asset, first=D2).success for asset in (readings, feature))
    assert set(lab.rows(table)["date"]) == {D1, D2, D3}
    assert lab.rows(f"{RAW}_quarantine").is_empty()


def test_a_daily_feature_reads_the_whole_of_a_table_without_days(lab):
    lab.make(readings, first=D1, last=D2)
    lab.make(stations)
    assert lab.make(known_mean, first=D1, last=D2).success
    assert lab.rows("components/known_mean").group_by("date").len()["len"].to_list() == [3, 3]


def test_a_bad_day_of_a_feature_is_withheld_too(lab):
    Source.stations = pl.DataFrame({"station": [1, 2]})
    lab.make(readings, first=D1)
    lab.make(stations)
    result = lab.make(known_mean, first=D1)
    assert "Their rows are in components/known_mean_quarantine" in reason(result)
    assert (
        lab.rows("components/known_mean_quarantine")["rule"].to_list() == ["withheld: volume"] * 2
    )
    assert lab.published("components/known_mean") == set()


def test_a_row_that_breaks_a_rule_goes_to_quarantine_with_its_name(lab):
    values = pl.Series("value", [1.0] * (ROWS - 2) + [-999.0, 101.0])
    Source.days = {D1: a_day(D1).with_columns(values)}
    assert lab.make(readings, first=D1).success
    refused = dict(lab.rows(f"{RAW}_quarantine").select("value", "rule").iter_rows())
    assert refused == {-999.0: "is_not_the_error_code", 101.0: "value: max"}
    assert lab.events()[0].event_log_entry.asset_materialization.metadata["quarantined"].value == 2


def test_the_data_version_follows_the_content_and_not_the_order(lab):
    versions = []
    mixed = a_day(D1).with_columns(value=pl.int_range(ROWS).cast(pl.Float64))
    for frame in (mixed, mixed.reverse(), mixed.with_columns(pl.col("value") + 1)):
        Source.days = {D1: frame}
        lab.make(readings, first=D1)
        versions.append(tags_of(lab.events()[0])["dagster/data_version"])
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (a_day(D3), "date is 2013-03-03, which is not among the days asked for (2013-03-01 to 20"),
        (a_day(D1).with_columns(date=None), "date is None, which is not among the days asked for"),
        (a_day(D1).with_columns(unit=1), "Readings does not have the columns unit; declare them"),
        (a_day(D1).drop("value"), "missing columns for schema 'Readings': 'value'"),
    ],
)
def test_a_frame_of_another_shape_is_refused(lab, frame, said):
    Source.days = {D1: frame}
    assert said in reason(lab.make(readings, first=D1, last=D2))
    assert lab.lake.tables() == []


def test_a_bad_whole_table_is_not_published(lab):
    Source.stations = pl.DataFrame({"station": [1]})
    result = lab.make(stations)
    assert "withheld all rows (components/stations: 1 rows, expected 2 to 5" in reason(result)
    assert lab.lake.tables() == ["components/stations_quarantine"]
    assert lab.events("components/stations") == []
    Source.stations = pl.DataFrame({"station": [1, 2]})
    assert lab.make(stations).success


def test_a_feature_table_without_its_two_times_is_refused(lab):
    @feature_table(days=DAYS, definition=MEAN)
    def timeless(readings):
        return readings.select("date", "station", "value")

    Source.days = {D1: a_day(D1)}
    assert lab.make(readings, first=D1).success
    result = lab.make(timeless, first=D1)
    assert not result.success
    assert "no column available_at, event_time" in str(
        result.failure_data_for_node(timeless.op.name).error
    )
