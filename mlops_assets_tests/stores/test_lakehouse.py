"""The lakehouse on real Delta tables: commits, partitions, schema, time travel, many writers."""

import multiprocessing
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlops_assets.disk import advice
from mlops_assets.stores import delta_writes
from mlops_assets.stores.content import content_hashes
from mlops_assets.stores.lakehouse import Commit, Lakehouse, TableNotFound, WriteConflict

TABLE = "nyc_flights/flight_events"
DAYS = [date(2013, 3, 1) + timedelta(days=offset) for offset in range(4)]
KEYS = [day.isoformat() for day in DAYS]


@pytest.fixture
def lakehouse(tmp_path):
    return Lakehouse(tmp_path / "lake")


def events(*days, delay=0.0):
    """Two rows a day."""
    return pl.DataFrame(
        {
            "date": [day for day in days for _ in range(2)],
            "flight": [1, 2] * len(days),
            "delay": [delay] * (2 * len(days)),
        },
        schema={"date": pl.Date, "flight": pl.Int64, "delay": pl.Float64},
    )


def write_days(lakehouse, frame, *keys, commit=None):
    return lakehouse.overwrite_partitions(
        TABLE, frame, by="date", partitions=keys, commit=commit or Commit()
    )


def assert_holds(lakehouse, expected, **scan):
    there = lakehouse.scan(TABLE, **scan).collect()
    assert_frame_equal(there, expected, check_row_order=False, check_column_order=False)


def test_a_day_is_replaced_and_the_others_stay(lakehouse):
    assert write_days(lakehouse, events(*DAYS), *KEYS) == 0
    assert write_days(lakehouse, events(DAYS[1], delay=9.0), KEYS[1]) == 1
    expected = pl.concat([events(DAYS[0], *DAYS[2:]), events(DAYS[1], delay=9.0)])
    assert_holds(lakehouse, expected)
    assert_holds(lakehouse, events(*DAYS), version=0)
    assert lakehouse.version(TABLE) == 1
    assert lakehouse.rows(TABLE) == 8


def test_a_named_day_without_rows_is_empty_afterwards(lakehouse):
    write_days(lakehouse, events(*DAYS), *KEYS)
    write_days(lakehouse, events(DAYS[0], delay=1.0), *KEYS[:2])
    assert lakehouse.partitions(TABLE) == [KEYS[0], *KEYS[2:]]
    assert write_days(lakehouse, events(), KEYS[2]) == 2
    assert lakehouse.partitions(TABLE) == [KEYS[0], KEYS[3]]
    assert lakehouse.rows(TABLE) == 4


def test_a_table_can_be_created_without_rows(lakehouse):
    write_days(lakehouse, events(), KEYS[0])
    lakehouse.overwrite("empty", events(), Commit())
    assert lakehouse.rows(TABLE) == lakehouse.rows("empty") == 0
    assert lakehouse.partitions(TABLE) == []
    assert lakehouse.schema(TABLE) == events().schema


def test_rows_outside_the_named_days_are_refused(lakehouse):
    with pytest.raises(ValueError, match=f"has rows of date {KEYS[2]}, but the write is of"):
        write_days(lakehouse, events(DAYS[0], DAYS[2]), *KEYS[:2])
    assert not lakehouse.exists(TABLE)
    with pytest.raises(ValueError, match="no partition of 'date' is named"):
        write_days(lakehouse, events())


def test_a_partition_that_is_no_date_is_refused(lakehouse):
    with pytest.raises(ValueError, match=r"OR 1=1. is no Date"):
        write_days(lakehouse, events(), "2013-03-01' OR 1=1")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique=True))
def test_any_text_names_a_partition(tmp_path_factory, keys):
    lakehouse = Lakehouse(tmp_path_factory.mktemp("lake"))
    frame = pl.DataFrame({"key": keys, "x": range(len(keys))})
    lakehouse.append(TABLE, frame, Commit(), by="key")
    changed = frame.head(1).with_columns(x=pl.lit(-1, pl.Int64))
    lakehouse.overwrite_partitions(TABLE, changed, by="key", partitions=keys[:1], commit=Commit())
    assert_holds(lakehouse, pl.concat([changed, frame.tail(-1)]))
    assert lakehouse.partitions(TABLE, "key") == sorted(keys)


