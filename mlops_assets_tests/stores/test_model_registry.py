"""The model registry on a real MLflow database: trainings, versions, aliases and their files."""

import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family, save_model
from mlops_assets.stores.mlflow_client import DatabaseUnavailable
from mlops_assets.stores.model_package import folder_digest
from mlops_assets.stores.model_registry import (
    CHAMPION,
    DigestMismatch,
    ModelRegistry,
    VersionNotFound,
)

PRODUCT = "flight_delays"
INPUTS = pl.DataFrame(
    {"hour": [5, 6], "seats": [100, None], "wind": [1.5, 2.5], "day": [date(2013, 3, 8)] * 2},
).with_columns(carrier=pl.Series(["UA", "B6"], dtype=pl.Enum(["UA", "B6"])))
OUTPUTS = np.array([0.25, 0.5])


def registry_in(folder):
    return ModelRegistry(f"sqlite:///{folder}/db/mlflow.db", folder / "artifacts", "mlops/")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One database for the tests that need no empty one; creating it takes seconds."""
    return registry_in(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def product(request):
    return request.node.name.split("[")[0][:60]


@pytest.fixture
def model_folder(tmp_path):
    return write_model(tmp_path / "model")


def write_model(folder, weights=b"weights"):
    (folder / "trees").mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text("{}")
    (folder / "trees" / "weights.bin").write_bytes(weights)
    return folder


def register(registry, product, model_folder, **tags):
    with registry.training_run(product, tags={}) as run:
        return registry.register(
            run,
            product,
            model_folder,
            inputs=INPUTS,
            outputs=OUTPUTS,
            tags=tags,
            pip_requirements=["polars==2.1.0", "xgboost==3.2.0"],
        )


def run_of(registry, run_id):
    return registry._client.get_run(run_id)


def test_a_training_writes_down_what_it_did(shared, product):
    with shared.training_run(product, tags={"delta_version": "3"}) as run:
        run.log_params({"eta": 0.05, "columns": ["hour", "wind"]})
        run.log_params({f"feature_{number}": number for number in range(250)})
        run.log_metrics({"auc": 0.74, "log_loss": 0.41})
        run.log_metrics({"auc": 0.75}, step=1)
        run.set_tags({"code_version": "abc"})
        run.log_bytes("evaluation/roc.png", b"\x89PNG")
        run.log_json("evaluation/gates.json", {"größer": [1, 2]})
        run.log_text("notes.txt", "später")
    kept = run_of(shared, run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["eta"] == "0.05"
    assert len(kept.data.params) == 252
    assert kept.data.metrics == {"auc": 0.75, "log_loss": 0.41}
    assert kept.data.tags["delta_version"] == "3"
    assert kept.data.tags["code_version"] == "abc"
    folder = Path(kept.info.artifact_uri.removeprefix("file://"))
    assert (folder / "evaluation/roc.png").read_bytes() == b"\x89PNG"
    assert '"größer"' in (folder / "evaluation/gates.json").read_text("utf-8")
    assert (folder / "notes.txt").read_text("utf-8") == "später"


def test_trials_are_nested_runs(shared, product):
    with shared.training_run(product, tags={}) as run:
        trial = run.log_trial("xgboost", 7, {"depth": 6}, 0.74, [0.73, 0.75], seconds=2.5)
    kept = run_of(shared, trial)
    assert kept.info.status == "FINISHED"
    assert kept.info.end_time - kept.info.start_time == 2500
    assert kept.data.params == {"depth": "6"}
    assert kept.data.metrics == {"value": 0.74, "fold_value": 0.75, "seconds": 2.5}
    assert (
        kept.data.tags.items()
        >= {
            "mlflow.parentRunId": run.run_id,
            "family": "xgboost",
            "trial": "7",
        }.items()
    )
    folds = shared._client.get_metric_history(trial, "fold_value")
    assert [(fold.step, fold.value) for fold in folds] == [(0, 0.73), (1, 0.75)]


def test_a_training_that_raises_is_a_failed_run(shared, product):
    with pytest.raises(ZeroDivisionError), shared.training_run(product, tags={}) as run:
        _ = 1 / 0
    assert run_of(shared, run.run_id).info.status == "FAILED"
    with shared.training_run(product, tags={}, parent_run_id=run.run_id) as child:
        pass
    assert run_of(shared, child.run_id).data.tags["mlflow.parentRunId"] == run.run_id


def test_trainings_in_threads_do_not_mix(shared, product):
    together = threading.Barrier(4)

    def train(number):
        with shared.training_run(product, tags={}) as run:
            together.wait(timeout=60)
            run.log_metrics({f"metric_{number}": number})
            return run.run_id

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(train, range(4)))
    kept = [run_of(shared, run_id).data.metrics for run_id in runs]
    assert kept == [{f"metric_{number}": number} for number in range(4)]


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ""])
def test_a_file_stays_below_its_run(shared, product, path):
    refused = pytest.raises(ValueError, match="name a file below the run's folder")
    with shared.training_run(product, tags={}) as run, refused:
        run.log_bytes(path, b"")


def test_a_registered_model_is_a_version_with_its_files(shared, product, model_folder):
    made = register(shared, product, model_folder, round="1")
    assert (made.name, made.version) == (product, 1)
    assert made.digest == folder_digest(model_folder)
    assert dict(made.tags) == {"round": "1"}
    assert shared.versions(product) == [shared.get(product, 1)] == [made]
    files = shared.download(made)
    assert folder_digest(files) == made.digest
    assert (files / "trees/weights.bin").read_bytes() == b"weights"


def test_the_package_is_mlflows_and_holds_no_pickle(shared, product, model_folder):
    from mlflow.models import Model

    made = register(shared, product, model_folder)
    package = Path(made.source)
    model = Model.load(str(package))
    assert [(column.name, column.type.name) for column in model.signature.inputs] == [
        ("hour", "long"),
        ("seats", "double"),
        ("wind", "double"),
        ("day", "datetime"),
        ("carrier", "string"),
    ]
    assert model.signature.outputs.inputs[0].shape == (-1,)
    assert model.run_id == made.run_id
    flavor = model.flavors["python_function"]
    assert flavor["loader_module"] == "mlops_assets.stores.pyfunc_loader"
    assert (package / "requirements.txt").read_text().split() == ["polars==2.1.0", "xgboost==3.2.0"]
    names = {path.name for path in package.rglob("*") if path.is_file()}
    assert names == {"MLmodel", "requirements.txt", "python_env.yaml", "model.json", "weights.bin"}


def test_a_registered_model_predicts_from_the_registry_and_from_mlflow(shared, product, tmp_path):
    import mlflow.pyfunc

    frame = pl.DataFrame({"wind": [float(row % 7) for row in range(80)], "origin": ["A", "B"] * 40})
    rows = Labelled(frame, (frame["wind"] > 3).to_numpy())
    columns = FeatureColumns(numeric=("wind",), categorical=("origin",))
    model = family("xgboost").fit(rows, None, columns, {}, FitOptions(threads=1))
    save_model(model, tmp_path / "fitted")
    expected = model.predict(frame)
    with shared.training_run(product, tags={}) as run:
        made = shared.register(
            run,
            product,
            tmp_path / "fitted",
            inputs=frame,
            outputs=expected,
            tags={},
            pip_requirements=[],
        )
    np.testing.assert_array_equal(shared.load(made).predict(frame), expected)
    # A run has a registry of its own; the process reads the model once.
    assert ModelRegistry(shared.tracking_uri).load(made) is shared.load(made)
    as_mlflow = mlflow.pyfunc.load_model(made.source)
    np.testing.assert_array_equal(as_mlflow.predict(frame.to_pandas()), expected)


def test_the_same_files_are_the_same_version(shared, product, model_folder):
    first = register(shared, product, model_folder, round="1")
    assert register(shared, product, model_folder, round="2") == first
    second = register(shared, product, write_model(model_folder, b"others"))
    assert second.version == 2
    assert register(shared, product, write_model(model_folder, b"weights")) == first
    assert [each.version for each in shared.versions(product)] == [1, 2]
    assert register(shared, "another_product", model_folder).version == 1


def test_the_champion_is_an_alias_that_moves(shared, product, model_folder):
    assert shared.champion(product) is None
    register(shared, product, model_folder)
    register(shared, product, write_model(model_folder, b"others"))
    assert shared.champion(product) is None
    for version in (1, 2):
        shared.set_alias(product, CHAMPION, version)
        assert shared.champion(product) == shared.get(product, version)
    shared.set_alias(product, "predecessor", 1)
    assert shared.by_alias(product, "predecessor").version == 1
    assert [each.aliases for each in shared.versions(product)] == [("predecessor",), (CHAMPION,)]


def test_tags_can_be_added_but_not_the_digest(shared, product, model_folder):
    register(shared, product, model_folder, round="1")
    shared.set_tags(product, 1, {"round": "2", "passed": "yes"})
    assert dict(shared.get(product, 1).tags) == {"round": "2", "passed": "yes"}
    with pytest.raises(ValueError, match="'digest' cannot be changed"):
        shared.set_tags(product, 1, {"digest": "x"})


def test_a_missing_version_or_a_wrong_name_is_said(shared, product, model_folder):
    with pytest.raises(VersionNotFound, match=f"{product} has no version 1; versions: none yet"):
        shared.get(product, 1)
    register(shared, product, model_folder)
    for call in (lambda: shared.get(product, 7), lambda: shared.set_alias(product, CHAMPION, 7)):
        with pytest.raises(VersionNotFound, match=f"{product} has no version 7; versions: 1"):
            call()
    with pytest.raises(ValueError, match="is no product"):
        shared.versions("x' OR name = 'y")


def test_changed_files_are_not_served(shared, product, model_folder):
    made = register(shared, product, model_folder)
    (shared.download(made) / "trees/weights.bin").write_bytes(b"poison")
    with pytest.raises(DigestMismatch, match=f"{product} 1: .* do not serve them"):
        shared.download(made)
    with pytest.raises(DigestMismatch):
        shared.load(made)
    with pytest.raises(DigestMismatch):
        shared.download(replace(shared.get(product, 1), digest="0" * 64))


def test_files_that_are_gone_are_named_with_what_to_do(shared, product, model_folder):
    made = register(shared, product, model_folder)
    files = shared.download(made)
    shutil.rmtree(files)
    gone = f"{product} 1: its files are gone from {files}; put them back from a backup, or move"
    with pytest.raises(DigestMismatch, match=gone):
        shared.load(made)


def test_what_a_training_wrote_down_is_read_back_or_missed(shared, product):
    with shared.training_run(product, tags={}) as run:
        run.log_json("inputs.json", {"table": 3})
    assert shared.run_json(run.run_id, "inputs.json") == {"table": 3}
    with pytest.raises(LookupError, match=f"training {run.run_id} keeps no other.json"):
        shared.run_json(run.run_id, "other.json")


def test_a_database_that_was_removed_under_a_process_is_said(tmp_path):
    registry = registry_in(tmp_path)
    assert registry.versions(PRODUCT) == []
    database = tmp_path / "db" / "mlflow.db"
    aside = database.rename(tmp_path / "aside.db")
    removed = f"{database} was removed or replaced while this process had it open"
    with pytest.raises(DatabaseUnavailable, match=removed):
        registry.versions(PRODUCT)
    aside.rename(database)
    assert registry.versions(PRODUCT) == []


def test_the_digest_sees_names_contents_and_borders(tmp_path):
    def digest(number, files):
        folder = tmp_path / str(number)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder_digest(folder)

    variants = [{"a": "b"}, {"ab": ""}, {"a": "", "b": ""}, {"a": "b", "c": ""}, {"c/a": "b"}]
    assert len({digest(number, files) for number, files in enumerate(variants)}) == len(variants)
    assert digest("first", {"x": "1", "y/z": "2"}) == digest("second", {"y/z": "2", "x": "1"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no files"):
        folder_digest(tmp_path / "empty")


def register_at_once(folder, number, barrier):
    barrier.wait(timeout=120)
    registry = registry_in(folder)
    for weights in (b"shared", b"%d" % number):
        register(registry, PRODUCT, write_model(folder / f"model {number}", weights))


def test_processes_may_share_a_database_that_is_not_there_yet(tmp_path):
    """Two processes register one model that is the same and one of their own."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    others = [
        spawn.Process(target=register_at_once, args=(tmp_path, number, barrier))
        for number in range(2)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join(timeout=240)
    assert [other.exitcode for other in others] == [0, 0]
    assert [each.version for each in registry_in(tmp_path).versions(PRODUCT)] == [1, 2, 3]


def test_mlflow_is_quiet_and_imported_late(tmp_path):
    code = (
        "import sys; from mlops_assets.stores.model_registry import ModelRegistry; "
        f"registry = ModelRegistry('sqlite:///{tmp_path}/m.db', '{tmp_path}/artifacts'); "
        "assert 'mlflow' not in sys.modules and 'pandas' not in sys.modules; "
        "assert registry.versions('x') == []; "
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled()"
    )
    other = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"m.db"}


def test_calls_are_cheap(shared, product, model_folder):
    with shared.training_run(product, tags={}) as run:
        params = {f"param_{number}": number for number in range(10)}
        seconds = min(
            elapsed(lambda: run.log_trial("xgboost", 0, params, 0.7, [0.7] * 5, 1.0))
            for _ in range(3)
        )
    assert seconds < 0.2
    assert elapsed(lambda: register(shared, product, model_folder)) < 2


def elapsed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
