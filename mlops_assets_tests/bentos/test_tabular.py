"""Parts of the endpoint that need no server: settings, batches, whose answer a key gets."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from bentos.tabular.batching import MOST_ROWS, Batcher
from bentos.tabular.document import document
from bentos.tabular.endpoint import Endpoint, Service
from bentos.tabular.metrics import Metrics
from bentos.tabular.rows import answer_types, request_types
from bentos.tabular.settings import Beside, SettingError, Settings
from bentos.tabular.versions import Loaded, Serving
from mlops_assets_tests.late_flights import contract, requests

HOME = {"MLOPS_HOME": "/var/lib/mlops"}


# --- settings --------------------------------------------------------------------------------


def test_a_home_is_enough():
    settings = Settings.read(HOME)
    assert settings.lake_uri == "/var/lib/mlops/lake"
    assert settings.online_store == "lmdb:///var/lib/mlops/online"
    assert settings.request_log == Path("/var/lib/mlops/requests")
    assert (settings.tokens, settings.beside, settings.tracking_uri) == ((), (), None)
    assert Settings.read(HOME | {"MLFLOW_TRACKING_URI": ""}).tracking_uri is None


def test_tokens_and_what_runs_beside_are_lists():
    more = {"MLOPS_API_TOKENS": " a, b\nc", "MLOPS_BESIDE": "predecessor=shadow,3=share:0.25"}
    settings = Settings.read(HOME | more)
    assert settings.tokens == ("a", "b", "c")
    assert settings.beside == (Beside("predecessor", 0.0), Beside("3", 0.25))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MLOPS_DEVICE", "gpu", "'gpu'; use cpu, cuda or auto"),
        ("MLOPS_BESIDE", "3", "write predecessor=shadow"),
        ("MLOPS_BESIDE", "3=share:1.5", "3=share:0.1 for a tenth"),
        ("MLOPS_BESIDE", "3=share:nan", "3=share:0.1 for a tenth"),
        ("MLOPS_BESIDE", "newest=shadow", "write predecessor=shadow"),
        ("MLOPS_BESIDE", "2=share:0.5,3=share:0.5", "shares of 1 or more"),
        ("MLOPS_MAX_BODY_BYTES", "0", "a whole number above 0"),
        ("MLOPS_MAX_CONCURRENCY", "many", "'many'; use a whole number"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_what_would_be_good(name, value, says):
    with pytest.raises(SettingError, match=name) as refused:
        Settings.read(HOME | {name: value})
    assert says in str(refused.value)


def test_what_a_server_needs_is_asked_for():
    with pytest.raises(SettingError, match="MLOPS_LAKE_URI is not set"):
        Settings.read({})


# --- batches ---------------------------------------------------------------------------------


def asked(batcher, *requests):
    async def ask():
        return await asyncio.gather(*map(batcher.ask, requests), return_exceptions=True)

    return asyncio.run(ask())


@pytest.mark.parametrize("in_thread", [False, True])
def test_what_waits_is_answered_together_and_handed_to_who_asked(in_thread):
    batches = []

    def answer(rows):
        batches.append(list(rows))
        return [10 * row for row in rows]

    batcher = Batcher(answer, in_thread=in_thread)
    assert asked(batcher, [1], [2, 3], [4]) == [[10], [20, 30], [40]]
    assert [row for batch in batches for row in batch] == [1, 2, 3, 4]
    assert len(batches) == 1 or in_thread


def test_while_a_slow_model_works_the_next_batch_gathers():
    batches, first = [], threading.Event()

    def answer(rows):
        batches.append(len(rows))
        first.wait(5)
        return list(rows)

    async def ask():
        batcher = Batcher(answer, in_thread=True)
        early = asyncio.ensure_future(batcher.ask([0]))
        while not batches:
            await asyncio.sleep(0.001)
        late = [asyncio.ensure_future(batcher.ask([n])) for n in range(1, 21)]
        await asyncio.sleep(0.01)
        first.set()
        return await asyncio.gather(early, *late)

    assert asyncio.run(ask()) == [[n] for n in range(21)]
    assert batches == [1, 20]


def test_a_batch_has_whole_requests_up_to_its_size():
    sizes = []
    batcher = Batcher(lambda rows: (sizes.append(len(rows)), list(rows))[1])
    asked(batcher, *([0] * 600 for _ in range(3)), [0] * MOST_ROWS)
    assert sizes == [600, 600, 600, MOST_ROWS]


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_error_is_everybodys_of_that_batch_and_nobody_elses(in_thread):
    def answer(rows):
        if 13 in rows:
            raise ArithmeticError("thirteen")
        return list(rows)

    batcher = Batcher(answer, in_thread=in_thread)
    answers = asked(batcher, [13])
    assert isinstance(answers[0], ArithmeticError)
    assert asked(Batcher(answer, in_thread=in_thread), [1]) == [[1]]


def test_more_requests_than_may_wait_are_refused_and_an_error_within_tells_nothing():
    said = contract()
    row, rows = request_types(said)
    settings = replace(Settings.read(HOME), most_at_once=2)
    body = json.dumps(requests()[0]).encode()

    def fails(asked):
        raise RuntimeError("a secret of the process")

    batcher = Batcher(fails, in_thread=True)
    service = Service(said, settings, batcher, Metrics(), b"{}", row, rows, list)

    async def ask(endpoint):
        sent = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json; charset=utf-8")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        await endpoint(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def ask_three():
        endpoint = Endpoint(None, lambda: service)
        return await asyncio.gather(*(ask(endpoint) for _ in range(3)))

    answers = asyncio.run(ask_three())
    assert [status for status, _ in answers] == [500, 500, 429]
    assert not [body for _, body in answers if b"secret" in body or b"Traceback" in body]
    assert b'mlops_requests_total{path="/predict",status="429"} 1.0' in service.metrics.text()


# --- what an answer can be -------------------------------------------------------------------

CLASSES = ("Barbera d'Asti", "Grüner Veltliner", "two words", "価格")


def schemas(said):
    described = json.loads(msgspec.json.encode(document(said, *request_types(said), tokens=False)))
    return described["components"]["schemas"]["Prediction"]["properties"]


def test_the_document_lists_the_classes():
    said = contract(task="multiclass", threshold=None, classes=CLASSES)
    answer = schemas(said)
    assert answer["predicted"]["enum"] == list(CLASSES)
    assert answer["probabilities"]["propertyNames"] == {"enum": list(CLASSES)}
    assert answer["probabilities"]["required"] == list(CLASSES)
    one, _ = answer_types(said)
    assert one.__struct_fields__[1:4] == ("predicted", "probability", "probabilities")
    # The contract of an older Bento names none.
    assert schemas(contract(task="multiclass", threshold=None))["predicted"]["type"] == "string"
    assert "predicted" not in schemas(contract())


def test_only_a_multiclass_task_has_classes():
    with pytest.raises(ValueError, match="a binary task has no classes; the contract names a, b"):
        contract(classes=("a", "b"))


# --- whose answer a key gets -----------------------------------------------------------------


def loaded(version, share=0.0):
    return Loaded(version, f"d{version}", 0.4, SimpleNamespace(), str(version), share)


def test_a_key_always_gets_the_same_version_and_each_its_share():
    serving = Serving(loaded(1), (loaded(2, 0.3), loaded(3, 0.1), loaded(4)))
    keys = [("UA", number) for number in range(4000)]
    answers = [serving.answering(key).version for key in keys]
    assert answers == [serving.answering(key).version for key in keys]
    shares = {version: answers.count(version) / len(keys) for version in (1, 2, 3, 4)}
    assert shares == pytest.approx({1: 0.6, 2: 0.3, 3: 0.1, 4: 0.0}, abs=0.03)
