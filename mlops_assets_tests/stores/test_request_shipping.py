"""Exactly once: every record that a worker logged is in the lake once, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores import request_shipping
from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse
from mlops_assets.stores.request_log import Record, RequestLog, closed_segments
from mlops_assets.stores.request_shipping import Shipped, ship

PRODUCT, TABLE = "flight_delays", "flight_delays/requests"
ONE_COMMIT = 1
"""Version of the table, which begins empty, after one commit."""
RECEIVED = 1_375_700_000_000_000  # 5 August 2013


def record(number, received=RECEIVED):
    return Record(
        prediction_id=f"{PRODUCT}:q:{number:06}", received_at=received + number, product=PRODUCT,
        request={"carrier": "B6", "flight": 183}, key={"carrier": "B6"}, date=15_922,
        as_of=RECEIVED,
        features={"distance": 1089.0, "carrier": "B6"}, missing=["wind_gust_mph"], stale=[],
        probability=0.25, decision=False, threshold=0.3, model_version=1, digest="d",
        generation="g", contract_hash="c", role="answer", arm="champion", duration_us=300,
    )  # fmt: skip


def log(folder, *portions):
    """A worker that wrote these records, a segment a portion; it is gone now."""
    worker = RequestLog(folder, PRODUCT)
    for portion in portions:
        for number in portion:
            worker.append(record(number))
        worker.close()
    return worker


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "requests"


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(tmp_path / "lake")


def shipped(lake):
    return sorted(lake.scan(TABLE).collect()["prediction_id"])


def ids(count):
    return [f"{PRODUCT}:q:{number:06}" for number in range(count)]


def test_what_was_logged_is_in_the_lake_and_the_segments_are_gone(lake, folder):
    log(folder, range(3), range(3, 5))
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped(rows=5, segments=2, removed=2)
    rows = lake.scan(TABLE).sort("prediction_id").collect()
    assert rows["prediction_id"].to_list() == ids(5)
    assert lake.partitions(TABLE, "received_on") == ["2013-08-05"]
    first = rows.row(0, named=True)
    assert first["date"] == date(2013, 8, 5)
    assert first["features"] == '{"distance":1089.0,"carrier":"B6"}'
    assert first["missing"] == ["wind_gust_mph"]
    assert closed_segments(folder, PRODUCT) == []
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped()
    assert lake.version(TABLE) == ONE_COMMIT


def test_a_segment_that_comes_again_adds_nothing(lake, folder, tmp_path):
    log(folder, range(3), range(3, 5))
    shutil.copytree(folder, tmp_path / "again")
    ship(lake, folder, PRODUCT, TABLE)
    assert ship(lake, tmp_path / "again", PRODUCT, TABLE) == Shipped(removed=2)
    assert shipped(lake) == ids(5)
    assert lake.version(TABLE) == ONE_COMMIT


def test_a_segment_that_was_overlooked_is_brought_after_a_later_one(lake, folder, tmp_path):
    log(folder, range(3), range(3, 5))
    first = closed_segments(folder, PRODUCT)[0]
    copies = [tmp_path / name for name in ("aside", "again")]
    for copy in copies:
        (copy / PRODUCT).mkdir(parents=True)
        shutil.copy(first, copy / PRODUCT / first.name)
    first.unlink()
    ship(lake, folder, PRODUCT, TABLE)
    assert shipped(lake) == ids(5)[3:]
    assert ship(lake, copies[0], PRODUCT, TABLE) == Shipped(rows=3, segments=1, removed=1)
    assert ship(lake, copies[1], PRODUCT, TABLE) == Shipped(removed=1)
    assert shipped(lake) == ids(5)


def test_streams_outlive_a_checkpoint_of_the_tables_log(lake, folder, tmp_path):
    log(folder, range(3))
    shutil.copytree(folder, tmp_path / "again")
    ship(lake, folder, PRODUCT, TABLE)
    lake.delta(TABLE).create_checkpoint()
    for commit in (Path(lake.location(TABLE)) / "_delta_log").glob("*.json"):
        commit.unlink()
    assert ship(lake, tmp_path / "again", PRODUCT, TABLE) == Shipped(removed=1)
    assert shipped(lake) == ids(3)


def test_a_large_log_is_several_commits(lake, folder, monkeypatch):
    monkeypatch.setattr(request_shipping, "MOST_BYTES", 1)
    log(folder, range(3), range(3, 5), range(5, 9))
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped(rows=9, segments=3, removed=3)
    assert lake.version(TABLE) == ONE_COMMIT + 2
    assert shipped(lake) == ids(9)


def test_a_torn_line_is_left_out_and_counted(lake, folder):
    worker = log(folder, range(3))
    segment = closed_segments(folder, PRODUCT)[0]
    segment.write_bytes(segment.read_bytes()[:-20])
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped(rows=2, segments=1, removed=1, torn=1)
    assert shipped(lake) == ids(2)
    assert worker.writable


def test_a_segment_that_was_changed_is_set_aside_and_holds_nothing_up(lake, folder):
    log(folder, range(3), range(3, 5))
    segment = closed_segments(folder, PRODUCT)[0]
    segment.write_bytes(b"{}\n" + segment.read_bytes())
    done = ship(lake, folder, PRODUCT, TABLE)
    assert (done.rows, done.removed) == (2, 1)
    assert f"{segment.name}, line 1 is no record" in done.broken[0]
    assert segment.with_suffix(".broken").exists()
    assert shipped(lake) == ids(5)[3:]
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped()


def test_a_commit_whose_stream_is_in_the_table_is_refused(lake):
    frame = pl.DataFrame({"a": [1]})
    lake.append("a", frame, Commit(transactions={"w": 0}))
    lake.append("a", frame, Commit(transactions={"w": 2, "v": 0}))
    for there in ({"w": 1}, {"w": 2}, {"v": 0, "w": 3}):
        with pytest.raises(AlreadyCommitted, match="is in the table through"):
            lake.append("a", frame, Commit(transactions=there))
    assert lake.rows("a") == 2


SHIP = """
import sys
from pathlib import Path
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.request_shipping import ship
lake, folder, unlinks = Lakehouse(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "unlinks"
if not unlinks:
    def die(path, missing_ok):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    Path.unlink = die
print("begin", flush=True)
ship(lake, folder, "flight_delays", "flight_delays/requests")
"""


def shipper(lake, folder, how="unlinks"):
    return subprocess.Popen(
        [sys.executable, "-c", SHIP, lake.uri, str(folder), how], stdout=subprocess.PIPE
    )


def test_a_kill_between_the_commit_and_the_removal_adds_nothing_twice(lake, folder):
    log(folder, range(50), range(50, 100))
    with shipper(lake, folder, "dies") as dying:
        assert dying.wait(timeout=60) == -signal.SIGKILL
    assert shipped(lake) == ids(100)
    assert len(closed_segments(folder, PRODUCT)) == 2
    assert ship(lake, folder, PRODUCT, TABLE) == Shipped(removed=2)
    assert shipped(lake) == ids(100)


def _together(place, rounds, gate):
    for number in range(rounds):
        gate.wait(60)
        ship(Lakehouse(place / f"lake{number}"), place / f"log{number}", PRODUCT, TABLE)


def test_shippers_at_once_bring_each_record_once_to_a_table_that_is_not_there_yet(tmp_path):
    rounds = 4
    for number in range(rounds):
        for start in range(0, 120, 20):
            log(tmp_path / f"log{number}", range(start, start + 10), range(start + 10, start + 20))
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    at_once = [context.Process(target=_together, args=(tmp_path, rounds, gate)) for _ in range(3)]
    for each in at_once:
        each.start()
    for each in at_once:
        each.join(timeout=120)
    assert [each.exitcode for each in at_once] == [0, 0, 0]
    for number in range(rounds):
        assert shipped(Lakehouse(tmp_path / f"lake{number}")) == ids(120)
        assert closed_segments(tmp_path / f"log{number}", PRODUCT) == []


def test_kills_at_any_moment_lose_nothing_and_double_nothing(lake, folder):
    written, killed = 0, 0
    for attempt in range(4):
        log(folder, range(written, written + 100), range(written + 100, written + 200))
        written += 200
        with shipper(lake, folder) as run:
            run.stdout.readline()
            time.sleep(0.02 + 0.03 * attempt)
            os.kill(run.pid, signal.SIGKILL)
            killed += run.wait(timeout=60) == -signal.SIGKILL
    assert killed
    ship(lake, folder, PRODUCT, TABLE)
    assert shipped(lake) == ids(written)