def test_a_scan_reads_only_the_partitions_between_first_and_last(lakehouse):
    write_days(lakehouse, events(*DAYS), *KEYS)
    assert_holds(lakehouse, events(*DAYS[1:3]), first=KEYS[1], last=DAYS[2])
    assert_holds(lakehouse, events(*DAYS[2:]), first=DAYS[2])
    assert_holds(lakehouse, events(DAYS[0]), last=KEYS[0])
    plan = lakehouse.scan(TABLE, first=KEYS[1], last=KEYS[1]).explain()
    assert KEYS[1] in plan
    assert f"date={KEYS[0]}" not in plan


def test_an_added_column_reads_null_in_old_rows(lakehouse):
    write_days(lakehouse, events(*DAYS[:2]), *KEYS[:2])
    wider = events(DAYS[2]).with_columns(carrier=pl.lit("UA"))
    write_days(lakehouse, wider, KEYS[2])
    old = events(*DAYS[:2]).with_columns(carrier=pl.lit(None, pl.String))
    assert_holds(lakehouse, pl.concat([old, wider]))
    assert_holds(lakehouse, wider, first=KEYS[2])
    assert_holds(lakehouse, events(*DAYS[:2]), version=0)


def test_a_changed_type_is_refused_with_both_types(lakehouse):
    write_days(lakehouse, events(*DAYS), *KEYS)
    text = events(DAYS[0]).cast({"delay": pl.String})
    message = f"{TABLE}: column 'delay' is String and was Float64"
    with pytest.raises(TypeError, match=message):
        lakehouse.append(TABLE, text, Commit())
    with pytest.raises(TypeError, match=message):
        lakehouse.overwrite(TABLE, text, Commit())
    untyped = events(DAYS[0]).with_columns(delay=pl.lit(None))
    write_days(lakehouse, untyped, KEYS[0])
    assert lakehouse.schema(TABLE) == events().schema


def test_a_whole_table_is_replaced_with_its_columns(lakehouse):
    lakehouse.overwrite(TABLE, events(*DAYS), Commit())
    narrower = events(DAYS[0]).drop("delay")
    assert lakehouse.overwrite(TABLE, narrower, Commit()) == 1
    assert_holds(lakehouse, narrower)
    assert_holds(lakehouse, events(*DAYS), version=0)


def test_appended_rows_keep_the_partitioning(lakehouse):
    lakehouse.append(TABLE, events(DAYS[0]), Commit(), by="date")
    assert lakehouse.append(TABLE, events(DAYS[0], DAYS[1]), Commit()) == 1
    assert lakehouse.partitions(TABLE) == KEYS[:2]
    assert lakehouse.rows(TABLE) == 6
    with pytest.raises(ValueError, match=r"partitioned by \['date'\], not 'flight'"):
        lakehouse.append(TABLE, events(DAYS[0]), Commit(), by="flight")
    with pytest.raises(ValueError, match="partitioned by date, not 'flight'"):
        lakehouse.partitions(TABLE, "flight")


def test_types_become_what_a_table_holds(lakehouse):
    moment = datetime(2013, 3, 8, 12, 30, 15, 123456, tzinfo=UTC)
    frame = pl.DataFrame(
        {"carrier": ["UA"], "at": [moment], "seats": [200], "tags": [["a"]], "pair": [[1.0, 2.0]]},
        schema_overrides={
            "carrier": pl.Enum(["UA"]),
            "at": pl.Datetime("ns", "America/New_York"),
            "seats": pl.UInt64,
            "tags": pl.List(pl.Categorical()),
            "pair": pl.Array(pl.Float64, 2),
        },
    )
    lakehouse.overwrite(TABLE, frame, Commit())
    assert dict(lakehouse.schema(TABLE)) == {
        "carrier": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "seats": pl.Int64,
        "tags": pl.List(pl.String),
        "pair": pl.List(pl.Float64),
    }
    assert lakehouse.scan(TABLE).collect().row(0) == ("UA", moment, 200, ["a"], [1.0, 2.0])
    lakehouse.append(TABLE, frame, Commit())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([datetime(2013, 3, 8)], "'x' is a datetime without a time zone"),
        ([[datetime(2013, 3, 8)]], "'x' is a datetime without a time zone"),
        ([timedelta(minutes=5)], "'x' is Duration.*delay_minutes"),
        ([None], "'x' is Null.*give it a type"),
    ],
)
def test_types_that_no_table_holds_are_refused(lakehouse, values, message):
    with pytest.raises(TypeError, match=message):
        lakehouse.overwrite(TABLE, pl.DataFrame({"x": values}), Commit())
    assert lakehouse.tables() == []


