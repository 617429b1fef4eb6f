"""The families of counts and their baselines: what they learn, keep, refuse, and stand in for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import (
    FeatureColumns,
    FeatureError,
    FitOptions,
    Labelled,
    ModelFileError,
    Rows,
    family,
    load_model,
    save_model,
)
from mlops_assets.ml.families.recent_sequence import _sequence
from mlops_assets.ml.families.torch_fit import _exact
from mlops_assets.ml.targets import Regression

COUNTS = Regression("poisson_deviance")
WINDOWS = ["1h", "2h", "3h", "6h"]
COLUMNS = FeatureColumns(
    numeric=("planned", "last_week", "wind", "never", *(f"late_{w}" for w in WINDOWS)),
    categorical=("origin", "hour", "nobody"),
)
PARAMS = {
    "poisson_regression": {},
    "group_mean": {"by": ["hour", "origin"]},
    "column": {"name": "last_week"},
    "recent_sequence": {
        "series": ["late"], "windows": WINDOWS, "width": 16, "epochs": 12, "learning_rate": 0.01,
    },
}  # fmt: skip


def hours(rows: int, seed: int, target: Regression = COUNTS) -> Labelled:
    """Counts that origin and hour, what was planned, and what came of late decide together."""
    rng = np.random.default_rng(seed)
    origin, hour = rng.choice(["EWR", "JFK", "LGA"], rows), rng.integers(6, 12, rows)
    steps = rng.poisson(np.outer(rng.gamma(1.5, 1.5, rows), [1, 1, 1, 3]))
    planned = rng.integers(1, 40, rows)
    mean = 0.05 * planned * (1 + (origin == "EWR")) * (hour - 4) / 6 * (1 + steps[:, 0] / 3)
    frame = pl.DataFrame(
        {
            "planned": planned,
            "last_week": pl.Series(rng.poisson(mean)).set(pl.Series(rng.random(rows) < 0.1), None),
            "wind": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "never": pl.Series([None] * rows, dtype=pl.Float64),
            "origin": origin,
            "hour": hour.astype(str),
            "nobody": pl.Series([None] * rows, dtype=pl.String),
            **dict(zip((f"late_{w}" for w in WINDOWS), steps.cumsum(axis=1).T, strict=True)),
        }
    )
    return Labelled(frame, rng.poisson(mean), target)


TRAIN, VALID, TEST = hours(2400, 1), hours(600, 2), hours(900, 3)


def fit(name, train=TRAIN, valid=VALID, columns=COLUMNS, **options):
    return family(name).fit(
        train, valid, columns, PARAMS[name], FitOptions(**{"threads": 1} | options)
    )


@pytest.fixture(scope="module", params=sorted(PARAMS))
def model(request):
    return fit(request.param)


def test_learns_more_than_the_mean_and_the_models_more_than_the_baselines(model):
    truth, scores = COUNTS.check(TEST.label, model.predict(TEST.frame))
    nothing, _ = COUNTS.constant(TRAIN.label, truth.size)
    explained = 1 - COUNTS.loss(truth, scores) / COUNTS.loss(truth, nothing)
    is_baseline = model.family in ("group_mean", "column")
    assert explained > (0.04 if is_baseline else 0.5)
    assert scores.min() > 0
    assert model.target == COUNTS


def test_saved_and_loaded_it_predicts_the_same_and_holds_no_pickle(model, tmp_path):
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert np.array_equal(loaded.predict(TEST.frame), model.predict(TEST.frame))
    assert (loaded.columns, loaded.target) == (COLUMNS, COUNTS)
    assert loaded.description() == model.description()
    for path in (tmp_path / "model").iterdir():
        assert path.suffix in {".json", ".safetensors"}
        whole = path.read_bytes()
        assert not whole.startswith(b"\x80")
        if path.name != "model.json":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            with pytest.raises(ModelFileError, match=f"{path.name} was changed"):
                load_model(tmp_path / "model")
            path.write_bytes(whole)


def test_rows_of_a_server_predict_as_the_frame_and_one_as_in_many(model):
    frame = TEST.frame.head(50)
    rows = Rows(frame.to_dicts())
    assert np.array_equal(model.predict(rows), model.predict(frame))
    alone = np.concatenate([model.predict(Rows([row])) for row in frame.to_dicts()])
    tolerance = 1e-5 if model.family == "recent_sequence" else 1e-12
    np.testing.assert_allclose(alone, model.predict(frame), rtol=tolerance)
    np.testing.assert_allclose(
        model.predict(frame.reverse()), model.predict(frame)[::-1], rtol=tolerance
    )
    assert model.predict(Rows([])).shape == model.predict(frame.clear()).shape == (0,)


def test_missing_and_unseen_are_predicted_alike(model):
    nothing = pl.DataFrame({name: [None] for name in COLUMNS.names})
    assert np.isfinite(model.predict(nothing)).all()
    unseen = TEST.frame.with_columns(origin=pl.lit("SFO"))
    unknown = TEST.frame.with_columns(origin=pl.lit(None))
    assert np.array_equal(model.predict(unseen), model.predict(unknown))
    varied = TEST.frame.with_columns(never=pl.lit(5.0), nobody=pl.lit("A"))
    assert np.array_equal(model.predict(varied), model.predict(TEST.frame))


def test_a_column_that_is_missing_or_unfit_is_named(model):
    with pytest.raises(FeatureError, match="missing feature columns: planned, hour"):
        model.predict(TEST.frame.drop("hour", "planned"))
    with pytest.raises(FeatureError, match="'wind' is infinite"):
        model.predict(TEST.frame.with_columns(wind=pl.lit(float("inf"))))


def test_the_seed_decides(model):
    again, other = fit(model.family), fit(model.family, seed=8)
    assert np.array_equal(again.predict(TEST.frame), model.predict(TEST.frame))
    drawn = not np.array_equal(other.predict(TEST.frame), model.predict(TEST.frame))
    assert drawn == (model.family == "recent_sequence")


AGAIN = """
import sys
from pathlib import Path
from mlops_assets.ml.families import save_model
from mlops_assets_tests.ml.test_count_families import PARAMS, fit
for name in PARAMS:
    save_model(fit(name), Path(sys.argv[1]) / name)
