"""Many frames as one commit, against the same rows appended at once."""

import multiprocessing
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse

TABLE = "flight_delays/predictions"
DAYS = [date(2013, 3, 8) + timedelta(days=n) for n in range(4)]


def rows(*days, start=0):
    """Three rows a day, of each type that predictions have."""
    count = 3 * len(days)
    return pl.DataFrame(
        {
            "date": [day for day in days for _ in range(3)],
            "id": [f"UA:{start + n}" for n in range(count)],
            "as_of": [datetime(2013, 3, 8, 12, 30, 15, 123456, tzinfo=UTC)] * count,
            "probability": [n / 7 for n in range(count)],
            "decision": [bool(n % 2) for n in range(count)],
            "note": [None, "", "a"] * len(days),
        },
        schema_overrides={"date": pl.Date, "note": pl.String},
    )


@pytest.fixture
def lakehouse(tmp_path):
    return Lakehouse(tmp_path / "lake")


def holds(lakehouse, expected, **options):
    found = lakehouse.scan(TABLE, **options).collect()
    assert_frame_equal(found, expected, check_row_order=False, check_column_order=False)


def test_the_rows_of_all_frames_are_one_commit(lakehouse):
    frames = [rows(*DAYS[:2]), rows(), rows(*DAYS[1:], start=50)]
    why = Commit(run_id="r1", note="version 1", data_versions={"2013-03-08": "abc"})
    assert lakehouse.append_frames(TABLE, iter(frames), why) == 0
    holds(lakehouse, pl.concat(frames))
    holds(lakehouse, rows(*DAYS[1:], start=50).filter(date=DAYS[3]), first=DAYS[3])
    written = lakehouse.history(TABLE).row(0, named=True)
    assert (written["rows"], written["run_id"], written["note"]) == (15, "r1", "version 1")
    assert lakehouse.data_versions(TABLE) == {"2013-03-08": "abc"}
    assert lakehouse.partitions(TABLE) == [str(day) for day in DAYS]
    assert lakehouse.rows(TABLE) == 15


def test_it_is_the_table_that_append_makes(lakehouse):
    """Either kind of write goes on where the other left off."""
    lakehouse.append(TABLE, rows(DAYS[0]), Commit(), by="date")
    assert lakehouse.append_frames(TABLE, [rows(DAYS[1], start=9)], Commit(note="n")) == 1
    lakehouse.append(TABLE, rows(DAYS[0], start=99), Commit(), by="date")
    holds(lakehouse, pl.concat([rows(DAYS[0]), rows(DAYS[1], start=9), rows(DAYS[0], start=99)]))
    lakehouse.append_frames("streamed", [rows(*DAYS)], Commit())
    lakehouse.append("at_once", rows(*DAYS), Commit(), by="date")
    streamed, at_once = (lakehouse.delta(name) for name in ("streamed", "at_once"))
    assert streamed.schema() == at_once.schema()
    assert streamed.metadata().configuration == at_once.metadata().configuration
    assert streamed.metadata().partition_columns == at_once.metadata().partition_columns


def test_deltalake_and_duckdb_read_it_too(lakehouse):
    from mlops_assets.stores.sql import query

    lakehouse.append_frames(TABLE, [rows(*DAYS)], Commit())
    assert lakehouse.delta(TABLE).to_pyarrow_table().num_rows == 12
    found = query(lakehouse, f'select count(*) as n, max(id) as id from "{TABLE}"')
    assert found.row(0) == (12, "UA:9")


def test_without_rows_nothing_is_written(lakehouse):
    assert lakehouse.append_frames(TABLE, [], Commit()) is None
    assert lakehouse.append_frames(TABLE, [rows()], Commit()) is None
    assert not lakehouse.exists(TABLE)


def test_a_frame_that_cannot_be_made_leaves_the_table_as_it_was(lakehouse):
    def frames():
        yield rows(DAYS[1])
        raise RuntimeError("the second block")

    lakehouse.append(TABLE, rows(DAYS[0]), Commit(), by="date")
    with pytest.raises(RuntimeError, match="the second block"):
        lakehouse.append_frames(TABLE, frames(), Commit())
    assert lakehouse.version(TABLE) == 0
    holds(lakehouse, rows(DAYS[0]))


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (rows(DAYS[1]).cast({"probability": pl.String}), TypeError, "'probability' is String and"),
        (rows(DAYS[1]).cast({"as_of": pl.Datetime("us")}), TypeError, "without a time zone"),
        (rows(DAYS[1]).cast({"date": pl.String}), TypeError, "'date' is String; it must hold"),
        (rows(DAYS[1]).with_columns(date=pl.lit(None, pl.Date)), ValueError, "null in 3 rows"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(lakehouse, frame, error, message):
    with pytest.raises(error, match=message) as raised:
        lakehouse.append_frames(TABLE, [rows(DAYS[0]), frame], Commit())
    assert TABLE in str(raised.value)
    assert not lakehouse.exists(TABLE)


def test_another_partitioning_is_refused(lakehouse):
    lakehouse.append(TABLE, rows(DAYS[0]), Commit(), by="note")
    with pytest.raises(ValueError, match=r"is partitioned by \['note'\], not 'date'"):
        lakehouse.append_frames(TABLE, [rows(DAYS[0])], Commit())


def test_a_column_that_is_new_reads_null_in_old_rows(lakehouse):
    lakehouse.append_frames(TABLE, [rows(DAYS[0])], Commit())
    wider = rows(DAYS[1]).with_columns(carrier=pl.lit("UA"))
    lakehouse.append_frames(TABLE, [wider], Commit())
    holds(lakehouse, pl.concat([rows(DAYS[0]), wider], how="diagonal"))


def append(uri, number):
    Lakehouse(uri).append_frames(TABLE, [rows(DAYS[number % 4], start=number)], Commit())


def append_first_revision(uri, number):
    why = Commit(transactions={"2013-03-08": 1})
    Lakehouse(uri).append_frames(TABLE, [rows(DAYS[0], start=number)], why)


def at_once(lakehouse, target):
    """Exit statuses of four processes."""
    writers = [
        multiprocessing.get_context("spawn").Process(target=target, args=(lakehouse.uri, n))
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    return [writer.exitcode for writer in writers]


def test_writers_at_the_same_time_lose_nothing(lakehouse):
    """Also the first of them, who create the table."""
    assert at_once(lakehouse, append) == [0] * 4
    assert lakehouse.rows(TABLE) == 12
    assert lakehouse.scan(TABLE).collect().height == 12


def test_of_writers_who_bring_the_same_one_is_taken(lakehouse):
    assert sorted(at_once(lakehouse, append_first_revision)) == [0, 1, 1, 1]
    assert lakehouse.rows(TABLE) == 3
    with pytest.raises(AlreadyCommitted, match="2013-03-08 is in the table through 1"):
        append_first_revision(lakehouse.uri, 9)
    assert lakehouse.rows(TABLE) == 3
    second = Commit(transactions={"2013-03-08": 2, "2013-03-09": 1})
    lakehouse.append_frames(TABLE, [rows(*DAYS[:2], start=9)], second)
    assert lakehouse.rows(TABLE) == 9
