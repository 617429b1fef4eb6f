"""The flights domain on all rows of the source: times, contracts, checks, dependencies."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.tables import function_of, table_of
from mlops_assets.components.tables.examine import examine
from mlops_assets.defs.nyc_flights import departures, features, flights, raw
from mlops_assets.defs.nyc_flights.days import DAYS
from mlops_assets.defs.nyc_flights.expressions import (
    NEW_YORK,
    clock,
    local_date,
    relative_humidity,
)
from mlops_assets.defs.nyc_flights.source import (
    AIRPORTS_WITHOUT_ZONE,
    read_source,
    require_new_york_clock,
)
from mlops_assets.stores.content import content_hash, content_hashes
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.source_files import SourceError
from mlops_assets_tests.defs.house import house

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
SPRING, AUTUMN = date(2013, 3, 10), date(2013, 11, 3)
YEAR = [FIRST + timedelta(days=n) for n in range(365)]
EDGES = [FIRST, SPRING, date(2013, 4, 18), AUTUMN, LAST]
KEY = ["date", "carrier", "flight", "origin"]
DAILY = [raw.flight_schedule, raw.flight_events, raw.weather]
WHOLE = [raw.planes, raw.airports, raw.airlines, raw.routes]
FEATURES = [
    asset
    for module in (features, departures)
    for asset in vars(module).values()
    if isinstance(asset, dg.AssetsDefinition)
]


@pytest.fixture
def two_houses(tmp_path):
    """Two lakes, empty."""
    with house(tmp_path / "one") as one, house(tmp_path / "other") as other:
        yield one, other


@pytest.fixture(scope="module")
def planned():
    return flights.planned(FIRST, LAST)


@pytest.fixture(scope="module")
def happened():
    return flights.happened(FIRST, LAST)


@pytest.fixture(scope="module")
def year(planned, happened):
    """What becomes of the year's rows of each raw table with days, and of the routes, by name.

    By the pure functions; through the assets it takes longer, and is at the end.
    """
    whole = function_of(raw.weather)(FIRST, LAST)
    daily = dict(zip(DAILY, (planned, happened, whole), strict=True))
    found = {
        asset.key.path[-1]: examine(rows, table_of(asset), YEAR) for asset, rows in daily.items()
    }
    routes = examine(function_of(raw.routes)(), table_of(raw.routes), None)
    return found | {"routes": routes}


@pytest.fixture(scope="module")
def flown(planned, happened):
    """Flights that arrived, beside their row in the source."""
    day = pl.date("year", "month", "day").alias("date")
    arrivals = happened.filter(pl.col("event") == "arrival").drop("date", "dest")
    arrivals = arrivals.rename({"flight_date": "date"})
    return planned.join(read_source("flights").with_columns(day), on=KEY).join(arrivals, on=KEY)


def test_each_flight_is_planned_once_on_its_local_day(planned):
    a_day = planned.group_by("date").len()["len"]
    assert planned.height == planned.select(KEY).n_unique() == 336_776
    assert (a_day.len(), a_day.min(), a_day.max()) == (365, 634, 1_014)
    assert planned.filter(local_date("scheduled_departure") != pl.col("date")).is_empty()
    assert planned.null_count().sum_horizontal().item() == 0


def test_clock_times_give_back_the_sources_own(flown):
    """Delays were measured by local clocks; ours go by UTC and must show the same clock."""
    zones = dict(read_source("airports").select("faa", "tzone").drop_nulls().iter_rows())
    shown = pl.concat(
        rows.select(
            _hhmm(pl.col("departed_at"), NEW_YORK).alias("departed"),
            _hhmm(pl.col("event_time"), (zones | AIRPORTS_WITHOUT_ZONE)[dest]).alias("arrived"),
            pl.col("dep_time", "arr_time") % 2400,
        )
        for (dest,), rows in flown.group_by("dest")
    )
    assert shown.height == 327_280
    assert (shown["departed"] == shown["dep_time"]).all()
    # One flight landed at 2:03 of the night on which there is no such time; we say 3:03.
    off = shown.filter(pl.col("arrived") != pl.col("arr_time"))
    assert off.select("arrived", "arr_time").rows() == [(303, 203)]


def _hhmm(time, zone):
    local = time.dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()


def test_block_time_leaves_5_to_235_minutes_on_the_ground(flown):
    block = (flown["event_time"] - flown["departed_at"]).dt.total_minutes()
    ground = block - flown["air_time"]
    assert (ground.min(), ground.max()) == (5, 235)


def test_2400_is_the_end_of_the_day():
    shown = pl.DataFrame({"t": [0, 5, 1230, 2359, 2400]}).select(clock("t")).to_series().to_list()
    assert shown == [timedelta(minutes=m) for m in (0, 5, 750, 1439, 1440)]
    assert (read_source("flights")["arr_time"] == 2400).sum() == 150


@pytest.mark.parametrize(("day", "noon"), [(SPRING, 16), (AUTUMN, 17)])
def test_noon_follows_the_clock_on_the_days_on_which_it_changes(planned, day, noon):
    leaves = planned.filter(pl.col("date") == day)["scheduled_departure"]
    at_noon = leaves.filter(leaves.dt.convert_time_zone(NEW_YORK).dt.hour() == 12)
    assert set(at_noon.dt.hour()) == {noon}


@pytest.mark.parametrize(("day", "hour", "readings"), [(SPRING, 2, 0), (AUTUMN, 1, 2)])
def test_weather_has_no_hour_in_spring_and_one_twice_in_autumn(year, day, hour, readings):
    read = year["weather"].good.filter(date=day, origin="EWR")
    local = read["event_time"].dt.convert_time_zone(NEW_YORK).dt.hour()
    assert (local == hour).sum() == readings


@pytest.mark.parametrize("airport", ["SJU", "BQN", "STT", "PSE"])
def test_the_caribbean_keeps_atlantic_time_all_year(flown, airport):
    rows = flown.filter(pl.col("dest") == airport)
    assert len(rows)
    shown = rows.select(_hhmm(pl.col("event_time"), "Etc/GMT+4")).to_series()
    assert (shown == rows["arr_time"] % 2400).all()


def test_labels_are_known_within_two_days(happened):
    arrived = happened.filter(pl.col("event") == "arrival")
    assert set((arrived["date"] - arrived["flight_date"]).dt.total_days()) <= {0, 1, 2}
    assert (happened["available_at"] == happened["event_time"]).all()


def test_days_are_those_of_the_source():
    keys = DAYS.get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == (str(FIRST), str(LAST), 365)


def test_no_day_of_the_source_fails_a_check(year):
    for examined in year.values():
        assert [v.detail for v in examined.verdicts if not v.passed] == []
    for feature, read in {
        features.weather_known: year["weather"],
        features.scheduled_congestion: year["flight_schedule"],
    }.items():
        rows = function_of(feature)(read.good.lazy()).collect()
        examined = examine(rows, table_of(feature), YEAR)
        assert "in_order" in {v.check for v in examined.verdicts}
        assert [v.detail for v in examined.verdicts if not v.passed] == []


def test_the_clock_of_a_flight_and_its_hour_in_utc_agree_at_midnight_and_when_the_clock_changes():
    rows = pl.DataFrame(
        {
            "local": [SPRING, SPRING, AUTUMN, AUTUMN, AUTUMN, FIRST],
            "sched_dep_time": [130, 330, 130, 130, 2400, 2400],
            "time_hour": [
                datetime(2013, 3, 10, 6), datetime(2013, 3, 10, 7),
                datetime(2013, 11, 3, 5), datetime(2013, 11, 3, 6),
                datetime(2013, 11, 4, 5), datetime(2013, 1, 2, 5),
            ],
        }
    ).with_columns(pl.col("time_hour").dt.replace_time_zone("UTC"))  # fmt: skip
    local = pl.col("local").cast(pl.Datetime("us")) + clock("sched_dep_time")
    require_new_york_clock(rows, "flights", local)
    earlier = local - pl.duration(minutes=31)
    with pytest.raises(SourceError, match=r"the times of 2 of 2 rows contradict .* say 00:00"):
        require_new_york_clock(rows.head(2), "flights", earlier)


@pytest.mark.parametrize(
    ("temperature", "dew_point", "humidity"), [(39.02, 26.06, 59.37), (91.94, 71.96, 52.23)]
)
def test_humidity_follows_from_temperature_and_dew_point(temperature, dew_point, humidity):
    row = pl.DataFrame({"t": [temperature], "d": [dew_point]})
    assert row.select(relative_humidity("t", "d")).item() == pytest.approx(humidity, abs=0.1)


def test_the_contracts_refuse_exactly_the_known_defects(year):
    refused = {name: examined.rejected for name, examined in year.items()}
    assert refused["flight_schedule"].is_empty()
    wind = refused["weather"].row(0, named=True)
    assert (wind["origin"], wind["date"]) == ("EWR", date(2013, 2, 12))
    assert (round(wind["wind_speed_mph"]), wind["rule"]) == (1048, "wind_speed_mph: max")
    assert refused["weather"].height == 1
    two_distances = refused["routes"]
    assert set(two_distances.select("origin", "dest").iter_rows()) == {
        ("EWR", "EGE"), ("JFK", "EGE"),
    }  # fmt: skip
    assert set(two_distances["rule"]) == {"primary_key"}


def test_an_aircraft_cannot_be_in_two_places(year, happened):
    rows = year["flight_events"].rejected
    landed = happened.filter(pl.col("event") == "arrival")
    again = pl.col("departed_at").shift(-1).over("tailnum", order_by="departed_at")
    overlaps = landed.filter(pl.col("event_time") > again)
    twice = landed.filter(pl.struct("tailnum", "event_time").is_duplicated())
    assert (overlaps.height, twice.height) == (126, 2)
    for rule, defects in {"lands_before": overlaps, "one_arrival": twice}.items():
        refused = rows.filter(pl.col("rule").str.contains(rule)).drop("rule")
        assert_frame_equal(refused, defects, check_row_order=False)
    assert rows.height == 127


@pytest.mark.slow
def test_a_day_alone_is_the_same_as_in_the_year(year, two_houses):
    alone, _ = two_houses
    for day in EDGES:
        alone.make(DAILY, day, day)
    for table in ("flight_schedule", "flight_events", "weather"):
        rows = year[table].good
        none, whole = content_hash(rows.clear()), content_hashes(rows, by="date")
        found = alone.lake.data_versions(f"nyc_flights/{table}")
        assert found == {str(day): whole.get(str(day), none) for day in EDGES}


@pytest.mark.slow
def test_features_have_one_row_a_key_and_time_and_know_no_tail_number(year, two_houses):
    days = [SPRING + timedelta(days=n) for n in (-1, 0, 1)]
    one, without = two_houses
    for table in ("flight_schedule", "flight_events", "weather"):
        rows = year[table].good.filter(pl.col("date").is_in(days))
        hidden = [pl.lit("N0").alias("tailnum")] if "tailnum" in rows.columns else []
        for built, there in ((one, rows), (without, rows.with_columns(hidden))):
            built.lake.append(f"nyc_flights/{table}", there, Commit(), by="date")
    for feature in FEATURES:
        name = feature.key.path[-1]
        for built in two_houses:
            assert all(check.passed for check in built.make([feature], days[0], days[-1]))
        found = one.rows(name)
        keys = feature.metadata_by_key[feature.key]["entity_keys"]
        assert found.select(*keys, "event_time").is_duplicated().sum() == 0
        assert found.select(*keys, "available_at").is_duplicated().sum() == 0
        assert found["date"].unique().len() == 3
        assert "tailnum" not in found.columns
        assert content_hashes(found, by="date") == content_hashes(without.rows(name), by="date")


def test_an_event_is_in_the_partition_of_the_local_day_on_which_it_happened(happened):
    assert happened.filter(local_date("event_time") != pl.col("date")).is_empty()
    assert happened["event_time"].max() < datetime(2014, 1, 1, 5, tzinfo=UTC)


@pytest.mark.year
def test_no_check_fails_on_an_asset_of_the_year(year, two_houses):
    built, _ = two_houses
    built.make(WHOLE)
    for asset in [*DAILY, *FEATURES]:
        checks = built.make([asset], FIRST, LAST)
        assert [(c.check_name, c.partition, c.description) for c in checks if not c.passed] == []
        assert len(built.instance.get_materialized_partitions(asset.key)) == 365
    for name, examined in year.items():
        table = f"nyc_flights/{name}_quarantine"
        refused = built.lake.rows(table) if built.lake.exists(table) else 0
        assert refused == examined.rejected.height
