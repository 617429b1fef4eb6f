"""Faults of the source's files, each on a real file: refused by name, nothing lost, then mended."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from datetime import date, timedelta

import polars as pl
import pytest

from mlops_assets.defs.nyc_flights import raw
from mlops_assets.defs.nyc_flights.expressions import NEW_YORK
from mlops_assets.defs.nyc_flights.source import FOLDER, read_source
from mlops_assets_tests.defs.house import Files, failed, house, reason, zipped

FIRST, BAD, NEXT, LAST = (date(2013, 1, day) for day in (2, 4, 5, 6))
DAYS = {str(date(2013, 1, day)) for day in (2, 3, 4, 5)}
IS_BAD = pl.date("year", "month", "day") == BAD
DAILY = {"flights": raw.flight_schedule, "weather": raw.weather}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return Files.copy(tmp_path_factory.mktemp("files"), date(2013, 1, 8))


@pytest.fixture
def files(copied, monkeypatch):
    monkeypatch.setenv(FOLDER, str(copied.folder))
    copied.mend()
    return copied


@pytest.fixture(scope="module")
def built(copied, tmp_path_factory):
    """A house in which four days of each daily table are published."""
    with (
        house(tmp_path_factory.mktemp("lake")) as made,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv(FOLDER, str(copied.folder))
        copied.mend()
        made.make([raw.airlines])
        for table in (*DAILY.values(), raw.flight_events):
            made.make([table], FIRST, NEXT)
        yield made


def line(number, change):
    """The text with one of its lines changed; lines count from 1."""

    def changed(text):
        lines = text.split("\n")
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines)

    return changed


def column(text, name):
    return text[: text.index("\n")].split(",").index(name)


def put(number, name, value):
    """The text with one value changed."""

    def changed(text):
        at = column(text, name)
        fields = text.split("\n")[number - 1].split(",")
        return line(number, lambda _: ",".join([*fields[:at], value, *fields[at + 1 :]]))(text)

    return changed


def without(name):
    """The text without a column."""

    def changed(text):
        at = column(text, name)
        rows = (row.split(",") for row in text.splitlines())
        return "".join(",".join(row[:at] + row[at + 1 :]) + "\n" for row in rows)

    return changed


CONTENT = {
    "truncated": (
        lambda text: text[: len(text) // 2],
        r"line \d+: the last line has no end \('.+'\), so the file is truncated; fetch it again",
    ),
    "ragged": (
        line(7, lambda row: row.rpartition(",")[0]),
        r"line 7: the row has \d+ fields, the header \d+; .* damaged there; fetch it again",
    ),
    "too long a row": (
        line(9, lambda row: row + ",1"),
        r"line 9: the row has \d+ fields, the header \d+",
    ),
    "unclosed quote": (
        put(5, "origin", '"EWR'),
        r"line 5: a quote is not closed or stands inside a field",
    ),
    "column missing": (
        without("time_hour"),
        r"line 1: there is no column 'time_hour'; the file has .*, year,.*|year, month",
    ),
    "column renamed": (
        lambda text: text.replace("time_hour", "hour_of_time", 1).replace("origin", "Origin_", 1),
        r"there is no column .*'origin' \(renamed to 'Origin_'\?\)",
    ),
    "text for a number": (
        put(11, "day", "first"),
        r"line 11: column 'day' is 'first', expected a whole number; mend the file or the declared",
    ),
    "no such day": (
        put(11, "day", "32"),
        r"line 11: year, month and day are \[2013, 1, 32\], which is no day",
    ),
    "no day": (
        put(11, "day", "NA"),
        r"line 11: year, month and day are \[2013, 1, None\], which is no day",
    ),
    "a time without its zone": (
        put(3, "time_hour", "2013-01-01 05:00"),
        r"line 3: column 'time_hour' is '2013-01-01 05:00', expected a time with its zone",
    ),
    "not UTF-8": (
        lambda text: line(6, lambda row: row + "Zürich")(text).encode("latin-1"),
        r"line 6: the bytes fc 72 69 63 are not UTF-8; convert the file to UTF-8",
    ),
    "empty": (lambda _: "", r"the file has no header line \(0 characters\); fetch it again"),
}


@pytest.mark.parametrize(
    ("fault", "name"),
    [*((fault, "weather") for fault in CONTENT), ("truncated", "flights"), ("ragged", "flights")],
)
def test_a_file_that_is_not_as_declared_is_refused(files, built, name, fault):
    spoil, said = CONTENT[fault]
    files.write(name, spoil(files.text(name)))
    is_refused_then_mended(files, built, name, said)


def is_refused_then_mended(files, built, name, said):
    """The run says what is wrong and changes nothing; with the file mended it completes."""
    table = DAILY[name]
    quarantine = f"nyc_flights/{table.key.path[-1]}_quarantine"
    there, before = built.lake.exists(quarantine), built.published(table)
    refused = reason(built.attempt([table], FIRST, LAST))
    assert re.search(rf"nyc_flights/{table.key.path[-1]}: {files.folder}/{name}.*{said}", refused)
    assert built.published(table) == before
    assert built.lake.exists(quarantine) == there
    files.mend()
    built.make([table], FIRST, NEXT)
    assert built.published(table)[0] == before[0] + 1
    assert built.published(table)[1] == DAYS


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


ZIPS = {
    "truncated": lambda text: zipped(text)[:-2000],
    "damaged": lambda text: flipped(zipped(text), 5_000),
    "of a wrong checksum": lambda text: flipped(zipped(text, how=zipfile.ZIP_STORED), 5_000),
    "empty": lambda text: b"",
}


@pytest.mark.parametrize("fault", ZIPS)
def test_a_broken_zip_is_refused(files, built, fault):
    content = ZIPS[fault](files.text("flights").encode())
    (files.folder / "flights.csv.zip").write_bytes(content)
    said = rf"the zip is truncated or corrupt \(.+; {len(content)} bytes\); fetch it again"
    is_refused_then_mended(files, built, "flights", said)


def test_a_zip_of_something_else_is_refused(files, built):
    content = zipped(files.text("flights").encode(), "flights-2014.csv")
    (files.folder / "flights.csv.zip").write_bytes(content)
    said = "the zip holds flights-2014.csv, expected flights.csv"
    is_refused_then_mended(files, built, "flights", said)


def test_a_file_that_is_not_there_is_named(files, built):
    (files.folder / "weather.csv").unlink()
    refused = reason(built.attempt([raw.weather], FIRST, NEXT))
    assert f"{files.folder} holds neither weather.csv.zip nor weather.csv" in refused
    assert f"set {FOLDER} to the folder that has it" in refused
    files.mend()
    built.make([raw.weather], FIRST, NEXT)


def test_a_table_without_days_is_refused_in_the_same_way(files, built):
    before = built.published(raw.airlines)
    files.write("airlines", files.text("airlines").replace("carrier,name", "code,name"))
    assert "there is no column 'carrier'" in reason(built.attempt([raw.airlines]))
    assert built.published(raw.airlines) == before
    files.mend()
    built.make([raw.airlines])


TIME = pl.col("time_hour").str.to_datetime(time_zone="UTC")
LOCAL = TIME.dt.convert_time_zone(NEW_YORK)


def clocks_in_utc(rows):
    """All clock columns, and the day, show UTC."""
    minute = pl.col("minute") if "minute" in rows.columns else 0
    shown = rows.with_columns(
        TIME.dt.year().alias("year"),
        TIME.dt.month().alias("month"),
        TIME.dt.day().alias("day"),
        TIME.dt.hour().cast(pl.Int64).alias("hour"),
    )
    if "sched_dep_time" not in rows.columns:
        return shown
    return shown.with_columns((pl.col("hour") * 100 + minute).alias("sched_dep_time"))


def stamps_in_local_time(rows):
    """`time_hour` shows the local hour, and calls it UTC."""
    return rows.with_columns(LOCAL.dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("time_hour"))


@pytest.mark.parametrize("name", DAILY)
@pytest.mark.parametrize("shift", [clocks_in_utc, stamps_in_local_time])
def test_times_of_another_zone_are_refused(files, built, name, shift):
    files.change(name, shift)
    said = (
        r": the times of (\d+) of \1 rows contradict each other, first on 2013-01-0\d: the clock"
        r" columns say \d\d:00, time_hour 2013-01-0\dT\d\d:00Z is \d\d:00 in New York; both show"
        r" the same digits, so either the clock columns are in UTC or time_hour is local\."
    )
    is_refused_then_mended(files, built, name, said)


def test_a_single_row_that_contradicts_itself_is_named_and_harms_no_other_day(files, built):
    changed = (
        pl.when(IS_BAD & (IS_BAD.cum_sum() == 1))
        .then(pl.lit("2013-01-04T20:00:00Z"))
        .otherwise("time_hour")
    )
    files.change("flights", lambda rows: rows.with_columns(changed.alias("time_hour")))
    refused = reason(built.attempt([raw.flight_schedule], BAD))
    assert "the times of 1 of " in refused
    assert "first on 2013-01-04: the clock columns say " in refused
    built.make([raw.flight_schedule], NEXT)


def test_a_destination_of_unknown_zone_is_named(files, built):
    files.write("flights", put(4, "dest", "XYZ")(files.text("flights")))
    refused = reason(built.attempt([raw.flight_schedule], date(2013, 1, 1)))
    assert "no time zone is known for dest XYZ; add it to airports.csv" in refused


EVENTS = {
    "flight_schedule": ("flights", raw.flight_schedule),
    "flight_events": ("flights", raw.flight_events),
    "weather": ("weather", raw.weather),
}


def empty(rows):
    return rows.filter(~IS_BAD)


def doubled(rows):
    return pl.concat([rows, rows.filter(IS_BAD)])


def shrunk(rows):
    """A tenth of the day's rows is gone, which the bounds of volume do not see."""
    return rows.filter(~IS_BAD | (pl.int_range(pl.len()) % 10 != 0))


