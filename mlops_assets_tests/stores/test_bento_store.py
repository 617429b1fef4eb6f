"""A Bento: what goes in, how it is built, and how it answers callers over HTTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from bentos.tabular.settings import Settings
from bentos.tabular.versions import Versions
from mlops_assets.ml.families import (
    FitOptions,
    Labelled,
    ModelFileError,
    families,
    family,
    load_model,
    save_model,
)
from mlops_assets.ml.targets import Multiclass
from mlops_assets.stores.bento_server import RequestRefused
from mlops_assets.stores.bento_source import source_files, source_version
from mlops_assets.stores.bento_store import BentoError, BentoStore
from mlops_assets.stores.request_log import closed_segments, read_segment
from mlops_assets_tests.late_flights import (
    COLUMNS,
    PRODUCT,
    THRESHOLD,
    contract,
    features,
    requests,
    saved,
    trial,
)
from mlops_assets_tests.stores.conftest import build

TOKEN = "a-token-of-the-tests"
ASKED = requests()


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return trial(tmp_path_factory.mktemp("trial"), MLOPS_MAX_BODY_BYTES="200000")


@pytest.fixture(scope="module")
def server(store, bento, settings):
    with store.serve(bento.tag, settings) as running:
        yield running


def copied(bento, home):
    store = BentoStore(home)
    shutil.copytree(bento.path, store.path(bento.tag))
    return store, bento.tag


def version(model_folder, said=None):
    return source_version(source_files(model_folder, said or contract())[0])


def ask(server, path, body=b"", method="POST", **headers):
    """Status, headers and body of an answer, whatever is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        fields = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# --- what a Bento is -------------------------------------------------------------------------


def test_the_version_follows_the_content(model_folder, tmp_path):
    saved(tmp_path / "same")
    saved(tmp_path / "other", "logistic_regression")
    assert version(tmp_path / "same") == version(model_folder)
    assert version(tmp_path / "other") != version(model_folder)
    assert version(model_folder, contract(threshold=0.5)) != version(model_folder)


def test_a_contract_is_swappable_where_only_version_and_threshold_differ(model_folder, tmp_path):
    ours = source_files(model_folder, contract())[1]
    assert ours.family == "xgboost"
    newer = contract(model_version="2", threshold=0.5)
    assert source_files(model_folder, newer)[1].hash == ours.hash
    assert source_files(model_folder, contract(device="auto"))[1].hash != ours.hash
    other = saved(tmp_path / "other", "logistic_regression")
    assert source_files(other, contract())[1].hash != ours.hash


CLASSES = ("Grüner Veltliner", "one, two", "two words")


def of_classes(folder, classes=CLASSES):
    """The folder of a model that tells classes apart."""
    frame = pl.concat([features()] * 6)
    label = np.resize(np.arange(len(classes)), frame.height).astype(float)
    labelled = Labelled(frame, label, Multiclass(classes=classes))
    kind = family("logistic_regression")
    save_model(kind.fit(labelled, None, COLUMNS, {}, FitOptions(seed=7, threads=1)), folder)
    return folder


def test_the_classes_of_a_model_are_in_its_contract_and_in_no_other(model_folder, tmp_path):
    said = contract(task="multiclass", threshold=None)
    three = source_files(of_classes(tmp_path / "three"), said)[1]
    two = source_files(of_classes(tmp_path / "two", CLASSES[:2]), said)[1]
    assert (three.classes, two.classes) == (CLASSES, CLASSES[:2])
    assert three.hash != two.hash
    binary = source_files(model_folder, contract())[1]
    assert binary.classes == ()
    rest = binary.model_dump(mode="json", exclude={"model_version", "threshold", "classes"})
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    assert binary.hash == digest[:32]


def test_a_model_of_other_classes_than_the_contract_says_does_not_load(tmp_path):
    said = contract(task="multiclass", threshold=None, classes=("a", "b"))
    folder = of_classes(tmp_path / "model")
    settings = Settings.read(trial(tmp_path / "trial"))
    with pytest.raises(ValueError, match="tells Grüner Veltliner, one, two, two words apart, its"):
        Versions(said, folder, settings).first()


@pytest.mark.slow
def test_a_server_of_several_classes_lists_them_and_answers_one(settings, tmp_path):
    # In a store of its own: the others look at what is in theirs.
    store, said = BentoStore(tmp_path / "bentos"), contract(task="multiclass", threshold=None)
    built = build(store, of_classes(tmp_path / "model"), said)
    with store.serve(built.tag, settings) as running:
        document = json.loads(ask(running, "/docs.json", method="GET")[2])
        answer = running.predict(ASKED[0])
    properties = document["components"]["schemas"]["Prediction"]["properties"]
    assert properties["predicted"]["enum"] == list(CLASSES)
    assert answer["predicted"] in CLASSES
    assert set(answer["probabilities"]) == set(CLASSES)


