"""Messages by Apprise to a real HTTP receiver: delivered, refused, nobody there; secrets stay."""

from __future__ import annotations

import logging

import pytest

from mlops_assets.stores.notifications import VARIABLE, Message, Notifier
from mlops_assets_tests.integration.served import free_port
from mlops_assets_tests.receiver import Receiver

MESSAGE = Message("run_failed:1", "Run failed: weather", "0 rows.", "http://ui/runs/1", "bad")
SECRET = "s3cret-token"


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def test_a_message_has_a_title_words_and_a_link(receiver):
    outcome = Notifier([receiver.url]).send(MESSAGE)
    assert (len(outcome.delivered), outcome.undelivered) == (1, {})
    (got,) = receiver.received
    assert got["title"] == "Run failed: weather"
    assert got["message"] == "0 rows.\nhttp://ui/runs/1"
    assert got["type"] == "failure"


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n  "])
def test_addresses_are_separated_by_spaces_or_commas(receiver, monkeypatch, between):
    monkeypatch.setenv(VARIABLE, between.join([receiver.url, f"{receiver.url}/two,three"]))
    notifier = Notifier.from_environment()
    assert (len(notifier), notifier.problems) == (2, [])
    notifier.send(MESSAGE)
    assert receiver.paths == ["/", "/two%2Cthree"]


@pytest.mark.parametrize("given", [None, "", " , "])
def test_no_address_is_no_problem(monkeypatch, given):
    monkeypatch.delenv(VARIABLE, raising=False)
    if given is not None:
        monkeypatch.setenv(VARIABLE, given)
    notifier = Notifier.from_environment()
    assert (len(notifier), notifier.problems) == (0, [])
    assert notifier.send(MESSAGE).undelivered == {}


def test_a_bad_address_is_named_by_its_place_without_its_secrets(receiver, caplog):
    notifier = Notifier([receiver.url, f"carrier-pigeon://{SECRET}@loft"])
    assert len(notifier) == 1
    assert notifier.problems == [
        "address 2 of 2 in MLOPS_NOTIFY (carrier-pigeon) is none that Apprise can use"
    ]
    assert SECRET not in caplog.text


def test_nobody_there_is_told_and_raises_nothing_and_no_secret_is_logged(caplog, capsys):
    caplog.set_level(logging.DEBUG)
    url = f"json://user:{SECRET}@127.0.0.1:{free_port()}/hook/{SECRET}"
    outcome = Notifier([url]).send(MESSAGE)
    assert outcome.delivered == ()
    (reason,) = outcome.undelivered.values()
    assert reason.startswith("address 1 (json): ")
    assert SECRET not in reason + caplog.text + str(capsys.readouterr())


def test_a_refusal_says_its_status(receiver):
    receiver.answer = 503
    (reason,) = Notifier([receiver.url]).send(MESSAGE).undelivered.values()
    assert "503" in reason


def test_one_that_is_down_does_not_keep_the_others_from_it(receiver):
    down = f"json://127.0.0.1:{free_port()}"
    outcome = Notifier([down, receiver.url]).send(MESSAGE)
    assert (len(outcome.delivered), len(outcome.undelivered)) == (1, 1)
    assert len(receiver.received) == 1


def test_a_repetition_goes_only_where_it_is_missing(receiver):
    notifier = Notifier([receiver.url, f"{receiver.url}/other"])
    first = notifier.send(MESSAGE).delivered[1]
    notifier.send(MESSAGE, only=[first])
    assert receiver.paths == ["/", "/other", "/other"]
