"""A publication appears as a whole or not at all: in LMDB files, and in a real Redis server."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import polars as pl
import pytest
import redis

from mlops_assets.ml.online_pack import pack
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, PREDICTION_TIME, Latest
from mlops_assets.stores.online_features import OnlineFeatures
from mlops_assets.stores.online_store import (
    DESCRIBED,
    Covered,
    GenerationGone,
    OnlineStoreError,
    Table,
    chunk_key,
    copy,
    open_store,
    without_password,
)
from mlops_assets_tests.redis_server import PASSWORD, redis_server

TIME = pl.Datetime("us", "UTC")
NOW = datetime(2013, 5, 2, tzinfo=UTC)
COVERED = Covered(3, date(2013, 5, 1), NOW - timedelta(days=1), NOW)
DEFINITION = Latest(("key",), {"x": "x"})
PRODUCT = "flight_delays"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["lmdb", "redis"])
def uri(request, tmp_path):
    if request.param == "lmdb":
        return f"lmdb://{tmp_path / 'online'}"
    running = request.getfixturevalue("server")
    redis.Redis.from_url(running.uri).flushall()
    return running.uri


def table(*values, keys=3):
    rows = [(key, NOW + timedelta(hours=n), x) for key in range(keys) for n, x in enumerate(values)]
    schema = {"key": pl.Int64, AVAILABLE_AT: TIME, "x": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return Table(
        pack(frame.with_columns(pl.col(AVAILABLE_AT).alias(EVENT_TIME)), DEFINITION), COVERED
    )


def asked(snapshot, store, *names):
    keys = [chunk_key(snapshot.held["a/b"].number, name) for name in names]
    return store.get_many(snapshot, keys)


def everything(store):
    snapshot = store.snapshot(PRODUCT)
    return snapshot.generation, dict(store.chunks(snapshot))


def test_what_was_published_is_there_under_the_hash_of_its_content(uri):
    tables = {"c/d": table(1), "a/b": table(1, 2)}
    writer, reader = open_store(uri, timeout=5), open_store(uri, read_only=True, timeout=5)
    generation = writer.publish(PRODUCT, tables, NOW)
    snapshot = reader.snapshot(PRODUCT)
    assert (snapshot.generation, snapshot.published_at) == (generation, NOW)
    assert snapshot.tables == dict.fromkeys(tables, COVERED)
    chunks = tables["a/b"].packed.chunks
    assert asked(snapshot, reader, *chunks, b"nobody") == [*chunks.values(), None]
    assert len(everything(reader)[1]) == sum(len(t.packed.chunks) for t in tables.values())


def test_equal_content_is_one_generation_whenever_and_of_whichever_version_it_is(uri):
    store = open_store(uri, timeout=5)
    first = store.publish(PRODUCT, {"a/b": table(1)}, NOW)
    later = replace(table(1), covered=replace(COVERED, delta_version=9))
    assert store.publish(PRODUCT, {"a/b": later}, NOW + timedelta(days=1)) == first
    assert store.snapshot(PRODUCT).published_at == NOW
    assert store.publish(PRODUCT, {"a/b": table(2)}, NOW) != first
    moved = replace(table(1), covered=replace(COVERED, known_through=NOW + timedelta(days=1)))
    assert store.publish(PRODUCT, {"a/b": moved}, NOW) != first


def test_the_generation_before_stays_until_the_next_one(uri):
    store, reader = open_store(uri, timeout=5), open_store(uri, read_only=True, timeout=5)
    snapshots = []
    for value in range(4):
        store.publish(PRODUCT, {"a/b": table(value)}, NOW)
        snapshots.append(reader.snapshot(PRODUCT))
    (name, *_) = table(0).packed.chunks
    fresh = open_store(uri, read_only=True, timeout=5)
    assert asked(snapshots[3], fresh, name) == [table(3).packed.chunks[name]]
    assert asked(snapshots[2], fresh, name) == [table(2).packed.chunks[name]]
    with pytest.raises(GenerationGone, match=f"{snapshots[1].generation} of {PRODUCT} is gone"):
        asked(snapshots[1], open_store(uri, read_only=True, timeout=5), name)


def test_a_generation_can_come_back(uri):
    store = open_store(uri, timeout=5)
    first, *_ = [store.publish(PRODUCT, {"a/b": table(x)}, NOW) for x in (1, 2, 3)]
    assert store.publish(PRODUCT, {"a/b": table(1)}, NOW) == first
    assert everything(store)[0] == first
    assert len(everything(store)[1]) == 3


def test_products_do_not_see_each_other(uri):
    store = open_store(uri, timeout=5)
    store.publish("one", {"a/b": table(1)}, NOW)
    with pytest.raises(OnlineStoreError, match="two has nothing in the online store"):
        store.snapshot("two")
    store.publish("two", {"a/b": table(2)}, NOW)
    assert store.snapshot("one").generation != store.snapshot("two").generation


def test_a_reader_writes_nothing(uri, tmp_path):
    store = open_store(uri, read_only=True, timeout=5)
    with pytest.raises(OnlineStoreError, match="was opened to read only"):
        store.publish(PRODUCT, {"a/b": table(1)}, NOW)
    with pytest.raises(OnlineStoreError, match="has nothing in the online store"):
        store.snapshot(PRODUCT)
    assert not (tmp_path / "online").exists()


def test_a_copy_is_the_same_generation_and_as_whole(uri, tmp_path):
    store, kept = open_store(uri, timeout=5), open_store(f"lmdb://{tmp_path / 'copy'}")
    store.publish(PRODUCT, {"a/b": table(1, 2), "c/d": table(3)}, NOW)
    copy(store, kept, PRODUCT)
    assert everything(kept) == everything(store)
    assert kept.snapshot(PRODUCT) == store.snapshot(PRODUCT)


def publish_for_ever(uri, published, keys=3000, contents=4):
    store = open_store(uri, timeout=5)
    packed = cache(partial(table, keys=keys))
    for n in range(1, 10_000):
        store.publish(PRODUCT, {"a/b": packed(n % contents)}, NOW + timedelta(seconds=n))
        published.value = n


def test_whoever_is_killed_while_publishing_leaves_a_whole_generation(uri, forked):
    whole = [table(n, keys=3000).packed.chunks for n in range(4)]
    for wait in (0.0, 0.01, 0.03, 0.08):
        published = forked.Value("i", 0)
        publisher = forked.Process(target=publish_for_ever, args=(uri, published))
        publisher.start()
        while not published.value:
            assert publisher.is_alive()
            time.sleep(0.001)
        time.sleep(wait)
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.join()
        found = everything(open_store(uri, read_only=True, timeout=5))[1]
        assert {key[2:]: chunk for key, chunk in found.items()} in whole
        if uri.startswith("redis"):  # The lock of who was killed lasts a while.
            redis.Redis.from_url(uri).delete(f"mlops:online:{PRODUCT}:writer")
    after = open_store(uri, timeout=5)
    generation = after.publish(PRODUCT, {"a/b": table(7)}, NOW)
    assert everything(after)[0] == generation
    _assert_nothing_is_left_but(uri, 2)


def test_who_reads_while_generations_come_and_go_sees_one_of_them_whole(uri, forked):
    published = forked.Value("i", 0)
    publisher = forked.Process(target=publish_for_ever, args=(uri, published, 50, 10_000))
    publisher.start()
    while not published.value:
        time.sleep(0.001)
    online = OnlineFeatures(
        open_store(uri, read_only=True, timeout=5), PRODUCT, {"a/b": DEFINITION}
    )
    rows = [{"key": key, PREDICTION_TIME: NOW} for key in range(50)]
    seen = set()
    deadline = time.monotonic() + 60
    while len(seen) < 3 and time.monotonic() < deadline:
        (values,) = {frozenset(each.values.items()) for each in online.look_up(rows)}
        seen.add(values)
    publisher.kill()
    publisher.join()
    assert len(seen) >= 3


@pytest.fixture(scope="module")
def forked():
    """Processes that begin at once: they are forked from one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _assert_nothing_is_left_but(uri, generations):
    if uri.startswith("redis"):
        keys = redis.Redis.from_url(uri).keys(f"mlops:online:{PRODUCT}:????????*")
        assert len(keys) == generations, keys
    else:
        folder = Path(uri.removeprefix("lmdb://")) / PRODUCT
        assert len([each for each in folder.iterdir() if each.is_dir()]) == generations