DAY_FAULTS = {
    ("flight_schedule", empty): "volume",
    ("flight_events", empty): "volume",
    ("weather", empty): "volume",
    ("flight_schedule", doubled): "contract",
    ("flight_events", doubled): "contract",
    ("weather", doubled): "contract",
    ("flight_schedule", shrunk): "volume",
    ("flight_events", shrunk): "volume",
    ("weather", shrunk): "volume",
}
SAID = {
    empty: "rows, expected|of 72 published 100.0% are gone, at most 5.0% may",
    doubled: r"rows break the contract \(.+\); primary_key: \d+",
    shrunk: r"of \d+ published \d+\.\d% are gone, at most 5.0% may \(if fewer are right",
}


@pytest.mark.parametrize(("table", "fault"), DAY_FAULTS)
def test_a_bad_day_is_withheld_alone(files, built, table, fault):
    """It came whole before: what is published of it stays, and the new day beside it arrives.

    A doubled day's flights that land after midnight are doubled rows of the next day's events.
    """
    name, asset = EVENTS[table]
    bad = [str(BAD), str(NEXT)] if (table, fault) == ("flight_events", doubled) else [str(BAD)]
    before = built.rows(table, first=BAD, last=BAD)
    made = built.instance.get_latest_data_version_record(asset.key, partition_key=str(BAD))
    files.change(name, fault)
    run = built.attempt([asset], BAD - timedelta(days=1), LAST)
    assert f"withheld {', '.join(bad)} (nyc_flights/{table} {BAD}: " in reason(run)
    assert re.search(SAID[fault], failed(run)[DAY_FAULTS[table, fault], str(BAD)])
    assert sorted({day for _, day in failed(run)}) == bad
    assert built.rows(table, first=BAD, last=BAD).equals(before)
    again = built.instance.get_latest_data_version_record(asset.key, partition_key=str(BAD))
    assert again.storage_id == made.storage_id
    assert not built.rows(table, first=LAST, last=LAST).is_empty()
    files.mend()
    built.make([asset], BAD, LAST)
    assert built.rows(table, first=BAD, last=BAD).sort(pl.all()).equals(before.sort(pl.all()))


