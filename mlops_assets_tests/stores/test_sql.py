"""SQL on real tables: what it can name, what it reads, and what it must not reach."""

import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.sql import QueryError, query

DAYS = [date(2013, 3, 8), date(2013, 3, 9)]
EVENTS = pl.DataFrame(
    {
        "date": [DAYS[0], DAYS[0], DAYS[1]],
        "carrier": ["UA", "B6", "UA"],
        "delay": [10.0, None, 30.0],
        "event_time": [datetime(2013, 3, 8, hour, tzinfo=UTC) for hour in range(3)],
    }
)


@pytest.fixture
def lakehouse(tmp_path):
    lakehouse = Lakehouse(tmp_path / "lake")
    lakehouse.append("nyc_flights/flight_events", EVENTS, Commit(), by="date")
    names = pl.DataFrame({"carrier": ["UA", "B6"], "name": ["United", "JetBlue"]})
    lakehouse.overwrite("nyc_flights/carriers", names, Commit())
    lakehouse.overwrite("other/deep/carriers", names.head(1), Commit())
    lakehouse.overwrite("single", names.head(1), Commit())
    return lakehouse


@pytest.mark.parametrize(
    "address",
    [
        "nyc_flights.flight_events",
        '"nyc_flights/flight_events"',
        "NYC_Flights.Flight_Events AS f",
        "(WITH e AS (FROM nyc_flights.flight_events) SELECT * FROM e)",
    ],
)
def test_a_table_has_two_addresses(lakehouse, address):
    rows = query(lakehouse, f"SELECT count(*) AS n, sum(delay) AS delay FROM {address}").rows()
    assert rows == [(3, 40.0)]


def test_deep_and_single_names(lakehouse):
    sql = 'SELECT * FROM single JOIN "other/deep".carriers USING (carrier, name)'
    assert query(lakehouse, sql).rows() == [("UA", "United")]


def test_tables_join_and_types_stay(lakehouse):
    sql = """
        SELECT name, date, event_time, delay FROM nyc_flights.flight_events
        JOIN nyc_flights.carriers USING (carrier) WHERE date = '2013-03-08' ORDER BY event_time
    """
    found = query(lakehouse, sql)
    assert found.rows() == [
        ("United", DAYS[0], EVENTS["event_time"][0], 10.0),
        ("JetBlue", DAYS[0], EVENTS["event_time"][1], None),
    ]
    assert found.schema["event_time"] == pl.Datetime("us", "UTC")


def test_only_what_is_asked_for_is_read(lakehouse):
    """The other day's file is gone, and so is the other table's."""
    root = Path(lakehouse.uri)
    for gone in (f"nyc_flights/flight_events/date={DAYS[1]}", "nyc_flights/carriers"):
        for file in (root / gone).glob("*.parquet"):
            file.unlink()
    sql = "SELECT count(delay) FROM nyc_flights.flight_events"
    assert query(lakehouse, f"{sql} WHERE date = '{DAYS[0]}'").item() == 1
    with pytest.raises(QueryError, match=r"(?i)no such file"):
        query(lakehouse, sql)


def test_a_table_is_described(lakehouse):
    described = query(lakehouse, "DESCRIBE nyc_flights.flight_events")
    assert described["column_name"].to_list() == EVENTS.columns


def test_an_unknown_table_gets_the_list(lakehouse):
    with pytest.raises(QueryError, match=r"(?s)flight_event.*does not exist.*Tables: nyc_flights/"):
        query(lakehouse, "SELECT * FROM nyc_flights.flight_event")
    with pytest.raises(QueryError, match="Tables: none yet"):
        query(Lakehouse(f"{lakehouse.uri}/nothing"), "SELECT * FROM a.b")


def test_a_mistake_is_told_as_duckdb_tells_it(lakehouse):
    with pytest.raises(QueryError, match="syntax error"):
        query(lakehouse, "SELEC 1")
    with pytest.raises(QueryError, match='"dely" not found'):
        query(lakehouse, "SELECT dely FROM nyc_flights.flight_events")


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x AS SELECT 1",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "EXPLAIN ANALYZE SELECT 1",
    ],
)
def test_only_one_reading_statement_is_run(lakehouse, sql):
    with pytest.raises(QueryError, match="one statement that reads"):
        query(lakehouse, sql)


@pytest.mark.parametrize(
    "source",
    [
        "'{file}'",
        "read_csv('{file}')",
        "read_text('{file}')",
        "glob('{file}')",
        "read_parquet('https://example.com/x.parquet')",
        "query('FROM read_text(''{file}'')')",
    ],
)
def test_files_and_the_network_are_out_of_reach(lakehouse, tmp_path, source):
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    with pytest.raises(QueryError, match=r"(?i)disabled|not exist|not in the catalog"):
        query(lakehouse, f"SELECT * FROM {source.format(file=file)}")


def test_variables_of_the_caller_are_out_of_reach(lakehouse):
    secret = pl.DataFrame({"x": [1]})
    with pytest.raises(QueryError, match="does not exist"):
        query(lakehouse, "SELECT * FROM secret")
    assert secret.height == 1


def test_a_query_is_quick(lakehouse):
    query(lakehouse, "SELECT 1")
    start = time.perf_counter()
    query(lakehouse, "SELECT count(*) FROM nyc_flights.flight_events")
    assert time.perf_counter() - start < 0.5