def test_a_generation_that_redis_evicted_is_gone_and_not_one_that_knows_nothing(server):
    client = redis.Redis.from_url(server.uri)
    client.flushall()
    store = open_store(server.uri, timeout=5)
    generation = store.publish(PRODUCT, {"a/b": table(1)}, NOW)
    snapshot = store.snapshot(PRODUCT)
    client.delete(f"mlops:online:{PRODUCT}:{generation}")
    with pytest.raises(GenerationGone, match="or evicted; give that Redis the policy noeviction"):
        asked(snapshot, store, b"x")
    with pytest.raises(GenerationGone):
        store.snapshot(PRODUCT)
    assert store.publish(PRODUCT, {"a/b": table(1)}, NOW) == generation
    assert len(everything(store)[1]) == 3


def test_a_password_is_in_no_message(server):
    wrong = server.uri.replace(PASSWORD, "of-nobody")
    with pytest.raises(OnlineStoreError, match="does not answer") as caught:
        open_store(wrong, timeout=5).snapshot(PRODUCT)
    assert "of-nobody" not in str(caught.value)
    with pytest.raises(ValueError, match="'http://there/0' is no online store; use") as refused:
        open_store("http://user:secret@there/0")
    assert "secret" not in str(refused.value)
    assert without_password("rediss://me:a:b@there:1/0?x=1") == "rediss://there:1/0?x=1"
    assert without_password("lmdb:///var/online") == "lmdb:///var/online"


@pytest.mark.parametrize("wrong", ["lmdb://relative/folder", "lmdb:folder"])
def test_a_folder_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="names no folder; write it as lmdb:///folder"):
        open_store(wrong)


def test_a_product_cannot_leave_the_folder(tmp_path):
    with pytest.raises(ValueError, match="is no product's name"):
        open_store(f"lmdb://{tmp_path}").snapshot("../elsewhere")


def test_what_other_code_has_published_is_named_and_replaced(server):
    client = redis.Redis.from_url(server.uri)
    client.flushall()
    store = open_store(server.uri, timeout=5)
    client.set(f"mlops:online:{PRODUCT}", "abc")
    client.hset(f"mlops:online:{PRODUCT}:abc", DESCRIBED, b'{"generation": "abc"}')
    with pytest.raises(OnlineStoreError, match=r"published by other code .*; materialize"):
        store.snapshot(PRODUCT)
    generation = store.publish(PRODUCT, {"a/b": table(1)}, NOW)
    assert store.snapshot(PRODUCT).generation == generation
