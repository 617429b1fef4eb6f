"""A server that goes on: promotions, rollbacks, kills and a full disk while callers ask."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager

import psutil
import pytest

from mlops_assets.stores.bento_process import BentoError
from mlops_assets.stores.bento_rollout import Rollout
from mlops_assets.stores.model_registry import CHAMPION
from mlops_assets.stores.request_log import closed_segments, read_segment
from mlops_assets.stores.serving_truth import MayNotServe, beside_version, predecessor
from mlops_assets_tests.late_flights import PRODUCT, World, requests

pytestmark = pytest.mark.slow

ASKED = [json.dumps(request).encode() for request in requests()]
HEADERS = {"Content-Type": "application/json"}
SWAP_SECONDS = 5.0
SWAP = "mlops_swap_seconds "


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three versions of one contract; the first is promoted, the second too, the third judged."""
    world = World(tmp_path_factory.mktemp("world"))
    versions = [world.register(seed) for seed in (1, 2, 3)]
    built = world.package(versions[0])
    for version in versions[1:]:
        world.tag(version, built.tag, built.contract.hash)
    for version in versions:
        world.judge(version)
    world.promote(versions[1])
    world.promote(versions[0])
    world.built = built
    return world


@contextmanager
def rolled_out(world, name, **more):
    """A rollout of the world's Bento, with a log of its own."""
    log = world.home / f"requests-{name}"
    environment = world.environment | {"MLOPS_REQUEST_LOG": str(log)} | more
    world.models.set_alias(PRODUCT, CHAMPION, 1)
    with Rollout(world.bentos, 0, environment, world.home / "logs") as rollout:
        rollout.roll_out(world.built.tag)
        yield rollout, log


@pytest.fixture(scope="module")
def server(world):
    """The one that most tests ask, one after the other: a start takes seconds."""
    with rolled_out(world, "shared") as there:
        yield there


@pytest.fixture
def served(world, server):
    """The same, with version 1 serving."""
    world.models.set_alias(PRODUCT, CHAMPION, 1)
    end = time.monotonic() + 2 * SWAP_SECONDS
    while post(server[0])[1]["model_version"] != 1:
        assert time.monotonic() < end
        time.sleep(0.1)
    return server


class Callers:
    """Threads that ask over kept connections until told to stop; every answer is kept.

    A connection that was cut is opened again and the request counted as cut, never as answered.
    """

    def __init__(self, port, number=4):
        self.port, self.end = port, threading.Event()
        self.answers, self.refused, self.cut = [], [], 0
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(number)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join(60)

    def _ask(self, at):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.end.is_set():
            at += 1
            try:
                connection.request("POST", "/predict", ASKED[at % len(ASKED)], HEADERS)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):
                self.cut += 1
                connection.close()
                continue
            if response.status == 200:
                self.answers.append(json.loads(body))
            else:
                self.refused.append((response.status, body))
        connection.close()

    def versions(self):
        return Counter(answer["model_version"] for answer in self.answers)

    def wait_for_answers(self, number, seconds=60):
        """Wait for so many more."""
        wanted, end = len(self.answers) + number, time.monotonic() + seconds
        while len(self.answers) < wanted:
            assert time.monotonic() < end
            time.sleep(0.01)

    def wait_for(self, version, seconds=60.0):
        """Seconds until an answer is of the version."""
        begun, seen = time.monotonic(), len(self.answers)
        while time.monotonic() - begun < seconds:
            if any(answer["model_version"] == version for answer in self.answers[seen:]):
                return time.monotonic() - begun
            time.sleep(0.02)
        raise AssertionError(f"no answer of {version} in {seconds} s: {self.versions()}")


