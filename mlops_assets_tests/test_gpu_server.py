"""The benchmark of a server on a GPU, on a small home; without a GPU it has the CPU's figures."""

import json

import pytest

from benchmarks.gpu_server import Asked, compare, gpu, pack, require
from mlops_assets.stores.lakehouse import Commit
from mlops_assets_tests.late_flights import PRODUCT, World, features

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """What servers need of a home with one promoted version."""
    world = World(tmp_path_factory.mktemp("home"))
    world.lake.append(f"{PRODUCT}/feature_view", features(), Commit(), by="date")
    version = world.register(seed=1)
    world.package(version)
    world.judge(version)
    world.promote(version)
    folder = tmp_path_factory.mktemp("packed") / "folder"
    assert pack(world.home, folder) == [PRODUCT]
    return folder


def test_servers_answer_as_the_batch_path_and_refuse_to_start_without_their_gpu(packed, capsys):
    found = compare(packed, seconds=0.3)
    assert [each["device"] for each in found["figures"]] == ["cpu", "cuda"][: 1 + bool(gpu())]
    for figures in found["figures"]:
        assert figures["from the batch path"] < (1e-9 if figures["device"] == "cpu" else 1e-4)
        assert figures["requests/s, 64 at once"] > figures["requests/s, 1 at once"] > 0
        assert figures["CPU µs, 64 at once"] > 0
        assert figures["rows/s in batches"] > 0
    said = capsys.readouterr().out
    assert gpu() in said if gpu() else "no GPU is found: the CPU alone" in said
    assert f"{PRODUCT}, told to use a GPU and shown none" in said
    assert "finds no GPU" in said.splitlines()[-1]
    assert json.loads(json.dumps(found)) == found


def test_a_server_that_is_elsewhere_or_starts_without_its_gpu_is_an_error(packed, monkeypatch):
    (asked,) = Asked.read(packed)
    with asked.served("cpu") as bento:
        require(bento, "cpu")
        with pytest.raises(RuntimeError, match=r"a server on cuda says \['mlops_on_gpu 0.0'\]"):
            require(bento, "cuda")
    monkeypatch.setattr("benchmarks.gpu_server.REFUSES", "says something else")
    with pytest.raises(RuntimeError, match=r"did not refuse to start: (.|\n)*finds no GPU"):
        asked.refusal()


def test_a_folder_that_was_not_packed_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it with `pack`"):
        Asked.read(tmp_path)
