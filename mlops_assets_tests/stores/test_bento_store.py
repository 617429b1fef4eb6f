from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from mlops_assets.ml.families import (
    FeatureColumns,
    FitOptions,
    Labelled,
    ModelFileError,
    families,
    family,
    save_model,
)
from mlops_assets.stores.bento_server import RequestRefused
from mlops_assets.stores.bento_source import source_files, source_version
from mlops_assets.stores.bento_store import BentoError, BentoStore

COLUMNS = FeatureColumns(("delay", "distance"), ("carrier",))
CONTRACT = {
    "product": "late_flights",
    "model_version": "7",
    "task": "binary",
    "threshold": 0.4,
    "numeric": ["delay", "distance"],
    "categorical": ["carrier"],
}
LABELS = {"run_id": "a1b2", "product": "late_flights"}


def flights(rows: int = 400) -> pl.DataFrame:
    random = np.random.default_rng(8)
    delay = random.normal(size=rows)
    return pl.DataFrame(
        {
            "delay": [None if row % 7 == 0 else value for row, value in enumerate(delay)],
            "distance": random.uniform(100, 2500, rows),
            "carrier": random.choice(["UA", "DL", "B6"], rows),
        }
    )


def fitted(name: str = "xgboost", rows: int = 400):
    frame = flights(rows)
    late = (frame["delay"].fill_null(0) + (frame["carrier"] == "B6") > 0.5).to_numpy()
    kind = family(name)
    return kind.fit(
        Labelled(frame, late.astype(float)),
        None,
        COLUMNS,
        params={name: 20 for name in ("rounds", "epochs") if name in kind.defaults()},
        options=FitOptions(),
    )


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return BentoStore(tmp_path_factory.mktemp("bentos"))


@pytest.fixture(scope="module")
def bento(store, model_folder):
    return build(store, model_folder)


@pytest.fixture(scope="module")
def server(store, bento):
    with store.serve(bento.tag) as running:
        yield running


def build(store, model_folder, contract=CONTRACT):
    return store.build(
        name="late_flights", model_folder=model_folder, contract=contract, labels=LABELS
    )


def copied(bento, home):
    store = BentoStore(home)
    shutil.copytree(bento.path, store.path(bento.tag))
    return store, bento.tag


def version(model_folder, contract=CONTRACT):
    return source_version(source_files(model_folder, contract))


# --- what a Bento is -------------------------------------------------------------------------


def test_the_version_follows_the_content(model, model_folder, tmp_path):
    save_model(model, tmp_path / "same")
    save_model(fitted("logistic_regression", rows=401), tmp_path / "other")
    assert version(tmp_path / "same") == version(model_folder)
    assert version(tmp_path / "other") != version(model_folder)
    assert version(model_folder, CONTRACT | {"threshold": 0.5}) != version(model_folder)


def test_only_what_serving_needs_goes_in(model_folder):
    files = source_files(model_folder, CONTRACT)
    assert {path for path in files if "families/" in path} == {
        f"mlops_assets/ml/families/{module}.py"
        for module in ("__init__", "artifact", "base", "encoded", "encoders", "xgboost")
    }
    assert {path.split("/")[0] for path in files} == {"bentos", "mlops_assets"}
    packages = files["bentos/tabular/requirements.txt"].decode()
    assert "\nxgboost==" in packages
    assert "\nuvloop==" in packages
    assert not any(name in packages for name in ("torch", "optuna", "dagster", "mlflow"))


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_what_goes_in_suffices(name, tmp_path):
    """Each module comes from the Bento's sources when only those and the packages are there."""
    save_model(fitted(name), tmp_path / "model")
    for path, content in source_files(tmp_path / "model", CONTRACT).items():
        target = tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    script = (
        "import sys; from bentos.tabular.service import HERE, load_model;"
        "load_model(HERE / 'model'); print(*(m.__file__ for n, m in sys.modules.items()"
        " if n.split('.')[0] in ('bentos', 'mlops_assets')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "src", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) > 5
    assert all(Path(file).is_relative_to(tmp_path / "src") for file in files)


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="save_model"):
        source_files(tmp_path, CONTRACT)


def test_a_bento_that_was_never_built_is_not_served(tmp_path):
    with pytest.raises(LookupError, match="build it first"):
        BentoStore(tmp_path).serve("late_flights:0123")


# --- building --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_model_is_built_once(store, bento, model_folder):
    assert bento.created
    again = build(store, model_folder)
    assert (again.tag, again.path, again.created) == (bento.tag, bento.path, False)
    assert again.seconds < 1


@pytest.mark.slow
def test_bentoml_reads_the_store(store, bento):
    listed = subprocess.run(
        [sys.executable, "-m", "bentoml", "list", "-o", "json"],
        env={**os.environ, "BENTOML_HOME": str(store.home), "BENTOML_DO_NOT_TRACK": "True"},
        check=True,
        capture_output=True,
    )
    assert [entry["tag"] for entry in json.loads(listed.stdout)] == [bento.tag]
    assert "run_id: a1b2" in (bento.path / "bento.yaml").read_text()
    assert (bento.path.parent / "latest").read_text() == bento.path.name


@pytest.mark.slow
def test_a_wrong_contract_fails_the_build_and_leaves_nothing(tmp_path, model_folder):
    store = BentoStore(tmp_path)
    with pytest.raises(BentoError, match="threshold"):
        build(store, model_folder, CONTRACT | {"threshold": 40})
    assert not (tmp_path / "bentos").exists()
    assert not list((tmp_path / "building").iterdir())


