"""Faults planted in a real day: each is caught at the very table that it stands in.

The list of contract rules comes from the contracts themselves, so that a new rule without a fault
that breaks it fails here.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

import dagster as dg
import polars as pl
import pytest

from mlops_assets.components.tables import function_of, table_of
from mlops_assets.components.tables.examine import examine
from mlops_assets.defs.nyc_flights import features, raw
from mlops_assets.defs.nyc_flights.source import FOLDER
from mlops_assets.stores.lakehouse import Commit
from mlops_assets_tests.defs.house import Files, failed, house, reason

DAY = date(2013, 1, 3)
NEXT = DAY + timedelta(days=1)
ON_DAY = pl.date("year", "month", "day") == DAY
TABLES = {
    asset.key.path[-1]: asset
    for asset in vars(raw).values()
    if isinstance(asset, dg.AssetsDefinition)
}


# --- each rule of each contract ------------------------------------------------------------------


def rules(table):
    contract = table_of(TABLES[table]).contract
    empty = contract.create_empty()
    return [c for c in contract.filter(empty)[1].details().columns if c not in empty.columns]


@cache
def real(table):
    """The rows of a real day, or of the whole table where it has no days."""
    asset = TABLES[table]
    rows = function_of(asset)(*((DAY, DAY) if asset.partitions_def else ()))
    return examine(rows, table_of(asset), None).good.with_row_index("row")


FIRST_ROW = pl.col("row") == 0
AN_ARRIVAL = (pl.col("event") == "arrival") & pl.col("tailnum").is_not_null()


def in_row(which, **values):
    """The values in the rows that `which` selects."""

    def plant(rows):
        return rows.with_columns(
            pl.when(which)
            .then(value)
            .otherwise(pl.col(column))
            .cast(rows.schema[column])
            .alias(column)
            for column, value in values.items()
        )

    return plant


def as_the_first_arrival(**values):
    """The second arrival with the aircraft of the first, and more of its values."""

    def plant(rows):
        first, second = rows.filter(AN_ARRIVAL).head(2).iter_rows(named=True)
        shared = {"tailnum": first["tailnum"]} | {c: change(first) for c, change in values.items()}
        literals = {c: pl.lit(value, rows.schema[c]) for c, value in shared.items()}
        return in_row(pl.col("row") == second["row"], **literals)(rows)

    return plant


def again(rows):
    return pl.concat([rows, rows.head(1)])


OF_A_ROW = {
    "primary_key": again,
    "block_time_is_plausible": in_row(FIRST_ROW, scheduled_arrival=pl.col("scheduled_departure")),
    "not_available_before_it_happened": in_row(
        FIRST_ROW, available_at=pl.col("event_time") - pl.duration(minutes=1)
    ),
    "lands_before_its_aircraft_departs_again": as_the_first_arrival(
        departed_at=lambda first: first["event_time"] - timedelta(minutes=1)
    ),
    "one_arrival_of_an_aircraft_at_a_time": as_the_first_arrival(
        event_time=lambda first: first["event_time"],
        available_at=lambda first: first["event_time"],
    ),
}
"""Rule to a planted fault, for the rules that look at more than one value."""

OF_A_VALUE = {
    "nullability": lambda column: None,
    "min": lambda column: column.min - 1,
    "max": lambda column: column.max + 1,
    "regex": lambda column: "?",
    "inf": lambda column: float("inf"),
    "nan": lambda column: float("nan"),
}
"""Kind of a column's bound to the value that breaks it."""


def planted(table, rule):
    rows = real(table)
    if rule in OF_A_ROW:
        return OF_A_ROW[rule](rows)
    name, kind = rule.split("|")
    column = table_of(TABLES[table]).contract.columns()[name]
    return in_row(FIRST_ROW, **{name: pl.lit(OF_A_VALUE[kind](column))})(rows)


@pytest.mark.parametrize(("table", "rule"), [(t, r) for t in TABLES for r in rules(t)])
def test_each_rule_of_each_contract_refuses_what_breaks_it(table, rule):
    bad = planted(table, rule)
    examined = examine(bad.drop("row"), table_of(TABLES[table]), None)
    assert rule.replace("|", ": ") in ", ".join(examined.rejected["rule"])
    assert 1 <= examined.rejected.height <= 2
    assert examined.good.height + examined.rejected.height == bad.height


