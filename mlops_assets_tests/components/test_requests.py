"""What launches the shipping of the log: segments that wait, and not for ever where one stays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from mlops_assets.components.loop import _about
from mlops_assets.components.ml_product.requests import requests_sensor
from mlops_assets.components.ml_product.sensors import ABOUT, ATTEMPTS
from mlops_assets.components.resources import RequestLogResource
from mlops_assets_tests.stores.test_request_shipping import log

PRODUCT = SimpleNamespace(name="flight_delays")
STARTED = dg.DagsterRunStatus.STARTED
FAILED = dg.DagsterRunStatus.FAILURE


@dg.op
def ship():
    """Stands for the asset, which is not run here."""


@dg.job(name="flight_delays_requests")
def job():
    ship()


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as there:
        yield there


def look(instance: dg.DagsterInstance, folder: Path) -> dg.RunRequest | dg.SkipReason:
    resources = {"request_log": RequestLogResource(folder=str(folder))}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        (found,) = requests_sensor(PRODUCT, job)(context)
    return found


def ended(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, tags: dict[str, str]) -> None:
    instance.create_run_for_job(job, status=status, tags=tags)


def test_nothing_is_launched_while_nothing_waits(instance, tmp_path):
    assert "no closed segment waits" in look(instance, tmp_path).skip_message


def test_what_waits_is_asked_for_once_by_a_loop_however_often_a_server_goes_on(instance, tmp_path):
    log(tmp_path, range(2))
    first = look(instance, tmp_path)
    assert first.job_name == "flight_delays_requests"
    (oldest,) = (tmp_path / "flight_delays").iterdir()
    assert first.tags[ABOUT] == oldest.stem
    oldest.unlink()
    log(tmp_path, range(2))
    later = look(instance, tmp_path)
    assert later.run_key != first.run_key
    assert _about(later) == _about(first)


def test_one_shipping_at_a_time(instance, tmp_path):
    log(tmp_path, range(2))
    ended(instance, STARTED, {})
    assert (
        "1 segments wait; flight_delays_requests is under way"
        in look(instance, tmp_path).skip_message
    )


def test_a_segment_that_stays_is_left_to_a_person(instance, tmp_path):
    log(tmp_path, range(2))
    keys = []
    for _ in range(ATTEMPTS):
        asked = look(instance, tmp_path)
        keys.append(asked.run_key)
        ended(instance, FAILED, asked.tags)
    assert len(set(keys)) == ATTEMPTS
    assert "failed 3 times" in look(instance, tmp_path).skip_message
