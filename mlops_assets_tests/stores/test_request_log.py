"""The log of a server: what is appended is there, whatever becomes of the process or the disk."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores import request_log
from mlops_assets.stores.request_log import (
    SCHEMA,
    Record,
    RequestLog,
    closed_segments,
    read_segment,
)

MOMENT = 1_362_734_400_000_000
SCRIPT = """
import os, signal, sys
from pathlib import Path
from mlops_assets_tests.stores.test_request_log import record
from mlops_assets.stores.request_log import RequestLog
log = RequestLog(Path(sys.argv[1]), "flights")
for number in range(20):
    log.append(record(number), record(number, role="shadow"))
os.write(log._file, b'{"prediction_id": "cut sh')
os.kill(os.getpid(), signal.SIGKILL)
"""


def record(number: int, **changes: object) -> Record:
    said: dict[str, object] = {
        "prediction_id": f"flights:q:{number}", "received_at": MOMENT + number,
        "product": "flights", "request": {"flight": number}, "key": {"date": "2013-03-08"},
        "date": 15_772, "as_of": MOMENT, "features": {"late": 0.1 + 0.2, "carrier": "UA"},
        "missing": ["wind"], "stale": [], "probability": 0.25, "decision": False,
        "threshold": 0.4, "model_version": 3, "digest": "d", "generation": "g",
        "contract_hash": "c", "role": "answer", "arm": "champion", "duration_us": 7,
    }  # fmt: skip
    return Record(**said | changes)  # type: ignore[arg-type]


def test_a_record_is_read_as_it_was_written(tmp_path):
    log = RequestLog(tmp_path, "flights")
    log.append(record(1))
    assert closed_segments(tmp_path, "flights") == []
    log.close()
    (path,) = closed_segments(tmp_path, "flights")
    segment = read_segment(path)
    assert (segment.name, segment.torn) == (path.stem, 0)
    assert segment.records.schema == pl.Schema(SCHEMA)
    row = segment.records.row(0, named=True)
    assert json.loads(row["features"]) == {"late": 0.1 + 0.2, "carrier": "UA"}
    assert (str(row["date"]), row["received_at"].isoformat()) == (
        "2013-03-08", "2013-03-08T09:20:00.000001+00:00"
    )  # fmt: skip


def test_segments_close_by_size_and_by_age_in_order(tmp_path, monkeypatch):
    log = RequestLog(tmp_path, "flights")
    monkeypatch.setattr(request_log, "SEGMENT_BYTES", 1000)
    for number in range(6):
        log.append(record(number))
    log.append(record(6))
    log.roll()
    assert len(closed_segments(tmp_path, "flights")) > 1
    monkeypatch.setattr(request_log, "SEGMENT_SECONDS", 0.0)
    log.roll()
    rows = [
        name
        for path in closed_segments(tmp_path, "flights")
        for name in read_segment(path).records["prediction_id"]
    ]
    assert rows == [f"flights:q:{number}" for number in range(7)]


def test_kill_9_loses_nothing_and_a_line_cut_short_is_counted(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=False)
    assert done.returncode == -9
    alive = RequestLog(tmp_path, "flights")
    alive.append(record(99))
    (path,) = closed_segments(tmp_path, "flights")
    segment = read_segment(path)
    assert (segment.records.height, segment.torn) == (40, 1)
    assert len(list((tmp_path / "flights").glob("*.open"))) == 1


def test_where_the_disk_is_full_no_half_line_stays_and_it_goes_on_when_there_is_room(tmp_path):
    """In a process that may write little: the kernel cuts the write as a full disk does."""
    script = (
        "import resource, sys; from pathlib import Path;"
        "from mlops_assets_tests.stores.test_request_log import fill;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY));"
        "fill(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    (path,) = closed_segments(tmp_path, "flights")
    segment = read_segment(path)
    assert segment.torn == 0
    assert segment.records["prediction_id"].to_list() == [
        *(f"flights:q:{number}" for number in range(segment.records.height - 1)), "flights:q:50"
    ]  # fmt: skip


def fill(folder: Path) -> None:
    """Append until it is refused, then make room and append once more."""
    log = RequestLog(folder, "flights")
    number = 0
    while log.writable:
        with suppress(OSError):
            log.append(record(number))
        number += 1
    assert number < 50
    log.roll()
    assert not log.writable
    infinite = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (infinite, infinite))
    log.roll()
    assert log.writable
    log.append(record(50))
    log.close()


def test_a_segment_that_others_changed_is_refused_by_line(tmp_path):
    log = RequestLog(tmp_path, "flights")
    log.append(record(1), record(2))
    log.close()
    (path,) = closed_segments(tmp_path, "flights")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([b"{}", *lines[1:]]))
    with pytest.raises(ValueError, match="line 1 is no record"):
        read_segment(path)


def test_a_log_in_a_folder_that_cannot_be_made_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    log = RequestLog(tmp_path / "file", "flights")
    with pytest.raises(OSError):
        log.append(record(1))
    assert not log.writable
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
