"""The image that BentoML makes of our Bento: built for real, and what runs in it answers."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlops_assets_tests.images import STAND_IN, Images, require_tools
from mlops_assets_tests.late_flights import PRODUCT, World, features, fitted, requests

pytestmark = [pytest.mark.year, pytest.mark.timeout(1800)]

SEED = 1
READY_SECONDS = 120
UID = 1034
"""Of the user that BentoML's image has; not root."""
WORKER = """
import os, socket, sys
os.chdir("src")
from bentos.tabular.worker import main
listening = socket.create_server(("127.0.0.1", 0))
sys.exit(main(["--fd", str(listening.fileno()), "--ready", "1"]))
"""
"""One server process that ends where it cannot start; `bentoml serve` would try for ever."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A version that has passed, and its Bento; nobody has promoted it yet."""
    world = World(tmp_path_factory.mktemp("world"))
    version = world.register(SEED)
    world.built = world.package(version)
    world.judge(version)
    world.version = version
    return world


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    require_tools()
    folder = tmp_path_factory.mktemp("images")
    yield Images(folder)
    shutil.rmtree(folder)  # Gigabytes, which pytest would keep.


@pytest.fixture(scope="module")
def image(images, world):
    """The image of the Bento, on the base image that its Dockerfile names."""
    dockerfile = (world.built.path / "env/docker/Dockerfile").read_text()
    (base,) = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")]
    print(f"\nThe base image is {images.base(base)}")
    images.build(world.bentos, world.built.tag)
    return world.built.tag


@pytest.fixture(scope="module")
def container(images, image):
    return images.container(image)


def entrypoint(images, image, *arguments):
    return [*images.config(image)["Entrypoint"], *arguments]


def ended(images, container, command, world, **more):
    """Status and last words of a server that does not start."""
    environment = world.environment | more
    with images.running(container, *command, folder=world.home, environment=environment) as process:
        said, _ = process.communicate(timeout=READY_SECONDS)
    return process.returncode, said


def opened(folder: Path) -> None:
    """What the test wrote, for the container's user."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)


def test_the_image_is_as_its_definition_says(images, image, container, world):
    said = images.config(image)
    assert said["User"] == "bentoml"
    assert "OMP_NUM_THREADS=1" in said["Env"]
    assert not [each for each in said["Env"] if each.startswith("NVIDIA")]
    assert said.get("Labels", {}).get(STAND_IN) in (None, "python:3.11-slim")
    listing = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    python = ("/app/.venv/bin/python", "-c", listing)
    status, printed = ended(images, container, python, world)
    assert status == 0, printed
    there = {n.replace("_", "-"): v for n, v in json.loads(printed.splitlines()[-1]).items()}
    pins = (world.built.path / "src/bentos/tabular/requirements.txt").read_text().split()
    assert {pin: there.get(pin.split("==")[0]) for pin in pins} == {
        pin: pin.split("==")[1] for pin in pins
    }


def test_what_nobody_promoted_or_lacks_its_gpu_does_not_start_in_it(
    images, image, container, world
):
    opened(world.home)
    inside = ("/app/.venv/bin/python", "-c", WORKER)
    status, said = ended(images, container, inside, world)
    assert (status, f"{PRODUCT} 1 may not serve: promotion: nobody promoted it" in said) == (
        3,
        True,
    )
    status, said = ended(images, container, inside, world, MLOPS_DEVICE="cuda", MLOPS_SERVE="trial")
    assert (status, "finds no GPU" in said) == (3, True)


def test_its_container_answers_as_the_model_and_logs(images, image, container, world):
    world.promote(world.version)
    opened(world.home)
    port = free_port()
    command = entrypoint(images, image, "serve", "--host", "127.0.0.1", "--port", str(port))
    with images.running(
        container, *command, folder=world.home, environment=world.environment
    ) as process:
        wait_until_ready(port, process)
        status, answer = post(port, "/predict_batch", {"rows": requests()})
        inside = [
            each
            for each in psutil.Process(process.pid).children(recursive=True)
            if each.name() != "buildah"
        ]
        seen = [(each.exe(), each.uids().effective) for each in inside]
    assert status == 200, answer
    found = np.array([each["probability"] for each in answer["predictions"]])
    np.testing.assert_allclose(found, fitted(seed=SEED).predict(features()), rtol=0, atol=1e-6)
    # It was the container's own Python, as its user.
    pythons = [uid for exe, uid in seen if "python" in exe]
    assert pythons
    assert set(pythons) == {UID}
    lines = b"".join(path.read_bytes() for path in (world.log / PRODUCT).iterdir())
    assert all(each["prediction_id"].encode() in lines for each in answer["predictions"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            if get(port, "/readyz") == 200:
                return
        except OSError:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "not ready in time"
        time.sleep(0.2)


def get(port: int, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def post(port: int, path: str, content: object) -> tuple[int, dict]:
    body, headers = json.dumps(content), {"Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