def test_only_what_serving_needs_goes_in(model_folder):
    files, _ = source_files(model_folder, contract())
    assert {path for path in files if "families/" in path} == {
        f"mlops_assets/ml/families/{module}.py"
        for module in ("__init__", "artifact", "base", "encoded", "encoders", "xgboost")
    }
    assert {path.split("/")[0] for path in files} == {"bentos", "mlops_assets"}
    assert "mlops_assets/defs/nyc_flights/expressions.py" in files
    ours = {path for path in files if path.startswith("mlops_assets/")}
    assert not [path for path in ours if path.split("/")[1] in ("components", "cli", "lake.py")]
    packages = files["bentos/tabular/requirements.txt"].decode()
    for needed in ("xgboost", "uvloop", "lmdb", "redis", "mlflow", "msgspec"):
        assert f"\n{needed}==" in packages
    assert not any(f"\n{name}==" in packages for name in ("torch", "optuna", "dagster"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in families() if "binary" in family(n).tasks])
def test_what_goes_in_suffices(name, tmp_path):
    """Each module comes from the Bento's sources when only those and the packages are there."""
    for path, content in source_files(saved(tmp_path / "model", name), contract())[0].items():
        target = tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    script = (
        "import sys; from bentos.tabular.service import HERE;"
        "from mlops_assets.ml.families import load_model;"
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
        source_files(tmp_path, contract())


def test_a_bento_that_was_never_built_is_not_served(tmp_path):
    with pytest.raises(LookupError, match="build it first"):
        BentoStore(tmp_path).serve("late_flights:0123", {})


# --- building --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_model_is_built_once(store, bento, model_folder):
    assert bento.created
    again = build(store, model_folder)
    assert (again.tag, again.path, again.created) == (bento.tag, bento.path, False)
    assert again.seconds < bento.seconds / 3


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
def test_a_killed_build_leaves_no_bento_and_is_cleared_away(tmp_path, model_folder):
    store = BentoStore(tmp_path)
    script = (
        "import sys; from pathlib import Path;"
        "from mlops_assets.stores.bento_store import BentoStore;"
        "from mlops_assets_tests.late_flights import contract;"
        "BentoStore(Path(sys.argv[1])).build(name='late_flights', labels={},"
        " model_folder=Path(sys.argv[2]), contract=contract())"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(model_folder)],
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


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 60])
def test_the_answers_are_the_models_on_what_the_offline_path_knows(server, model, rows):
    expected = model.predict(features())[:rows]
    answers = server.predict_batch(ASKED[:rows]) if rows > 1 else [server.predict(ASKED[0])]
    assert rows == 1 or expected.std() > 0.05
    found = [answer["probability"] for answer in answers]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert [answer["decision"] for answer in answers] == (expected >= THRESHOLD).tolist()
    assert {answer["model_version"] for answer in answers} == {1}
    assert answers[0]["as_of"] == "2013-03-08T08:00:00Z"
    assert all(answer["missing"] == answer["stale"] == [] for answer in answers)


@pytest.mark.slow
def test_what_is_not_known_is_listed_and_treated_as_missing(server, model):
    asked = ASKED[0] | {"carrier": "ZZ", "flight": 9999, "origin": "XXX"}
    answer = server.predict(asked)
    unknown = ["scheduled_minutes", "distance", "origin_late_rate_24h"]
    assert answer["missing"] == unknown
    nulls = [pl.lit(None, pl.Float64).alias(name) for name in unknown]
    row = features().head(1).with_columns(*nulls, pl.lit("ZZ").alias("carrier"))
    assert answer["probability"] == pytest.approx(model.predict(row)[0], abs=1e-6)
    given = server.predict(
        asked | {"distance": 800, "scheduled_arrival": "2013-03-08T06:00:00-05:00"}
    )
    assert given["missing"] == ["origin_late_rate_24h"]


@pytest.mark.slow
def test_what_is_asked_after_the_tables_end_is_stale(server):
    later = server.predict(ASKED[0] | {"scheduled_departure": "2013-03-09T10:00:00-05:00"})
    assert server.predict(ASKED[0] | {"flight": 100.0})["missing"] == []
    assert later["stale"] == ["origin_late_rate_24h"]