"""


def test_fitted_again_by_another_process_the_files_are_the_same(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", AGAIN, str(tmp_path)], check=True)
    for name in PARAMS:
        save_model(fit(name), tmp_path / "here" / name)
        here, there = (
            {f.name: f.read_bytes() for f in folder.iterdir()}
            for folder in (tmp_path / "here" / name, tmp_path / name)
        )
        assert here == there


@pytest.mark.parametrize("name", sorted(PARAMS))
@pytest.mark.parametrize("metric", Regression.metrics)
def test_each_loss_of_a_number_is_fitted_and_without_validation_rows(name, metric):
    target = Regression(metric)
    train = Labelled(TRAIN.frame, TRAIN.label, target)
    model = fit(name, train, None)
    assert model.target == target
    truth, scores = target.check(TEST.label, model.predict(TEST.frame))
    nothing = np.full(truth.size, TRAIN.label.mean())
    slack = 1.6 if name == "column" else 1.0  # A past count is a noisy mean.
    assert target.loss(truth, scores) < slack * target.loss(truth, nothing)
    assert "valid_loss" not in model.description()


@pytest.mark.parametrize("name", sorted(PARAMS))
def test_a_gpu_is_refused_where_there_is_none_or_of_no_use(name):
    import torch

    if name == "recent_sequence" and torch.cuda.is_available():
        there = fit(name, device="cuda")
        assert there.description()["device"].startswith("cuda")
        on_gpu = there.on("cuda").predict(TEST.frame)
        np.testing.assert_allclose(on_gpu, there.predict(TEST.frame), rtol=1e-4)
        return
    with pytest.raises(ValueError, match=r"set device to 'cpu' or 'auto'"):
        fit(name, device="cuda")
    assert fit(name, device="auto").description()["device"] == "cpu"


def test_stops_early_and_keeps_the_best_epoch():
    told: list[str] = []
    params = PARAMS["recent_sequence"] | {"epochs": 60, "patience": 2}
    options = FitOptions(threads=1, on_progress=told.append)
    model = family("recent_sequence").fit(TRAIN, VALID, COLUMNS, params, options)
    facts = model.description()
    assert facts["epochs"] < len(told) < 60
    assert told[-1].startswith("recent_sequence: epoch")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("column", {"name": "last_month"}, "'last_month' is no numeric feature; set .* planned"),
        ("column", {}, "'' is no numeric feature"),
        ("group_mean", {"by": ["hour", "gate"]}, "`by` names gate, no feature; there are planned"),
        ("recent_sequence", {}, "set the parameters `series` and `windows`"),
        ("recent_sequence", {"series": ["late"], "windows": ["9h"]}, "name late_9h, no numeric"),
        ("poisson_regression", {"alpha": 1}, "has no parameter alpha; it has penalty"),
    ],
)
def test_parameters_that_do_not_fit_are_named(name, params, message):
    with pytest.raises(ValueError, match=message):
        family(name).fit(TRAIN, VALID, COLUMNS, params, FitOptions(threads=1))


def test_a_negative_label_is_no_count():
    rows = Labelled(TRAIN.frame, TRAIN.label - 1, Regression())
    with pytest.raises(ValueError, match="a label is -1; poisson_regression is of counts"):
        fit("poisson_regression", rows, None)


def test_a_column_is_passed_on_but_where_it_is_missing_or_none():
    model = fit("column")
    value = TEST.frame["last_week"]
    scores = pl.Series(model.predict(TEST.frame))
    assert scores.filter(value > 0).to_list() == value.filter(value > 0).to_list()
    assert scores.filter(value.is_null()).unique().to_list() == [TRAIN.label.mean()]
    none = TRAIN.label[(TRAIN.frame["last_week"] == 0).fill_null(False).to_numpy()]
    assert scores.filter(value == 0).unique().to_list() == [pytest.approx(none.mean())]
    absolute = fit("column", Labelled(TRAIN.frame, TRAIN.label, Regression("absolute_error")))
    assert pl.Series(absolute.predict(TEST.frame)).filter(value == 0).unique().to_list() == [0.0]


def test_a_group_is_the_mean_of_its_rows_and_one_of_the_coarser_group():
    frame = pl.DataFrame({"hour": ["6", "6", "6", "7"], "origin": ["EWR", "EWR", "JFK", "LGA"]})
    train = Labelled(frame, np.array([0.0, 0.0, 6.0, 10.0]), COUNTS)
    columns = FeatureColumns((), ("hour", "origin"))
    model = family("group_mean").fit(train, None, columns, {"by": ["hour", "origin"]}, FitOptions())
    mean, six = 4.0, (6 + 4.0) / 4
    asked = {"hour": ["6", "6", "6", "8"], "origin": ["EWR", "JFK", "LGA", "EWR"]}
    expected = [(0 + six) / 3, (6 + six) / 2, six, mean]
    np.testing.assert_allclose(model.predict(pl.DataFrame(asked)), expected)


def test_a_poisson_regression_expects_no_more_than_it_ever_saw():
    model = fit("poisson_regression")
    wild = TEST.frame.with_columns(pl.col("planned") * 1000, pl.lit(1000).alias("late_1h"))
    assert model.predict(wild).max() <= TRAIN.label.max() * (1 + 1e-12)


def test_a_step_is_what_a_window_holds_and_the_next_shorter_does_not():
    numbers = np.array([[9.0, 1.0, 4.0, 4.0, np.nan]])
    columns = ["other", "late_1h", "late_2h", "late_3h", "late_6h"]
    shape = {"series": ["late"], "windows": ["1h", "2h", "3h"]}
    steps = _sequence(numbers, columns, shape)
    assert steps.shape == (1, 3, 2)
    np.testing.assert_allclose(np.expm1(steps[0, :, 0]), [0, 3, 1], atol=1e-12)
    assert steps[0, :, 1].tolist() == [-1, 0, 1]


def test_the_manifest_names_the_target(tmp_path):
    save_model(fit("column"), tmp_path / "model")
    manifest = json.loads(Path(tmp_path / "model" / "model.json").read_text())
    assert manifest["description"]["target"] == {"task": "regression", "metric": COUNTS.metric}


def test_a_thread_that_ends_leaves_the_products_of_another_exact():
    import torch

    begun, ended, rounds = threading.Event(), threading.Event(), []

    def other():
        with _exact():
            begun.set()
            ended.wait(10)
            rounds.append(torch.backends.cudnn.allow_tf32)

    thread = threading.Thread(target=other)
    before = torch.backends.cudnn.allow_tf32
    with _exact():
        thread.start()
        begun.wait(0.3)
    ended.set()
    thread.join(10)
    assert (rounds, torch.backends.cudnn.allow_tf32) == ([False], before)