def test_a_real_day_breaks_no_rule():
    for table, asset in TABLES.items():
        assert examine(real(table).drop("row"), table_of(asset), None).rejected.is_empty()


# --- faults of a whole day, in the source's own files --------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files.copy(tmp_path_factory.mktemp("files"), date(2013, 1, 6))


@pytest.fixture
def empty_house(tmp_path, files, monkeypatch):
    monkeypatch.setenv(FOLDER, str(files.folder))
    files.mend()
    with house(tmp_path / "lake") as made:
        yield made


def on_day(**values):
    """Other values on the day, by expressions; columns keep their types."""

    def change(rows):
        return rows.with_columns(
            pl.when(ON_DAY).then(value).otherwise(pl.col(column)).alias(column)
            for column, value in values.items()
        )

    return change


def gone(which):
    """The rows of the day that `which` selects are not there."""
    return lambda rows: rows.filter(~(ON_DAY & which))


def from_(airport):
    return pl.col("origin") == airport


def celsius(*columns):
    return {c: (pl.col(c) - 32) / 1.8 for c in columns}


def stuck(column, airport="JFK"):
    first = pl.col(column).filter(ON_DAY & from_(airport)).drop_nulls().first()
    return on_day(**{column: pl.when(from_(airport)).then(first).otherwise(pl.col(column))})


SEVENTH = pl.int_range(pl.len()) % 7 == 0
HOURS = {c: (pl.col(c) / 60).round().cast(pl.Int64) for c in ("dep_delay", "arr_delay")}
KILOMETRES = {"distance": (pl.col("distance") * 1.609).round().cast(pl.Int64)}

GAUGES = {
    "temp": "temperature_f", "dewp": "dew_point_f", "humid": "humidity",
    "wind_dir": "wind_direction", "wind_speed": "wind_speed_mph", "pressure": "pressure_mb",
}  # fmt: skip

IN_FILES = [
    ("flights", on_day(**KILOMETRES), "flight_schedule", "medians", "distance: median 1"),
    ("flights", on_day(**HOURS), "flight_events", "class_balance", "arrivals_late: share 0"),
    ("weather", on_day(**celsius("temp", "dewp")), "weather", "medians", "humidity_off_by: median"),
    ("weather", on_day(**celsius("temp")), "weather", "medians", "humidity_off_by: median"),
    ("weather", on_day(**celsius("dewp")), "weather", "medians", "humidity_off_by: median"),
    ("weather", on_day(visib=pl.col("visib") * 1.609), "weather", "contract", "rows break the con"),
    ("weather", on_day(pressure=pl.col("pressure") / 33.86), "weather", "contract", "72 of 72"),
    ("weather", on_day(wind_speed=pl.when(SEVENTH).then(75.0).otherwise("wind_speed")), "weather",
     "outliers", "wind_speed_mph: 1"),
    ("flights", on_day(distance=pl.when(SEVENTH).then(5_500).otherwise("distance")),
     "flight_schedule", "outliers", "distance: 1"),
    ("flights", on_day(tailnum=pl.when(SEVENTH).then(None).otherwise("tailnum")), "flight_events",
     "missing_values", "tailnum: 1"),
    *(("weather", stuck(c), "weather", "frozen_values", f"JFK {name} is ")
      for c, name in GAUGES.items()),
    ("flights", gone(pl.col("arr_delay") >= 15), "flight_events", "class_balance",
     "arrivals_late: share "),
    ("flights", on_day(arr_delay=None), "flight_events", "class_balance", "arrivals: share 0"),
    *(("flights", gone(from_(o)), table, "class_balance", f"from_{o}: share 0")
      for o in ("EWR", "JFK", "LGA") for table in ("flight_schedule", "flight_events")),
    *(("weather", gone(from_(o)), "weather", "class_balance", f"from_{o}: share 0")
      for o in ("EWR", "JFK", "LGA")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "table", "check", "said"), IN_FILES)
