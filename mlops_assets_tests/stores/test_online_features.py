"""What the online store knows of a row, what it says of it, and who answers where it does not."""

import signal
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from mlops_assets.ml.online_pack import pack
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, Latest, Trailing
from mlops_assets.stores import online_features
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.online_features import OnlineFeatures, Spine
from mlops_assets.stores.online_snapshot import snapshot_of
from mlops_assets.stores.online_store import Covered, OnlineStoreError, Table, open_store
from mlops_assets_tests.redis_server import redis_server

TIME = pl.Datetime("us", "UTC")
HOUR = timedelta(hours=1)
NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
WEATHER = Latest(("origin",), {"temperature": "temperature"}, 6 * HOUR)
DELAYS = Trailing(
    ("carrier", "origin"), "p", {"late": ("late", "all")}, {"2h": 2 * HOUR, "1d": 24 * HOUR}
)
LOOKUPS = {"d/weather": WEATHER, "d/delays": DELAYS}
SPINE = Spine("d/schedule", ("carrier", "departs"), ("arrives", "distance"))
PRODUCT = "flight_delays"
ROW = {"carrier": "UA", "origin": "EWR", "prediction_time": NOON + HOUR}
DAY = date(2013, 5, 1)
COVERED = Covered(3, DAY, NOON - 6 * HOUR, NOON + 12 * HOUR)


def tables(temperature=50.0):
    weather = pl.DataFrame(
        {"origin": ["EWR"], AVAILABLE_AT: [NOON], EVENT_TIME: [NOON - HOUR],
         "temperature": [temperature]},
    )  # fmt: skip
    delays = pl.DataFrame(
        {"carrier": ["UA"] * 2, "origin": ["EWR"] * 2, AVAILABLE_AT: [NOON - HOUR, NOON],
         "late": [1, 1], "all": [1, 3]},
    )  # fmt: skip
    always = datetime.fromtimestamp(0, UTC)
    schedule = pl.DataFrame(
        {"carrier": ["UA"], "departs": [NOON], AVAILABLE_AT: [always], EVENT_TIME: [always],
         "arrives": [NOON + 2 * HOUR], "distance": [719]},
    )  # fmt: skip
    return {
        "d/weather": Table(pack(weather, WEATHER), COVERED),
        "d/delays": Table(pack(delays, DELAYS), COVERED),
        "d/schedule": Table(pack(schedule, SPINE.definition), replace(COVERED, known_from=None)),
    }


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"lmdb://{tmp_path / 'online'}")
    opened.publish(PRODUCT, tables(), NOON)
    return opened


@pytest.fixture
def online(store):
    return OnlineFeatures(store, PRODUCT, LOOKUPS, SPINE)


def one(online, **changes):
    return online.look_up([ROW | changes])[0]


def test_a_row_is_given_what_is_known_of_it(online, store):
    looked = one(online)
    assert looked.values == {"temperature": 50.0, "p_late_2h": 1 / 3, "p_late_1d": 0.5}
    assert (looked.missing, looked.stale) == ([], [])
    assert looked.generation == online.generation == store.snapshot(PRODUCT).generation


@pytest.mark.parametrize("nobody", ["ZZ", None, "", "U" * 5000, "\ud800", "UA\x00"])
def test_who_is_unknown_lacks_what_hangs_on_it(online, nobody):
    looked = one(online, carrier=nobody)
    assert looked.missing == ["p_late_2h", "p_late_1d"]
    assert looked.values["temperature"] == 50.0


def test_what_is_older_than_its_time_to_live_is_missing(online):
    assert "temperature" not in one(online, prediction_time=NOON + 5 * HOUR).missing
    late = one(online, prediction_time=NOON + 5 * HOUR + timedelta(microseconds=1))
    assert "temperature" in late.missing


def test_what_was_asked_before_the_store_begins_is_missing(online):
    looked = one(online, prediction_time=COVERED.known_from - timedelta(microseconds=1))
    assert (looked.missing, looked.stale) == ([*looked.values], [])


def test_a_row_without_a_time_knows_nothing(online):
    assert one(online, prediction_time=None).missing == ["temperature", "p_late_2h", "p_late_1d"]


def test_what_was_asked_after_a_table_ends_is_stale_and_answered(online):
    assert one(online, prediction_time=COVERED.known_through).stale == []
    looked = one(online, prediction_time=COVERED.known_through + timedelta(microseconds=1))
    assert looked.stale == [*looked.values]
    assert looked.values["p_late_1d"] == 0.5


def test_rows_are_answered_in_their_order(online):
    rows = [ROW, ROW | {"carrier": None}, ROW | {"prediction_time": None}, ROW]
    each = [online.look_up([row])[0] for row in rows]
    assert online.look_up(rows) == each
    assert online.look_up([]) == []


def test_the_spine_fills_in_what_the_caller_does_not_say(online):
    asked = {"carrier": "UA", "departs": NOON}
    given = asked | {"arrives": None, "distance": 3}
    own = asked | {"arrives": NOON, "distance": 1}
    unknown = {"carrier": "UA", "departs": NOON + HOUR}
    assert online.complete([asked, given, own, unknown]) == [
        asked | {"arrives": NOON + 2 * HOUR, "distance": 719},
        asked | {"arrives": NOON + 2 * HOUR, "distance": 3},
        own,
        unknown | {"arrives": None, "distance": None},
    ]
    assert asked == {"carrier": "UA", "departs": NOON}


