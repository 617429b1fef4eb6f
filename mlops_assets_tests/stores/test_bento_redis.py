"""A server whose features are in a real Redis, which is slow, dies and comes back meanwhile."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack, closing

import msgspec
import pytest
from msgspec.structs import asdict

from bentos.tabular.rows import request_types
from bentos.tabular.scoring import Asked, Scorer
from bentos.tabular.versions import Loaded, Serving
from mlops_assets.ml.families import load_model
from mlops_assets.stores.bento_rollout import Rollout
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.online_features import OnlineFeatures, Spine
from mlops_assets.stores.online_store import open_store
from mlops_assets.stores.request_log import RequestLog
from mlops_assets_tests.delay_proxy import delay_proxy
from mlops_assets_tests.late_flights import PRODUCT, publish, requests, trial
from mlops_assets_tests.redis_server import redis_server

pytestmark = pytest.mark.slow

JSON = "application/json"
ASKED = {"rows": requests()}
LOOKED_UP = ["origin_late_rate_24h"]
FRESH_SECONDS = 10.0
"""A second of rest, one until the copy is renewed, and what a busy machine takes."""


class World:
    """One server process, the Redis that it reads through a proxy, and what stands in both."""

    def __init__(self, folder, bentos, tag, stack):
        self.folder, self.stack = folder, ExitStack()
        stack.push(self.stack)
        self.embedded = trial(folder)
        (folder / "redis").mkdir()
        self.start_redis()
        self.redis_port = int(self.redis.uri.rpartition(":")[2].partition("/")[0])
        self.proxy = stack.enter_context(delay_proxy(self.redis_port))
        seen = self.redis.uri.replace(str(self.redis_port), str(self.proxy.port))
        self.stop_redis()
        self.log = folder / "requests"
        environment = self.embedded | {"MLOPS_ONLINE_STORE": seen}
        self.server = stack.enter_context(Rollout(bentos, 0, environment, folder / "logs"))
        self.server.roll_out(tag)

    def start_redis(self, port=None):
        """A Redis that knows nothing yet."""
        self.redis = self.stack.enter_context(redis_server(self.folder / "redis", port))

    def stop_redis(self):
        """Kill it; nothing of it stays."""
        self.stack.close()

    def publish(self):
        publish(Lakehouse(self.folder / "lake"), self.redis.uri)

    def ask(self, path, content=None):
        """Status, answer and seconds."""
        begun = time.monotonic()
        body = json.dumps(content) if content else None
        server = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        with closing(server) as connection:
            connection.request("POST" if body else "GET", path, body, {"Content-Type": JSON})
            response = connection.getresponse()
            said = json.loads(response.read())
        return response.status, said, time.monotonic() - begun

    def answers(self):
        """What is said of every flight, without what is of one answer alone, and seconds."""
        status, said, seconds = self.ask("/predict_batch", ASKED)
        assert status == 200, said
        return [a | {"prediction_id": None} for a in said["predictions"]], seconds

    def wait_until_fresh(self):
        end = time.monotonic() + FRESH_SECONDS
        while (found := self.answers()[0])[0]["stale"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def world(store, bento, tmp_path_factory):
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("world"), store, bento.tag, stack)


@pytest.fixture(scope="module")
def fresh(world, store, bento):
    """The answers while all is well, after the server had to begin without its Redis."""
    status, said, _ = world.ask("/predict", requests()[0])
    assert (status, said["error"]) == (503, "features cannot be looked up now")
    status, said, _ = world.ask("/readyz")
    assert (status, said["ready"]) == (503, False)
    assert "does not answer" in said["reasons"][0]
    world.start_redis(world.redis_port)
    world.publish()
    end = time.monotonic() + FRESH_SECONDS
    while world.ask("/readyz")[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    # The server's own copy follows within a second or so.
    while not list(world.log.glob(f"online-copy-*/{PRODUCT}/present")):
        assert time.monotonic() < end
        time.sleep(0.1)
    return world.wait_until_fresh()


def as_stale(answers):
    return [answer | {"stale": LOOKED_UP} for answer in answers]


def test_a_server_that_began_without_its_redis_answers_from_it_as_from_files(
    world, fresh, store, bento, model_folder, tmp_path
):
    assert not any(answer["missing"] or answer["stale"] for answer in fresh)
    contract = store.contract(bento.tag)
    spine = Spine(contract.spine_table, contract.spine_keys, contract.spine_columns)
    files = OnlineFeatures(
        open_store(world.embedded["MLOPS_ONLINE_STORE"]), PRODUCT, contract.definitions(), spine
    )
    serving = Serving(Loaded(1, "", contract.threshold, load_model(model_folder)))
    scorer = Scorer(contract, files, RequestLog(tmp_path, PRODUCT), serving)
    row = msgspec.json.Decoder(list[request_types(contract)[0]]).decode
    asked = [Asked.now(asdict(each)) for each in row(json.dumps(ASKED["rows"]))]
    from_files = json.loads(msgspec.json.encode(scorer.answer(asked)))
    scorer.close()
    assert [answer | {"prediction_id": None} for answer in from_files] == fresh


def test_a_slow_redis_is_not_waited_for_and_its_copy_answers_as_stale(world, fresh):
    world.wait_until_fresh()
    world.proxy.delay = 5.0
    try:
        for _ in range(6):
            answers, seconds = world.answers()
            assert answers == as_stale(fresh)
            # The limit is 0.05 s; what a busy machine adds is less than Redis takes.
            assert seconds < world.proxy.delay
        assert world.ask("/readyz")[0] == 200
    finally:
        world.proxy.delay = 0.0
    assert world.wait_until_fresh() == fresh


def test_a_dead_redis_leaves_its_copy_to_a_server_that_starts_anew_too(world, fresh):
    world.wait_until_fresh()
    world.stop_redis()
    try:
        assert world.answers()[0] == as_stale(fresh)
        world.server.worker.process.kill()
        world.server.worker.process.wait()
        assert "was started again" in world.server.look()
        assert world.answers()[0] == as_stale(fresh)
        assert world.ask("/readyz")[0] == 200
    finally:
        world.start_redis(world.redis_port)
    # It came back with nothing: that is no reason to say that nothing is known.
    time.sleep(2)
    assert world.answers()[0] == as_stale(fresh)
    world.publish()
    assert world.wait_until_fresh() == fresh