def test_a_fault_of_a_day_fails_a_check_of_its_own_table(
    files, empty_house, name, change, table, check, said
):
    """The day before and the day after it fail none."""
    files.change(name, change)
    found = failed(empty_house.attempt([TABLES[table]], DAY - timedelta(days=1), NEXT))
    assert said in found[check, str(DAY)]
    assert {day for _, day in found} == {str(DAY)}


def test_no_departures_is_a_class_that_vanished():
    arrivals = real("flight_events").drop("row").filter(event="arrival")
    verdicts = examine(arrivals, table_of(raw.flight_events), [DAY]).verdicts
    (failing,) = [v for v in verdicts if not v.passed]
    assert "arrivals: share 1, expected 0.4 to 0.6; is a class missing?" in failing.detail


def test_a_reading_beyond_its_bounds_is_quarantined_and_the_day_is_published(files, empty_house):
    one = pl.when(pl.int_range(pl.len()) == 60).then(1048.4).otherwise(pl.col("wind_speed"))
    files.change("weather", lambda rows: rows.with_columns(one.alias("wind_speed")))
    assert all(check.passed for check in empty_house.make([raw.weather], DAY, NEXT))
    (refused,) = empty_house.rows("weather_quarantine").iter_rows(named=True)
    assert (round(refused["wind_speed_mph"]), refused["rule"]) == (1048, "wind_speed_mph: max")


def test_routes_in_kilometres_are_refused(files, empty_house):
    files.change("flights", lambda rows: rows.with_columns(**KILOMETRES))
    found = failed(empty_house.attempt([raw.routes]))
    assert "distance: median 1" in found["medians", None]


# --- the order in which a feature becomes available ----------------------------------------------


def late(hours, day=DAY):
    """The reading of JFK at noon of the day becomes available so many hours later."""
    noon = (
        (pl.col("origin") == "JFK")
        & (pl.col("date") == day)
        & (pl.col("event_time").dt.hour() == 17)
    )
    later = pl.col("available_at") + pl.duration(hours=hours)
    return pl.when(noon).then(later).otherwise("available_at").alias("available_at")


def published_late(made, hours):
    rows = made.rows("weather").with_columns(late(hours))
    days = [str(day) for day in rows["date"].unique()]
    made.lake.overwrite_partitions(
        "nyc_flights/weather", rows, by="date", partitions=days, commit=Commit()
    )


@pytest.mark.parametrize(
    ("hours", "refused"),
    [(3, [str(DAY)]), (20, [str(DAY), str(NEXT)])],
)
def test_readings_that_overtake_each_other_are_withheld(empty_house, hours, refused):
    empty_house.make([raw.weather], DAY - timedelta(days=1), NEXT)
    published_late(empty_house, hours)
    run = empty_house.attempt([features.weather_known], DAY - timedelta(days=1), NEXT)
    found = failed(run)
    assert sorted(day for _, day in found) == refused
    assert "rows do not become available in the order of their event_time" in reason(run)
    assert "first JFK of 2013-01-03 17:00:00" in found["in_order", str(DAY)]
    published_late(empty_house, -hours)
    empty_house.make([features.weather_known], DAY, NEXT)


def test_a_day_that_is_overtaken_by_the_day_before_is_withheld(empty_house):
    """Alone the day before was in order: nothing of the next day was there yet."""
    empty_house.make([raw.weather], DAY, NEXT)
    published_late(empty_house, 20)
    noon = pl.col("event_time").dt.hour() <= 17
    rows = empty_house.rows("weather").filter((pl.col("date") != DAY) | noon)
    rows = rows.filter((pl.col("date") != DAY) | (pl.col("event_time").dt.day() == DAY.day))
    days = [str(DAY), str(NEXT)]
    empty_house.lake.overwrite_partitions(
        "nyc_flights/weather", rows, by="date", partitions=days, commit=Commit()
    )
    empty_house.make([features.weather_known], DAY)
    run = empty_house.attempt([features.weather_known], NEXT)
    assert ("in_order", str(NEXT)) in failed(run)
    assert f"withheld {NEXT}" in reason(run)