def test_a_new_generation_is_taken_over_within_a_second(online, store, monkeypatch):
    before = one(online)
    store.publish(PRODUCT, tables(60.0), NOON)
    deadline = time.monotonic() + online_features.POLL_SECONDS + 2
    while one(online).values["temperature"] != 60.0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert one(online).generation != before.generation


def test_two_new_generations_in_a_second_fail_no_request(online, store):
    one(online)
    store.publish(PRODUCT, tables(60.0), NOON)
    store.publish(PRODUCT, tables(70.0), NOON)
    assert one(online).values["temperature"] in (50.0, 70.0)


@pytest.mark.parametrize(
    ("lookups", "error"),
    [
        ({"d/other": WEATHER}, "lacks the table d/other; it has d/delays, d/schedule, d/weather"),
        ({"d/weather": replace(WEATHER, columns={"a": "humidity"})}, "kept without humidity"),
        ({"d/delays": replace(DELAYS, keys=("origin",))}, r"kept by .* read by \('origin',\)"),
    ],
)
def test_a_store_that_lacks_what_the_model_reads_says_so(store, lookups, error):
    with pytest.raises(OnlineStoreError, match=error):
        OnlineFeatures(store, PRODUCT, lookups).look_up([ROW])


@pytest.fixture
def server(tmp_path):
    with redis_server(tmp_path) as running:
        yield running


def test_a_slow_redis_and_a_dead_one_leave_the_copy_to_answer_and_it_is_stale(server, tmp_path):
    writer = open_store(server.uri, timeout=5)
    writer.publish(PRODUCT, tables(), NOON)
    reader = open_store(server.uri, read_only=True, timeout=0.05)
    alone = OnlineFeatures(reader, PRODUCT, LOOKUPS, SPINE)
    online = OnlineFeatures(
        reader, PRODUCT, LOOKUPS, SPINE, copy=open_store(f"lmdb://{tmp_path / 'copy'}")
    )
    online.keep_copy()
    fresh = one(online)
    assert fresh.stale == []
    assert one(alone) == fresh
    for temperature in (60.0, 70.0, 50.0):  # What it knows as the present one is gone after two.
        writer.publish(PRODUCT, tables(temperature), NOON)
    assert one(alone) == fresh

    server.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    looked = one(online)
    assert time.monotonic() - begun < 0.5
    assert (looked.values, looked.stale) == (fresh.values, [*fresh.values])
    begun = time.monotonic()
    for _ in range(20):
        assert one(online).stale
    assert time.monotonic() - begun < 0.5, "each request waits for a store that did not answer"
    asked = {"carrier": "UA", "departs": NOON}
    assert online.complete([asked])[0]["distance"] == 719
    with pytest.raises(OnlineStoreError, match="does not answer"):
        one(alone)

    server.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + online_features.REST_SECONDS + 5
    while one(online).stale:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    server.process.kill()
    server.process.wait()
    empty = open_store(f"lmdb://{tmp_path / 'empty'}")
    with pytest.raises(OnlineStoreError, match="nor does its copy: flight_delays has nothing"):
        one(OnlineFeatures(reader, PRODUCT, LOOKUPS, SPINE, copy=empty))
    assert one(online).stale == [*fresh.values]
    with pytest.raises(OnlineStoreError, match="does not answer"):
        online.keep_copy()
    assert one(online).values == fresh.values


def test_a_snapshot_has_the_days_asked_for_and_what_their_look_ups_reach(tmp_path):
    lake = Lakehouse(tmp_path / "lake")
    days = [date(2013, 3, 8) + timedelta(days=n) for n in range(5)]
    noons = [datetime(d.year, d.month, d.day, 17, tzinfo=UTC) for d in days]
    frame = pl.DataFrame(
        {"date": days, "origin": "EWR", AVAILABLE_AT: noons, EVENT_TIME: noons,
         "temperature": [float(n) for n in range(5)]}
    )  # fmt: skip
    lake.append("d/weather", frame, Commit(run_id="test"), by="date")
    found = snapshot_of(
        lake, {"d/weather": WEATHER}, None, days[3], lead=2 * HOUR, zone="America/New_York"
    )["d/weather"]
    # The clocks change on 2013-03-10: local midnight is 5 hours behind UTC before, then 4.
    assert found.covered == Covered(
        0,
        days[2],
        datetime(2013, 3, 10, 5 + 6, tzinfo=UTC),
        datetime(2013, 3, 13, 4, tzinfo=UTC),
    )
    assert found.packed.layout.begins == noons[2].timestamp() * 1_000_000
    until = snapshot_of(
        lake, {"d/weather": WEATHER}, None, days[3], days[3], lead=2 * HOUR, zone="America/New_York"
    )["d/weather"]
    assert until.covered.known_through == datetime(2013, 3, 12, 4, tzinfo=UTC)
    assert until.packed.layout.ends == noons[3].timestamp() * 1_000_000