def test_a_few_rows_less_are_a_correction(files, built):
    files.change("flights", lambda rows: rows.filter(~IS_BAD | (pl.int_range(pl.len()) % 50 != 0)))
    built.make([raw.flight_schedule], BAD)
    files.mend()


def test_a_whole_table_that_shrank_is_not_published(files, built):
    built.make([raw.planes])
    before = built.published(raw.planes)
    files.change("planes", lambda rows: rows.head(3_100))
    run = built.attempt([raw.planes])
    assert "3100 rows, expected 3000 to 4000; of 3322 published 6.7% are gone" in reason(run)
    assert built.published(raw.planes) == before
    files.mend()
    built.make([raw.planes])


WRITER = """
import sys
path, text = sys.argv[1], open(sys.argv[2]).read()
with open(path, "w") as file:
    file.write(text[: len(text) // 2])
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
    file.write(text[len(text) // 2 :])
"""


def test_a_file_that_is_only_half_written_is_refused_until_it_is_whole(files, built):
    before = built.published(raw.weather)
    paths = [files.folder / "weather.csv", files.whole / "weather.csv"]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, *paths],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "half\n"
    refused = reason(built.attempt([raw.weather], FIRST, NEXT))
    assert "the last line has no end" in refused
    assert built.published(raw.weather) == before
    writer.communicate("\n", timeout=60)
    built.make([raw.weather], FIRST, NEXT)


APPENDER = """
import os, sys, time
path, line = sys.argv[1], sys.argv[2].encode() + b"\\n"
file = os.open(path, os.O_WRONLY | os.O_APPEND)
print("begun", flush=True)
while True:
    os.write(file, line)
    time.sleep(0.00002)
"""


def test_a_file_that_changes_while_it_is_read_is_refused_or_read_whole(files, built):
    """A process adds readings of a later day all the time; now and then a read falls between."""
    path, last_line = files.folder / "weather.csv", files.text("weather").splitlines()[-1]
    rows = built.rows("weather", last=NEXT).sort(pl.all())
    writer = subprocess.Popen(
        [sys.executable, "-c", APPENDER, path, last_line], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "begun\n"
        for _ in range(40):
            run = built.attempt([raw.weather], FIRST, NEXT)
            assert built.rows("weather", last=NEXT).sort(pl.all()).equals(rows)
            if not run.success:
                break
    finally:
        writer.kill()
        writer.communicate(timeout=60)
    assert f"{path}: it changes while it is read; let the new file be written" in reason(run)
    built.make([raw.weather], FIRST, NEXT)
    assert built.rows("weather", last=NEXT).sort(pl.all()).equals(rows)


def test_a_file_that_changed_is_read_anew_and_one_that_did_not_is_not(files):
    read = read_source("airlines")
    assert read_source("airlines") is read
    files.write("airlines", files.text("airlines") + "ZZ,Zeppelin\n")
    assert read_source("airlines")["carrier"].to_list() == [*read["carrier"], "ZZ"]