def test_each_commit_says_why(lakehouse):
    hashes = content_hashes(events(*DAYS), "date")
    before = datetime.now(UTC) - timedelta(seconds=1)
    write_days(lakehouse, events(*DAYS), *KEYS, commit=Commit("run-1", hashes, 'a "note", ü'))
    write_days(lakehouse, events(DAYS[0]), KEYS[0], commit=Commit("run-2", {KEYS[0]: "new"}))
    history = lakehouse.history(TABLE)
    assert history.select("version", "run_id", "rows", "note").rows() == [
        (1, "run-2", 2, ""),
        (0, "run-1", 8, 'a "note", ü'),
    ]
    assert history.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert before < history["timestamp"].min() < datetime.now(UTC)
    assert lakehouse.data_versions(TABLE) == hashes | {KEYS[0]: "new"}


def test_tables_are_found_and_missing_ones_named(lakehouse):
    assert lakehouse.tables() == []
    with pytest.raises(TableNotFound, match=r"no table 'nope'.*none yet"):
        lakehouse.scan("nope")
    for table in (TABLE, "b", "a/deep/one"):
        lakehouse.overwrite(table, events(DAYS[0]), Commit())
    assert lakehouse.tables() == ["a/deep/one", "b", TABLE]
    assert Lakehouse(f"file://{lakehouse.uri}").tables() == lakehouse.tables()
    with pytest.raises(TableNotFound, match=f"no table 'nope'.*a/deep/one, b, {TABLE}"):
        lakehouse.version("nope")
    for version in (5, -1):
        with pytest.raises(TableNotFound, match=f"b has no version {version}; it has 0 to 0"):
            lakehouse.scan("b", version=version)


@pytest.mark.parametrize("name", ["", "../b", "a//b", "/a", "a/", "A", "a b", "a\n"])
def test_a_name_is_lower_case_words(lakehouse, name):
    with pytest.raises(ValueError, match="is no table name"):
        lakehouse.exists(name)


def test_a_frame_without_an_added_column_reads_null_there(lakehouse):
    """As an older program writes it."""
    write_days(lakehouse, events(DAYS[0]).with_columns(carrier=pl.lit("UA")), KEYS[0])
    write_days(lakehouse, events(DAYS[1]), KEYS[1])
    lakehouse.append(TABLE, events(DAYS[2]), Commit())
    old = events(*DAYS[1:3]).with_columns(carrier=pl.lit(None, pl.String))
    assert_holds(lakehouse, old, first=KEYS[1])
    assert lakehouse.schema(TABLE) == old.schema


def test_a_table_whose_creation_was_killed_is_none_and_can_be_created(lakehouse, tmp_path):
    log = tmp_path / "lake" / TABLE / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json#1").write_text('{"commitInfo":')
    (log.parent / f"date={KEYS[0]}").mkdir()
    (log.parent / f"date={KEYS[0]}" / "part-0.parquet").write_bytes(b"PAR1")
    assert lakehouse.tables() == []
    assert not lakehouse.exists(TABLE)
    write_days(lakehouse, events(DAYS[0]), KEYS[0])
    assert_holds(lakehouse, events(DAYS[0]))
    assert lakehouse.tables() == [TABLE]


# --- vacuum ----------------------------------------------------------------------------------


def test_a_vacuum_leaves_past_versions_unless_it_is_forced(lakehouse):
    """Training sets pin versions, for as long as the table lives."""
    write_days(lakehouse, events(DAYS[0]), KEYS[0])
    write_days(lakehouse, events(DAYS[0], delay=1.0), KEYS[0])
    delta = lakehouse.delta(TABLE)
    assert delta.vacuum(dry_run=False) == []
    with pytest.raises(DeltaError, match="retention"):
        delta.vacuum(retention_hours=24 * 365, dry_run=False)
    assert_holds(lakehouse, events(DAYS[0]), version=0)


def test_a_forced_vacuum_during_a_read_is_an_error_that_names_the_table_never_other_rows(lakehouse):
    write_days(lakehouse, events(*DAYS[:2]), *KEYS[:2])
    reading = lakehouse.scan(TABLE)
    write_days(lakehouse, events(*DAYS[:2], delay=1.0), *KEYS[:2])
    lakehouse.delta(TABLE).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )
    with pytest.raises(FileNotFoundError, match=r"date=2013-03-0\d/part-") as gone:
        reading.collect()
    told = advice(str(gone.value), Path(lakehouse.uri))
    assert re.search(r"is gone: \S+/date=2013-03-0\d/part-\S+\.parquet\. ", told)
    assert "run the command again: the newest version is whole" in told
    assert_holds(lakehouse, events(*DAYS[:2], delay=1.0))