@pytest.mark.slow
def test_a_killed_build_leaves_no_bento_and_is_cleared_away(tmp_path, model_folder):
    store = BentoStore(tmp_path)
    arguments = {"name": "late_flights", "contract": CONTRACT, "labels": LABELS}
    script = (
        "import json, sys; from pathlib import Path;"
        "from mlops_assets.stores.bento_store import BentoStore;"
        "BentoStore(Path(sys.argv[1])).build("
        "model_folder=Path(sys.argv[2]), **json.loads(sys.argv[3]))"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(model_folder), json.dumps(arguments)],
        start_new_session=True,
    )
    while not list(tmp_path.glob("building/*/home")):
        assert builder.poll() is None
        time.sleep(0.01)
    os.killpg(builder.pid, signal.SIGKILL)
    builder.wait()

    (left,) = (tmp_path / "building").iterdir()
    os.utime(left, (0, 0))
    assert build(store, model_folder).created
    assert not left.exists()


# --- serving ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 1024])
def test_the_answers_are_the_models(server, model, rows):
    frame = flights(rows)
    answer = server.predict(frame.to_dicts())
    expected = model.predict(frame)
    assert rows == 1 or expected.std() > 0.05
    assert answer["model_version"] == "7"
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-12)
    assert answer["decisions"] == (expected >= 0.4).tolist()


GOOD = {"delay": 1.0, "distance": 200, "carrier": "UA"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ([{"delay": 1.0, "carrier": "UA"}], ["rows", 0, "distance"]),
        ([GOOD, GOOD | {"weather": 1}], ["rows", 1, "weather"]),
        ([GOOD | {"delay": float("nan")}], ["rows", 0, "delay"]),
        ([GOOD | {"delay": float("inf")}], ["rows", 0, "delay"]),
        ([GOOD | {"delay": 1e39}], ["rows", 0, "delay"]),
        ([GOOD | {"delay": "1.0"}], ["rows", 0, "delay"]),
        ([GOOD | {"carrier": 3.5}], ["rows", 0, "carrier"]),
        ([], ["rows"]),
        ([GOOD] * 1025, ["rows"]),
    ],
)
def test_a_bad_request_is_refused_by_name(server, rows, where):
    with pytest.raises(RequestRefused) as refused:
        server.predict(rows)
    assert refused.value.status == 400
    assert [problem["loc"] for problem in json.loads(refused.value.answer)["detail"]] == [where]
    assert "Traceback" not in refused.value.answer


@pytest.mark.slow
def test_values_are_read_as_in_training(server, model):
    frame = pl.DataFrame({"delay": [True], "distance": [200], "carrier": [3]})
    answer = server.predict(frame.to_dicts())
    np.testing.assert_allclose(answer["probabilities"], model.predict(frame), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_worker_keeps_to_one_thread(server):
    worker = psutil.Process(server.pids[-1])
    assert worker.environ()["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_a_pickle_is_not_loaded(server):
    request = urllib.request.Request(
        f"{server.url}/predict",
        data=b"cos\nsystem\n(S'true'\ntR.",
        headers={"Content-Type": "application/vnd.bentoml+pickle"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value:
        assert refused.value.code == 415


@pytest.mark.slow
def test_the_document_lists_the_features(server):
    with urllib.request.urlopen(f"{server.url}/docs.json") as response:
        schemas = json.load(response)["components"]["schemas"]
    assert schemas["Row"]["required"] == ["delay", "distance", "carrier"]
    assert schemas["Row"]["additionalProperties"] is False
    assert {"type": "null"} in schemas["Row"]["properties"]["delay"]["anyOf"]


@pytest.mark.slow
def test_serving_leaves_the_bento_as_built(server, bento):
    assert not list(bento.path.rglob("__pycache__"))


@pytest.mark.slow
def test_every_process_is_gone_even_after_an_error(store, bento):
    with ExitStack() as stack:
        running = stack.enter_context(store.serve(bento.tag))
        assert len([pid for pid in running.pids if psutil.pid_exists(pid)]) > 1
        stack.enter_context(pytest.raises(RequestRefused))
        running.predict([])
    assert not [pid for pid in running.pids if psutil.pid_exists(pid)]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", running.port)) != 0


@pytest.mark.slow
def test_a_model_that_cannot_load_says_why(bento, tmp_path):
    store, tag = copied(bento, tmp_path)
    (store.path(tag) / "src/bentos/tabular/model/model.ubj").write_bytes(b"not a model")
    children = psutil.Process().children(recursive=True)
    with (
        pytest.raises(BentoError, match=r"died before(.|\n)*model\.ubj was changed since"),
        store.serve(tag),
    ):
        pass
    assert psutil.Process().children(recursive=True) == children


@pytest.mark.slow
def test_a_contract_of_another_model_is_not_served(bento, tmp_path):
    store, tag = copied(bento, tmp_path)
    other = json.dumps(CONTRACT | {"numeric": ["distance", "delay"]})
    (store.path(tag) / "src/bentos/tabular/contract.json").write_text(other)
    with pytest.raises(BentoError, match="the model reads"), store.serve(tag):
        pass


@pytest.mark.slow
def test_the_code_that_runs_is_the_bentos_own(bento, tmp_path):
    store, tag = copied(bento, tmp_path)
    families = store.path(tag) / "src/mlops_assets/ml/families/__init__.py"
    families.write_text("raise RuntimeError('read from the Bento')\n")
    with pytest.raises(BentoError, match="read from the Bento"), store.serve(tag):
        pass


def test_paths_do_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = BentoStore(Path("home")).home
    monkeypatch.chdir("/")
    assert home == tmp_path / "home"