@pytest.mark.slow
def test_each_answer_is_in_the_log_with_what_it_was_made_of(server, settings):
    answer = server.predict(ASKED[7])
    folder = Path(settings["MLOPS_REQUEST_LOG"]) / PRODUCT
    (line,) = [
        json.loads(line)
        for path in folder.iterdir()
        for line in path.read_bytes().splitlines()
        if answer["prediction_id"].encode() in line
    ]
    row = features().row(7, named=True)
    assert {name: line["features"][name] for name in COLUMNS.names} == pytest.approx(
        {name: row[name] for name in COLUMNS.names}
    )
    assert line["key"] == {"date": "2013-03-08", "carrier": "B6", "flight": 107, "origin": "JFK"}
    assert line["probability"] == answer["probability"]
    assert (line["role"], line["arm"], line["product"]) == ("answer", "champion", PRODUCT)
    assert {name for name, value in line["request"].items() if value is not None} == set(ASKED[7])


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "field", "good"),
    [
        ({"carrier": None}, "carrier", "it is required"),
        ({"carrier": "UAL"}, "carrier", 'like ^[0-9A-Z]{2}$, for example "UA"'),
        ({"carrier": 3}, "carrier", "text"),
        ({"flight": "107"}, "flight", "a whole number from 1 to 9999"),
        ({"flight": 0}, "flight", "a whole number from 1 to 9999"),
        ({"flight": 10**400}, "flight", "a whole number from 1 to 9999"),
        ({"distance": 1e39}, "distance", "a whole number"),
        ({"scheduled_departure": "2013-03-08T10:00:00"}, "scheduled_departure", "with its offset"),
        ({"scheduled_departure": "yesterday"}, "scheduled_departure", "with its offset"),
        ({"scheduled_departure": "0001-01-01T00:00:00+23:00"}, "scheduled_departure", "UTC"),
        ({"weather": 1}, "weather", "there are carrier, flight, origin"),
        ({"origin": "x" * 101}, "origin", "at most 100"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_would_be_good(server, change, field, good):
    with pytest.raises(RequestRefused) as refused:
        server.predict(ASKED[0] | change)
    assert refused.value.status == 422
    (problem,) = json.loads(refused.value.answer)["problems"]
    assert problem["field"] == field
    assert good in problem["expected"]
    assert len(problem["value"]) < 90


@pytest.mark.slow
def test_a_bad_row_of_many_is_named_by_its_place(server):
    with pytest.raises(RequestRefused, match=r"rows\[1\]\.flight"):
        server.predict_batch([ASKED[0], ASKED[1] | {"flight": "1"}])
    with pytest.raises(RequestRefused, match="1 to 1024 rows"):
        server.predict_batch([])
    with pytest.raises(RequestRefused, match="1 to 1024 rows"):
        server.predict_batch([ASKED[0]] * 1025)


HOSTILE = {
    "nothing": (b"", 400),
    "no JSON": (b"{carrier", 400),
    "not a number": (b'{"flight": NaN}', 400),
    "half a surrogate": (b'{"carrier": "\\ud800"}', 400),
    "no UTF-8": (b'{"carrier": "\xff\xfe"}', 400),
    "deep": (b"[" * 50_000, 400),
    "deep in a field": (b'{"carrier":' + b"[" * 50_000, 400),
    "a list": (b"[1, 2]", 422),
    "a pickle": (b"cos\nsystem\n(S'true'\ntR.", 400),
    "large": (b" " * 200_001, 413),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
def test_a_hostile_body_is_refused_without_a_traceback(server, name, path):
    body, status = HOSTILE[name]
    found, _, answer = ask(server, path, body)
    assert found == status, answer
    assert b"Traceback" not in answer
    assert json.loads(answer)["error"]


@pytest.mark.slow
def test_other_methods_types_and_paths_are_refused(server):
    assert ask(server, "/predict", method="GET")[0] == 405
    pickle = "application/vnd.bentoml+pickle"
    assert ask(server, "/predict", b"cos\nsystem\n(S'true'\ntR.", Content_Type=pickle)[0] == 415
    assert ask(server, "/nothing")[0] == 404


@pytest.mark.slow
def test_schemathesis_finds_no_request_that_fails_the_server(server, bento):
    """Requests made from the document: valid ones are answered, others refused as it says."""
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,positive_data_acceptance,negative_data_rejection",
        "--max-examples", "25", "--seed", "1", "--no-color",
        "--phases", "examples,coverage,fuzzing",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=bento.path.parent)
    assert done.returncode == 0, done.stdout[-6000:]


# --- what is told ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_document_has_the_fields_with_units_bounds_and_an_example(server):
    document = json.loads(ask(server, "/docs.json", method="GET")[2])
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == ["carrier", "flight", "origin", "dest", "scheduled_departure"]
    assert row["additionalProperties"] is False
    assert row["properties"]["flight"]["maximum"] == 9999
    assert "miles" in json.dumps(row["properties"]["distance"])
    body = document["paths"]["/predict"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert server.predict(example)["model_version"] == 1


@pytest.mark.slow
def test_probes_and_metrics(server):
    assert ask(server, "/livez", method="GET")[0] == 200
    status, _, said = ask(server, "/readyz", method="GET")
    assert (status, json.loads(said)) == (200, {"ready": True, "reasons": []})
    server.predict(ASKED[0])
    metrics = ask(server, "/metrics", method="GET")[2].decode()
    assert 'mlops_requests_total{path="/predict",status="200"}' in metrics
    assert "mlops_model_version 1.0" in metrics
    assert "mlops_on_gpu 0.0" in metrics
    assert "/nothing" not in metrics


@pytest.mark.slow
def test_a_worker_keeps_to_one_thread(server):
    worker = psutil.Process(server.pids[-1])
    assert worker.environ()["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_serving_leaves_the_bento_as_built(server, bento):
    assert not list(bento.path.rglob("__pycache__"))


@pytest.mark.slow
def test_with_tokens_only_their_bearers_are_answered_and_the_log_is_closed_at_the_end(
    store, bento, settings, tmp_path
):
    more = {"MLOPS_API_TOKENS": f"another {TOKEN}", "MLOPS_REQUEST_LOG": str(tmp_path)}
    body = json.dumps(ASKED[0]).encode()
    with ExitStack() as stack:
        running = stack.enter_context(store.serve(bento.tag, settings | more))
        assert len([pid for pid in running.pids if psutil.pid_exists(pid)]) > 1
        for header in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            status, headers, _ = ask(running, "/predict", body, Authorization=header)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert ask(running, "/predict", body, Authorization=f"bearer {TOKEN}")[0] == 200
        assert ask(running, "/readyz", method="GET")[0] == 200
        # Every process is gone, even after an error.
        stack.enter_context(pytest.raises(RequestRefused))
        running.predict(ASKED[0])
    assert not [pid for pid in running.pids if psutil.pid_exists(pid)]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", running.port)) != 0
    (segment,) = closed_segments(tmp_path, PRODUCT)
    assert read_segment(segment).records.height == 1


# --- what does not start ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_that_cannot_load_says_why(bento, settings, tmp_path):
    store, tag = copied(bento, tmp_path)
    (store.path(tag) / "src/bentos/tabular/model/model.ubj").write_bytes(b"not a model")
    children = psutil.Process().children(recursive=True)
    with (
        pytest.raises(BentoError, match=r"died before(.|\n)*model\.ubj was changed since"),
        store.serve(tag, settings),
    ):
        pass
    assert psutil.Process().children(recursive=True) == children


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"MLOPS_DEVICE": "cuda"}, "finds no GPU"),
        ({"MLOPS_SERVE": ""}, "MLOPS_LAKE_URI is not set"),
        ({"MLOPS_SERVE": "", "MLOPS_LAKE_URI": "/nowhere"}, "late_flights 1 may not serve"),
    ],
)
def test_a_server_that_lacks_its_gpu_or_its_promotion_does_not_start(
    store, bento, settings, more, says
):
    """In the process that `mlops serve` starts: it is there sooner."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = subprocess.run(
            [sys.executable, "-m", "bentos.tabular.worker", "--fd", "0", "--ready", "1"],
            cwd=bento.path / "src",
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | settings | more,
            stdin=listening,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 3
    assert says in done.stderr


@pytest.mark.slow
def test_the_code_that_runs_is_the_bentos_own(bento, settings, tmp_path):
    store, tag = copied(bento, tmp_path)
    module = store.path(tag) / "src/mlops_assets/ml/families/__init__.py"
    module.write_text("raise RuntimeError('read from the Bento')\n")
    with pytest.raises(BentoError, match="read from the Bento"), store.serve(tag, settings):
        pass


# --- images ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_images_for_cpu_and_gpu_differ_by_the_runtime_alone_and_pass_hadolint(
    store, bento, model_folder
):
    gpu = build(store, model_folder, contract(device="cuda"))
    files = [each.path / "env/docker/Dockerfile" for each in (bento, gpu)]
    cpu_lines, gpu_lines = (set(file.read_text().splitlines()) for file in files)
    assert {line for line in gpu_lines - cpu_lines if "NVIDIA" not in line} == set()
    assert cpu_lines < gpu_lines
    # DL3008: Debian's packages are those of the base image's release, whatever their version.
    # DL3047, SC2086, ...: BentoML's template is not ours; what is an error stops us.
    for file in files:
        done = subprocess.run(
            ["hadolint", "--failure-threshold", "error", str(file)],
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_paths_do_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = BentoStore(Path("home")).home
    monkeypatch.chdir("/")
    assert home == tmp_path / "home"