# --- many writers ----------------------------------------------------------------------------

WRITERS, PROCESSES, COMMITS = 16, 4, 20


def write_a_day_again_and_again(uri, writer, day, barrier):
    """Each commit replaces the day by rows that say whose it is."""
    lakehouse = Lakehouse(uri)
    barrier.wait(timeout=120)
    for number in range(COMMITS):
        frame = events(day, delay=float(number)).with_columns(writer=pl.lit(writer))
        write_days(lakehouse, frame, day.isoformat(), commit=Commit(f"{writer}-{number}"))


def several_writers(uri, numbers, days, barrier):
    with ThreadPoolExecutor(len(numbers)) as threads:
        wait = [
            threads.submit(
                write_a_day_again_and_again, uri, number, days[number % len(days)], barrier
            )
            for number in numbers
        ]
        for one in wait:
            one.result()


def at_once(lakehouse, days):
    """All together, some in each process; also racing to create the table."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(WRITERS)
    shares = [range(WRITERS)[number::PROCESSES] for number in range(PROCESSES)]
    processes = [
        spawn.Process(target=several_writers, args=(lakehouse.uri, share, days, barrier))
        for share in shares
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    committed = lakehouse.history(TABLE)["run_id"].to_list()
    assert sorted(committed) == sorted(f"{w}-{n}" for w in range(WRITERS) for n in range(COMMITS))
    return committed[0]


@pytest.mark.slow
def test_writers_of_different_days_lose_nothing(lakehouse):
    days = [DAYS[0] + timedelta(days=number) for number in range(WRITERS)]
    at_once(lakehouse, days)
    rows = lakehouse.scan(TABLE).collect()
    assert rows.height == 2 * WRITERS
    assert set(rows.select("date", "writer", "delay").unique().rows()) == {
        (day, number, COMMITS - 1.0) for number, day in enumerate(days)
    }


@pytest.mark.slow
def test_writers_of_the_same_day_take_turns_and_the_last_one_is_there_whole(lakehouse):
    last = at_once(lakehouse, DAYS[:1])
    writer, number = map(int, last.split("-"))
    assert_holds(
        lakehouse, events(DAYS[0], delay=float(number)).with_columns(writer=pl.lit(writer))
    )


def test_a_writer_who_never_comes_first_says_so(lakehouse, monkeypatch):
    """Another one commits between each look at the table and the commit that follows it."""
    write_days(lakehouse, events(DAYS[0]), KEYS[0])
    look = delta_writes.stored_form

    def meanwhile(frame):
        lakehouse.delta(TABLE).delete()
        write_deltalake(lakehouse.delta(TABLE), events(DAYS[0], delay=5.0), mode="append")
        return look(frame)

    monkeypatch.setattr(delta_writes, "stored_form", meanwhile)
    monkeypatch.setattr(delta_writes, "_PATIENCE_SECONDS", 0.5)
    with pytest.raises(WriteConflict, match=f"{TABLE}: other writers committed first each time"):
        write_days(lakehouse, events(DAYS[0], delay=9.0), KEYS[0])
    assert_holds(lakehouse, events(DAYS[0], delay=5.0))


def test_a_year_in_one_commit_and_a_day_are_fast(lakehouse):
    rows, days = 337_000, 334
    at = pl.int_range(rows, eager=True)
    day = pl.Series([date(2013, 1, 1) + timedelta(days=offset) for offset in range(days)])
    frame = pl.DataFrame(
        {f"number_{column}": (at * (column + 1) % 9973).cast(pl.Float64) for column in range(12)}
        | {f"word_{column}": (at % (column + 700)).cast(pl.String) for column in range(7)}
        | {"date": day.gather(at % days)}
    )
    keys = [key.isoformat() for key in day]
    write_days(lakehouse, events(date(2014, 1, 1)), "2014-01-01")
    assert seconds(lambda: write_days(lakehouse, frame, *keys)) < 5
    one = frame.filter(pl.col("date") == day[7])
    assert min(seconds(lambda: write_days(lakehouse, one, keys[7])) for _ in range(3)) < 0.2
    read = lakehouse.scan(TABLE, first=day[7], last=day[7])
    assert min(seconds(read.collect) for _ in range(3)) < 0.1
    assert lakehouse.rows(TABLE) == rows + 2


def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
