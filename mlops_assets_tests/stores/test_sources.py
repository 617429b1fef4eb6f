"""Rows of a source by local day, whatever it is: files, Delta, SQLite, a real PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import dataframely as dy
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.stores.sources import FIRST_BLOCK, SourceError, open_source
from mlops_assets_tests.postgresql import lacks, postgresql

PASSWORD = "s3cret-of-a-test"
BERLIN = "Europe/Berlin"
START = datetime(2024, 3, 29, 22, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": list(range(72)),
        "at": [START + timedelta(hours=n) for n in range(72)],
        "select": ["Grün & Blau", "a'b", None] * 24,  # a word of SQL as a name
        "temp °C": [n / 4 for n in range(72)],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)


class Rides(dy.Schema):
    date = dy.Date(nullable=False)
    id = dy.Int64(primary_key=True)
    at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    colour = dy.String()
    temperature = dy.Float64()


NAMES = {"colour": "select", "temperature": "temp °C"}


@pytest.fixture(scope="module")
def server():
    if missing := lacks():
        pytest.skip(f"PostgreSQL cannot run here: {missing} is not installed")
    with postgresql(PASSWORD) as address:
        yield address


@pytest.fixture(params=["csv", "parquet", "delta", "sqlite", "postgresql"])
def rides(request, tmp_path, monkeypatch):
    """The rows in each kind of source."""
    kind = request.param
    uri, table = str(tmp_path / f"rides.{kind}"), ""
    if kind == "csv":
        ROWS.write_csv(uri)
    elif kind == "parquet":
        ROWS.write_parquet(uri)
    elif kind == "delta":
        uri = str(tmp_path / "rides")
        ROWS.write_delta(uri)
    elif kind == "sqlite":
        uri, table = f"sqlite:///{tmp_path}/rides.db", "order"
        fill_sqlite(tmp_path / "rides.db", "order", ROWS.with_columns(pl.col("at").dt.to_string()))
    else:
        uri, table = request.getfixturevalue("server"), "public.order"
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        fill_postgresql(uri, ROWS)
    return open_source(uri, table=table, time="at", zone=BERLIN, names=NAMES)


def fill_sqlite(path, table, rows):
    with closing(sqlite3.connect(path)) as base, base:
        columns = ", ".join(f'"{c}"' for c in rows.columns)
        base.execute(f'create table "{table}" ({columns})')
        marks = ", ".join("?" * rows.width)
        base.executemany(f'insert into "{table}" values ({marks})', rows.rows())


def fill_postgresql(uri, rows):
    import psycopg

    with psycopg.connect(uri, password=PASSWORD) as base:
        base.execute('drop table if exists "order"')
        base.execute(
            'create table "order" (id int, at timestamptz, "select" text, "temp °C" numeric)'
        )
        for row in rows.iter_rows():
            base.execute('insert into "order" values (%s, %s, %s, %s)', row)


def expected(first, last):
    day = pl.col("at").dt.convert_time_zone(BERLIN).dt.date()
    rows = ROWS.select(day.alias("date"), "id", "at", colour="select", temperature="temp °C")
    return rows.filter(pl.col("date").is_between(first, last))


def test_the_days_asked_for_are_local_and_nothing_else_comes(rides):
    for first, last in [
        (date(2024, 3, 29), date(2024, 3, 29)),
        (date(2024, 3, 30), date(2024, 4, 1)),
    ]:
        found = rides.rows(Rides, first, last)
        assert_frame_equal(found, expected(first, last), check_row_order=False)
    # The day on which summer time begins has 23 hours.
    assert rides.rows(Rides, date(2024, 3, 31), date(2024, 3, 31)).height == 23
    assert rides.rows(Rides, date(2020, 1, 1), date(2020, 1, 2)).is_empty()


def test_the_first_and_last_time_and_a_sample(rides):
    assert rides.span() == (START, START + timedelta(hours=71))
    sample, count = rides.sample(36)
    assert count == 72
    assert 30 < sample.height <= 36
    assert sample["id"].cast(pl.Int64).max() > 60
    # Every second row would have one colour less.
    assert sample["select"].n_unique() == 3
    assert sample.columns == ROWS.columns


def test_a_column_that_is_not_there_is_named_with_the_nearest(rides):
    class Wrong(Rides):
        selct = dy.String()

    with pytest.raises(SourceError, match=r"no column 'selct' .did you mean 'select'"):
        rides.rows(Wrong, date(2024, 3, 30), date(2024, 3, 30))


def test_a_value_that_is_not_of_its_type_is_named(rides):
    class Wrong(dy.Schema):
        colour = dy.Int64()

    with pytest.raises(SourceError, match="column 'select' is 'Grün & Blau', expected a whole num"):
        rides.rows(Wrong)


# --- databases --------------------------------------------------------------------------------


def test_the_database_gives_hardly_more_than_the_days_asked_for(tmp_path):
    fill_sqlite(tmp_path / "a.db", "a", ROWS.with_columns(pl.col("at").dt.to_string()))
    source = open_source(f"sqlite:///{tmp_path}/a.db", table="a", time="at")
    read = source.scan(["id"], (date(2024, 4, 3), date(2024, 4, 3))).collect()
    assert read.height < 24


@pytest.mark.parametrize("uri", ["postgresql://me:{}@127.0.0.1:1/x", "sqlite:////{}/none.db"])
def test_what_cannot_be_connected_to_is_said_without_the_password(uri):
    if uri.startswith("postgresql") and (missing := lacks()):
        pytest.skip(f"PostgreSQL cannot be asked: {missing} is not installed")
    with pytest.raises(SourceError) as raised:
        open_source(uri.format(PASSWORD), table="rides").schema()
    if "postgresql" in uri:
        assert PASSWORD not in str(raised.value)
        assert "me:***@127.0.0.1:1" in str(raised.value)


def test_a_wrong_password_is_said_and_not_shown(server, monkeypatch):
    monkeypatch.setenv("WRONG", "not-" + PASSWORD)
    address = server.replace("mlops@", "mlops:$WRONG@")
    with pytest.raises(SourceError, match="password authentication failed") as raised:
        open_source(address, table="rides").schema()
    assert PASSWORD not in str(raised.value)


def test_a_table_that_is_not_there_is_named_with_the_nearest(tmp_path):
    fill_sqlite(tmp_path / "a.db", "rides", ROWS.select("id"))
    source = open_source(f"sqlite:///{tmp_path}/a.db", table='ride"; drop table rides; --')
    with pytest.raises(SourceError, match=r"there is no such table; .*There are rides"):
        source.schema()
    assert open_source(f"sqlite:///{tmp_path}/a.db", table="rides").schema().names() == ["id"]


def test_what_is_not_utf8_in_a_database(tmp_path):
    fill_sqlite(tmp_path / "a.db", "a", pl.DataFrame({"id": [1], "name": [b"Gr\xfcn"]}))
    with pytest.raises(SourceError, match="column 'name' holds the bytes 47 72 fc 6e"):
        open_source(f"sqlite:///{tmp_path}/a.db", table="a").sample(9)


# --- files ------------------------------------------------------------------------------------


class Timed(dy.Schema):
    date = dy.Date()
    at = dy.Datetime(time_zone="UTC", time_unit="us")


def timed(tmp_path, text, zone="UTC", day=date(2024, 3, 31)):
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(str(tmp_path / "a.csv"), time="at", zone=zone).rows(Timed, day, day)


FAULTS = {
    "at\n2024-03-31T10:00:00Z\n2024-03-31 11:00\n": "mixes times with a zone (1, as '2024-03-31T10",
    "at\n2024-03-31\nsoon\n": "column 'at' is 'soon', which is no time in UTC; expected as in 2013",
    "at,b\n2024-03-31,1\n,2\n,3\n": "column 'at' is empty; no day would ask for such a row",
    "time\n2024-03-31\n": "there is no column 'at'",
    "at,at\n1,2\n": "line 1: two columns are named at",
    "": "the file has no header line",
    "at,b,c\n2024-03-31,1,2\n2024-03-31,": "the last line has 2 fields of 3 and no end ('2024-03",
    b"at,b\n2024-03-31,a\n2024-03-31,Gr\xfcn\n": "line 3: the bytes fc 6e 0a are not UTF-8",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_wrong_with_a_file(tmp_path, text):
    with pytest.raises(SourceError, match=re.escape(FAULTS[text])):
        timed(tmp_path, text)


def test_a_clock_time_is_of_the_declared_zone(tmp_path):
    found = timed(tmp_path, "at;b\n2024-03-31T01:30;1\n2024-03-31 03:30:00;2\n", BERLIN)
    assert found["at"].dt.hour().to_list() == [0, 1]
    with pytest.raises(SourceError, match="'2024-03-31 02:30', which is no time in Europe/Berlin"):
        timed(tmp_path, "at\n2024-03-31 02:30\n", BERLIN)


@pytest.mark.parametrize("uri", ["gone.csv", "gone.parquet", "gone", "mysql://a/b", "a.xlsx"])
def test_what_is_no_source_is_said(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError):
        open_source(uri).schema()


# --- a table without a clock ------------------------------------------------------------------


class Blocked(dy.Schema):
    date = dy.Date()
    id = dy.Int64()


def test_rows_without_a_time_get_a_day_by_their_keys_for_ever(tmp_path):
    ROWS.select("id").write_parquet(tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"), keys=["id"], blocks=10)
    last = FIRST_BLOCK + timedelta(days=9)
    rows = source.rows(Blocked, FIRST_BLOCK, last)
    assert sorted(rows["id"]) == list(range(72))
    assert rows["date"].n_unique() == 10
    # Written here, so that another library or version that spreads rows otherwise is seen.
    first = rows.sort("id")["date"].head(6)
    assert [(day - FIRST_BLOCK).days for day in first] == [4, 0, 5, 6, 7, 7]
    one = source.rows(Blocked, last, last)
    assert_frame_equal(one, rows.filter(pl.col("date") == last), check_row_order=False)


def test_rows_without_keys_are_numbered(tmp_path):
    (tmp_path / "a.csv").write_text("x\n5\n5\n")

    class Numbered(dy.Schema):
        date = dy.Date()
        row = dy.Int64(primary_key=True)
        x = dy.Int64()

    source = open_source(str(tmp_path / "a.csv"), row="row")
    found = source.rows(Numbered, FIRST_BLOCK, FIRST_BLOCK + timedelta(days=199))
    assert found.sort("row").select("row", "x").rows() == [(0, 5), (1, 5)]
    with pytest.raises(SourceError, match="declare keys="):
        open_source("sqlite:///x.db", table="t", row="row")
