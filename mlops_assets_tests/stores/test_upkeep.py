"""Upkeep of real Delta tables: what is kept reads as before, what nothing needs goes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores import upkeep
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.upkeep import VersionPinned, compact, vacuum

TABLE = "flight_delays/training_set"
DAILY = "nyc_flights/weather"
WHY = ["flight_delays model 1 was trained on it"]


@pytest.fixture
def lake(tmp_path: Path) -> Lakehouse:
    """Six versions of a table, each of one file that no other has."""
    lake = Lakehouse(tmp_path)
    for version in range(6):
        lake.overwrite(TABLE, pl.DataFrame({"x": [version] * 10}), Commit())
    return lake


@pytest.fixture
def daily(tmp_path: Path) -> Lakehouse:
    """Two days, of five appends and of one."""
    lake = Lakehouse(tmp_path)
    for n, day in enumerate(["2013-01-01"] * 5 + ["2013-01-02"]):
        lake.append(DAILY, pl.DataFrame({"date": [day], "n": [n]}), Commit(), by="date")
    return lake


def read(lake: Lakehouse, table: str, version: int | None = None) -> pl.DataFrame:
    frame = lake.scan(table, version=version).collect()
    return frame.sort(frame.columns)


def parquet(lake: Lakehouse, table: str) -> set[str]:
    return {path.name for path in Path(lake.location(table)).rglob("*.parquet")
            if "_delta_log" not in path.parts}  # fmt: skip


def test_a_dry_run_lists_what_would_go_and_removes_nothing(lake):
    before = parquet(lake, TABLE)
    swept = vacuum(lake, TABLE, {1: WHY}, keep_days=0)
    assert len(swept.files) == 4
    assert swept.megabytes > 0
    assert swept.kept == {1: WHY, 5: ["newest"]}
    assert (parquet(lake, TABLE), lake.version(TABLE)) == (before, 5)


def test_pinned_versions_and_the_newest_read_as_before(lake):
    expected = {version: read(lake, TABLE, version) for version in (1, 3, 5)}
    swept = vacuum(lake, TABLE, {1: WHY, 3: WHY}, keep_days=0, apply=True)
    assert all(read(lake, TABLE, v).equals(frame) for v, frame in expected.items())
    assert parquet(lake, TABLE).isdisjoint(swept.files)
    assert len(parquet(lake, TABLE)) == 3
    with pytest.raises(FileNotFoundError):
        read(lake, TABLE, 2)
    assert lake.history(TABLE).height == 8  # the log stays, and says that it was vacuumed


def test_without_its_pin_a_version_goes(lake):
    vacuum(lake, TABLE, {}, keep_days=0, apply=True)
    with pytest.raises(FileNotFoundError):
        read(lake, TABLE, 1)


def test_young_versions_stay(lake):
    swept = vacuum(lake, TABLE, {}, keep_days=1, apply=True)
    assert (swept.files, swept.young) == ((), 6)
    assert read(lake, TABLE, 0).height == 10


def test_a_file_that_no_log_names_goes_when_it_is_old(lake):
    folder = Path(lake.location(TABLE))
    orphan = folder / "left-by-a-killed-write.parquet"
    shutil.copy(next(folder.glob("part-*")), orphan)
    assert vacuum(lake, TABLE, {}, keep_days=1).files == ()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(orphan, (two_days_ago, two_days_ago))
    assert vacuum(lake, TABLE, {}, keep_days=1).files == (orphan.name,)


@pytest.mark.parametrize(("version", "who"), [(1, "model 1 was trained on it"), (5, "newest")])
@pytest.mark.parametrize("apply", [False, True])
def test_removing_a_version_that_something_needs_is_refused(lake, version, who, apply):
    with pytest.raises(VersionPinned, match=f"version {version}: .*{who}"):
        vacuum(lake, TABLE, {1: WHY}, remove=[2, version], apply=apply)
    assert len(parquet(lake, TABLE)) == 6


def test_one_young_version_is_given_up_and_no_other(lake):
    vacuum(lake, TABLE, {1: WHY}, remove=[2], apply=True)
    with pytest.raises(FileNotFoundError):
        read(lake, TABLE, 2)
    assert [read(lake, TABLE, v)["x"][0] for v in (0, 1, 3, 4, 5)] == [0, 1, 3, 4, 5]


def test_nothing_goes_where_what_would_go_is_needed(lake, monkeypatch):
    """deltalake is asked to keep nothing, as a version of it without keep_versions would."""
    from deltalake import DeltaTable

    real = DeltaTable.vacuum
    monkeypatch.setattr(
        DeltaTable, "vacuum", lambda self, **options: real(self, **options | {"keep_versions": []})
    )
    with pytest.raises(VersionPinned, match="version 1 needs part-"):
        vacuum(lake, TABLE, {1: WHY}, keep_days=0, apply=True)
    assert len(parquet(lake, TABLE)) == 6


def test_many_small_files_of_a_day_become_one_and_no_row_changes(daily):
    before, earlier = read(daily, DAILY), read(daily, DAILY, 2)
    assert compact(daily, DAILY) == upkeep.Compaction(DAILY, 1, 6, None)
    assert compact(daily, DAILY, apply=True) == upkeep.Compaction(DAILY, 1, 6, 2)
    assert read(daily, DAILY).equals(before)
    assert read(daily, DAILY, 2).equals(earlier)
    assert compact(daily, DAILY, apply=True) == upkeep.Compaction(DAILY, 0, 2, 2)


def test_a_table_without_partitions_is_compacted_too(tmp_path):
    lake = Lakehouse(tmp_path)
    for n in range(4):
        lake.append(TABLE, pl.DataFrame({"n": [n]}), Commit())
    assert compact(lake, TABLE, apply=True).after == 1
    assert read(lake, TABLE)["n"].to_list() == [0, 1, 2, 3]


def test_what_compaction_replaced_goes_with_time_and_pins_hold_it(daily):
    expected = read(daily, DAILY, 3)
    compact(daily, DAILY, apply=True)
    swept = vacuum(daily, DAILY, {3: WHY}, keep_days=0, apply=True)
    assert len(swept.files) == 1  # the fifth append of the day: version 3 has the first four
    assert read(daily, DAILY, 3).equals(expected)