def get(rollout, path):
    connection = http.client.HTTPConnection("127.0.0.1", rollout.port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def post(rollout, body=ASKED[0]):
    connection = http.client.HTTPConnection("127.0.0.1", rollout.port, timeout=30)
    connection.request("POST", "/predict", body, HEADERS)
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def swap_seconds(rollout):
    """How long the last takeover can have taken at most, by the server's own clock."""
    (line,) = [x for x in get(rollout, "/metrics")[1].splitlines() if x.startswith(SWAP)]
    return float(line.split()[1])


def logged(log, since=0.0):
    """Records of what was received since a time, of segments that are still written too."""
    paths = [*closed_segments(log, PRODUCT), *(log / PRODUCT).glob("*.open")]
    rows = [r for path in paths for r in read_segment(path).records.iter_rows(named=True)]
    return [row for row in rows if row["received_at"].timestamp() >= since]


def test_a_promotion_is_taken_over_and_rolled_back_under_load_without_a_failed_request(
    world, served
):
    (rollout, log), begun = served, time.time()
    with Callers(rollout.port) as callers:
        for version in (2, 1, 2):
            world.models.set_alias(PRODUCT, CHAMPION, version)
            callers.wait_for(version)
            assert 0 < swap_seconds(rollout) < SWAP_SECONDS
        # The alias may name what nobody promoted; it is not loaded.
        world.models.set_alias(PRODUCT, CHAMPION, 3)
        time.sleep(3)
        before = len(callers.answers)
        time.sleep(0.5)
        assert {a["model_version"] for a in callers.answers[before:]} == {2}
        assert "mlops_swaps_refused_total 1.0" in get(rollout, "/metrics")[1]
        # Once it names another, that is not made to wait.
        world.models.set_alias(PRODUCT, CHAMPION, 1)
        callers.wait_for(1)
        assert 0 < swap_seconds(rollout) < SWAP_SECONDS
    assert (callers.refused, callers.cut) == ([], 0)
    told = {answer["prediction_id"]: answer["model_version"] for answer in callers.answers}
    assert len(told) == len(callers.answers)
    kept = {row["prediction_id"]: row["model_version"] for row in logged(log, begun)}
    assert told.items() <= kept.items()


def test_a_registry_that_is_down_leaves_what_serves(world, served):
    rollout, _ = served
    database = world.home / "mlflow.db"
    aside = world.home / "mlflow.db.away"
    database.rename(aside)
    try:
        time.sleep(2.5)
        assert post(rollout)[1]["model_version"] == 1
        assert get(rollout, "/readyz")[0] == 200
    finally:
        aside.rename(database)


def test_a_disk_that_takes_no_more_refuses_requests_until_it_does(served):
    """The kernel refuses to let the log's file grow; it makes no difference who refuses."""
    (rollout, log), begun = served, time.time()
    process = psutil.Process(rollout.worker.process.pid)
    process.rlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        status, answer = post(rollout)
        assert (status, "cannot be logged" in answer["error"]) == (503, True)
        status, said = get(rollout, "/readyz")
        assert (status, json.loads(said)["reasons"]) == (503, ["the request log cannot be written"])
    finally:
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        process.rlimit(resource.RLIMIT_FSIZE, infinite)
    end = time.monotonic() + 10
    while get(rollout, "/readyz")[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert post(rollout)[0] == 200
    assert len(logged(log, begun)) == 1


def test_a_worker_that_is_killed_comes_back_and_no_answered_request_is_lost(served):
    (rollout, log), begun = served, time.time()
    with Callers(rollout.port) as callers:
        callers.wait_for_answers(50)
        os.kill(rollout.worker.process.pid, signal.SIGKILL)
        rollout.worker.process.wait()
        assert "was started again" in rollout.look()
        callers.wait_for_answers(50)
    assert callers.refused == []
    assert callers.cut > 0
    rows = logged(log, begun)
    kept = {row["prediction_id"] for row in rows}
    assert len(kept) == len(rows)
    assert {answer["prediction_id"] for answer in callers.answers} <= kept
    # What was written and not answered was cut off by the kill.
    assert len(rows) - len(callers.answers) <= callers.cut


def test_another_contract_is_rolled_out_beside_and_one_that_cannot_start_leaves_the_old(
    world, served
):
    (rollout, log), begun = served, time.time()
    other = edited(world, {"code": "another"}, "aa")
    broken = edited(world, {"device": "cuda"}, "bb")
    with pytest.raises(BentoError, match="finds no GPU"):
        rollout.roll_out(broken)
    old, first = rollout.worker, world.models.get(PRODUCT, 1)
    with Callers(rollout.port) as callers:
        world.tag(first, other, world.bentos.contract(other).hash)
        try:
            rollout.roll_out(other)
            old.process.wait(timeout=30)
            callers.wait_for_answers(50)
        finally:
            world.tag(first, world.built.tag, world.built.contract.hash)
    assert rollout.worker.tag == other
    assert (callers.refused, callers.cut) == ([], 0)
    contracts = Counter(row["contract_hash"] for row in logged(log, begun))
    assert contracts.keys() == {world.built.contract.hash, world.bentos.contract(other).hash}


def test_a_shadow_never_answers_and_a_share_answers_its_own_keys(world):
    with rolled_out(world, "beside", MLOPS_BESIDE="2=share:0.5,3=shadow") as (rollout, log):
        answers = [post(rollout, body)[1] for _ in range(2) for body in ASKED]
    told = [answer["model_version"] for answer in answers]
    assert told[: len(ASKED)] == told[len(ASKED) :]
    assert 15 < Counter(told)[2] / 2 < 45
    assert set(told) == {1, 2}
    rows = logged(log)
    arms = Counter((row["arm"], row["model_version"]) for row in rows)
    assert arms == {("champion", 1): 120, ("2", 2): 120, ("3", 3): 120}
    assert Counter(row["role"] for row in rows) == {"answer": 120, "shadow": 240}
    by_id = {a["prediction_id"]: a["model_version"] for a in answers}
    for row in rows:
        assert (row["role"] == "answer") == (by_id[row["prediction_id"]] == row["model_version"])


def test_who_may_run_beside_the_champion(world):
    lake, models = world.lake, world.models
    assert predecessor(lake, models, PRODUCT, models.get(PRODUCT, 1)).version == 2
    assert predecessor(lake, models, PRODUCT, models.get(PRODUCT, 2)).version == 1
    assert beside_version(lake, models, PRODUCT, 2, answers=True).version == 2
    assert beside_version(lake, models, PRODUCT, 3, answers=False).version == 3
    with pytest.raises(MayNotServe, match="3 may not answer a share: promotion: nobody"):
        beside_version(lake, models, PRODUCT, 3, answers=True)
    unjudged = world.register(4).version
    with pytest.raises(MayNotServe, match=r"may not shadow: .+ not judged"):
        beside_version(lake, models, PRODUCT, unjudged, answers=False)


def edited(world, change, name):
    """A Bento like the world's with another contract, to be rolled out beside it."""
    tag = f"{PRODUCT}:{name * 16}"
    shutil.copytree(world.built.path, world.bentos.path(tag))
    file = world.bentos.path(tag) / "src/bentos/tabular/contract.json"
    file.write_text(world.bentos.contract(tag).model_copy(update=change).model_dump_json())
    return tag
