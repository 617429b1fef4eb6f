import dataclasses
import json
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml import families as package
from mlops_assets.ml.families import (
    FeatureColumns,
    FeatureError,
    FitOptions,
    Labelled,
    ModelFileError,
    Rows,
    families,
    family,
    load_model,
    save_model,
)
from mlops_assets.ml.families.encoded import EncodedModel
from mlops_assets.ml.families.encoders import Encoder
from mlops_assets.ml.metrics import binary_metrics

FAMILIES = tuple(name for name in families() if "binary" in family(name).tasks)
ON_GPU = ("embedding_mlp", "xgboost")
NETWORKS = ("embedding_mlp", "recent_sequence")
PICKLE = b"\x80"
COLUMNS = FeatureColumns(
    numeric=("wind", "delay", "rainy", "seats", "fare", "never", "always"),
    categorical=("carrier", "hour", "nobody"),
)
QUICK = {
    "embedding_mlp": {"epochs": 8, "width": 32, "batch_rows": 256, "learning_rate": 0.01},
    "hist_gradient_boosting": {"rounds": 40, "learning_rate": 0.1},
    "logistic_regression": {},
    "xgboost": {"rounds": 40, "learning_rate": 0.1},
}


def flights(rows: int, seed: int) -> Labelled:
    """Every type a column may have, with missing values, and a label they partly decide."""
    rng = np.random.default_rng(seed)
    wind = rng.normal(size=rows)
    rainy = rng.random(rows) < 0.3
    carrier = rng.integers(0, 6, rows)
    late = 1 / (1 + np.exp(-(2 * wind + 2 * rainy + carrier - 4)))
    frame = pl.DataFrame(
        {
            "wind": np.where(rng.random(rows) < 0.05, np.nan, wind),
            "delay": pl.Series(rng.normal(size=rows)).set(pl.Series(rng.random(rows) < 0.2), None),
            "rainy": rainy,
            "seats": rng.integers(20, 300, rows).astype(np.int16),
            "fare": pl.Series(
                [Decimal(cents) / 100 for cents in rng.integers(0, 9999, rows).tolist()]
            ),
            "never": pl.Series([None] * rows, dtype=pl.Float64),
            "always": np.full(rows, 0.1),
            "carrier": [None if code == 5 else "ABCDE"[code] for code in carrier],
            "hour": rng.integers(5, 23, rows),
            "nobody": pl.Series([None] * rows, dtype=pl.String),
            "ignored": ["x"] * rows,
        }
    )
    return Labelled(frame, (rng.random(rows) < late).astype(np.int8))


TRAIN, VALID, TEST = flights(3000, 1), flights(800, 2), flights(1500, 3)


def fit(name: str, train: Labelled = TRAIN, valid: Labelled | None = VALID, **options: object):
    return family(name).fit(
        train, valid, COLUMNS, QUICK[name], FitOptions(**{"threads": 1} | options)
    )


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return fit(request.param)


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def test_the_families_are_the_files_of_the_folder():
    assert {"embedding_mlp", "hist_gradient_boosting", "logistic_regression", "xgboost"} <= set(
        FAMILIES
    )
    assert all(family(name).name == name for name in families())


def test_listing_imports_no_model_library():
    code = (
        "import sys; from mlops_assets.ml.families import families, family;"
        "[family(name).defaults() for name in families()]; import mlops_assets.ml.search;"
        "print({'torch', 'xgboost', 'sklearn', 'optuna', 'skops'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_family_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"no model family 'random_forest'.*logistic_regression"):
        family("random_forest")


def test_a_new_family_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "brand_new.py").write_text("FAMILY = 'mine'\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "brand_new" in families()
    assert family("brand_new") == "mine"


def test_learns(model):
    judged = binary_metrics(TEST.label, model.predict(TEST.frame), 0.5)
    assert judged.auc > 0.8
    assert judged.calibration_error < 0.08


def test_predicts_float64_probabilities(model):
    probability = model.predict(TEST.frame)
    assert probability.dtype == np.float64
    assert probability.shape == (TEST.frame.height,)
    assert probability.min() >= 0
    assert probability.max() <= 1


def test_no_rows_give_no_predictions(model):
    assert model.predict(TEST.frame.clear()).shape == (0,)


def test_a_row_alone_predicts_as_in_its_batch(model):
    together = model.predict(TEST.frame[:20])
    alone = np.concatenate([model.predict(TEST.frame[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(
        alone, together, rtol=0, atol=1e-6 if model.family == "embedding_mlp" else 1e-12
    )


def test_rows_of_a_server_predict_as_the_frame_of_the_same_values(model):
    frame = TEST.frame.head(200)
    rows = Rows(frame.drop("ignored").to_dicts())
    assert rows.height == 200
    assert np.array_equal(model.predict(rows), model.predict(frame))
    assert model.predict(Rows([])).shape == (0,)
    nulls = Rows([dict.fromkeys(COLUMNS.names)])
    assert model.predict(nulls) == pytest.approx(model.predict(frame.clear(1).head(1)))


def test_rows_of_a_server_are_refused_by_name(model):
    row = TEST.frame.row(0, named=True)
    with pytest.raises(FeatureError, match="'wind'"):
        model.predict(Rows([{name: value for name, value in row.items() if name != "wind"}]))
    with pytest.raises(FeatureError, match="'seats' is infinite in 1 of 2 rows"):
        model.predict(Rows([row, row | {"seats": 1e39}]))


def test_a_server_is_refused_a_gpu_that_is_not_there_or_of_no_use(model):
    assert model.on("cpu") is model
    assert model.device == "cpu"
    assert model.lets_go is (model.family in NETWORKS)
    if model.family not in ON_GPU:
        assert model.on("auto") is model
        with pytest.raises(ValueError, match="on the CPU only"):
            model.on("cuda")
    elif not family_finds_gpu(model):
        with pytest.raises(ValueError, match="finds no GPU"):
            model.on("cuda")
    else:
        there = model.on("cuda")
        assert (model.device, there.device) == ("cpu", "cuda")
        np.testing.assert_allclose(there.predict(TEST.frame), model.predict(TEST.frame), atol=1e-5)


def family_finds_gpu(model) -> bool:
    return bool(type(model).finds_gpu()())


def test_row_order_is_kept(model):
    np.testing.assert_allclose(
        model.predict(TEST.frame.reverse()), model.predict(TEST.frame)[::-1], rtol=0, atol=1e-6
    )


def test_levels_not_seen_count_as_missing(model):
    unseen = TEST.frame.with_columns(carrier=pl.lit("ZZ"))
    nothing = TEST.frame.with_columns(carrier=pl.lit(None))
    assert np.array_equal(model.predict(unseen), model.predict(nothing))


def test_types_of_the_same_values_do_not_matter(model):
    recast = TEST.frame.with_columns(
        pl.col("rainy").cast(pl.Int8),
        pl.col("seats").cast(pl.Float64),
        pl.col("carrier").cast(pl.Categorical),
        pl.col("hour").cast(pl.String),
        pl.col("wind").fill_nan(None),
    )
    assert np.array_equal(model.predict(recast), model.predict(TEST.frame))


def test_what_did_not_vary_has_no_say(model):
    now = TEST.frame.with_columns(never=pl.lit(5.0), always=pl.lit(-3.0), nobody=pl.lit("A"))
    assert np.array_equal(model.predict(now), model.predict(TEST.frame))


def test_all_missing_is_predicted(model):
    names = COLUMNS.names
    nothing = pl.DataFrame({name: [None] for name in names})
    assert np.isfinite(model.predict(nothing)).all()


def test_a_missing_column_is_named_with_what_is_expected(model):
    with pytest.raises(FeatureError, match=r"missing feature columns: wind, hour; expected wind,"):
        model.predict(TEST.frame.drop("hour", "wind"))
    with pytest.raises(FeatureError, match="missing feature columns: hour"):
        model.predict(TEST.frame.clear().drop("hour"))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e300])
def test_infinity_is_refused_by_name(model, value):
    with pytest.raises(FeatureError, match="'delay' is infinite in 1500 of 1500 rows"):
        model.predict(TEST.frame.with_columns(delay=pl.lit(value)))


def test_text_is_no_number_and_a_float_no_level(model):
    with pytest.raises(FeatureError, match="'wind' is of type String"):
        model.predict(TEST.frame.with_columns(wind=pl.lit("strong")))
    with pytest.raises(FeatureError, match="'hour' is of type Float64"):
        model.predict(TEST.frame.with_columns(hour=pl.lit(8.0)))


def test_saved_and_loaded_it_predicts_the_same(model, folder):
    loaded = load_model(folder)
    assert np.array_equal(loaded.predict(TEST.frame), model.predict(TEST.frame))
    assert loaded.columns == model.columns == COLUMNS
    assert loaded.description() == model.description()
    assert loaded.family == model.family


def test_xgboost_says_the_same_of_rows_in_single_precision():
    """It predicts on half the bytes; whatever it is given, it compares in single precision."""
    model = fit("xgboost")
    double = model.booster.inplace_predict(model.encoder.matrix(TEST.frame), missing=np.nan)
    assert np.array_equal(model.predict(TEST.frame), double.astype(np.float64))


AGAIN = """
import sys
from pathlib import Path
from mlops_assets.ml.families import save_model
from mlops_assets_tests.ml.test_families import fit
save_model(fit(sys.argv[1]), Path(sys.argv[2]))
"""


def test_fitted_again_by_another_process_its_files_are_the_same(model, folder, tmp_path):
    """A version is known by the digest of its files."""
    other = tmp_path / "again"
    command = [sys.executable, "-W", "ignore", "-c", AGAIN, model.family, str(other)]
    subprocess.run(command, check=True)
    ours, theirs = ({f.name: f.read_bytes() for f in d.iterdir()} for d in (folder, other))
    assert ours == theirs


def test_no_file_is_a_pickle(folder):
    for path in folder.iterdir():
        assert path.suffix in {".json", ".safetensors", ".skops", ".ubj"}
        assert not path.read_bytes().startswith(PICKLE)
        if path.suffix == ".skops":
            with zipfile.ZipFile(path) as parts:
                assert {Path(name).suffix for name in parts.namelist()} == {".json", ".npy"}
                assert not any(parts.read(name).startswith(PICKLE) for name in parts.namelist())


def test_the_manifest_says_what_it_is(folder, model):
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["family"] == model.family
    assert manifest["numeric"] == list(COLUMNS.numeric)
    assert {*manifest["sha256"], "model.json"} == {path.name for path in folder.iterdir()}


def test_a_changed_file_is_refused(folder):
    for name in json.loads((folder / "model.json").read_text())["sha256"]:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelFileError, match=f"{name} was changed"):
            load_model(folder)
        (folder / name).unlink()
        with pytest.raises(ModelFileError, match=f"{name} is missing"):
            load_model(folder)
        (folder / name).write_bytes(whole)
    load_model(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"holds no model\.json"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"format_version": 99}')
    with pytest.raises(ModelFileError, match="has format 99"):
        load_model(tmp_path)


def test_a_folder_with_files_is_not_written_to(folder, model):
    with pytest.raises(FileExistsError, match="not empty"):
        save_model(model, folder)


def test_skops_loads_trusted_types_only(tmp_path):
    model = fit("hist_gradient_boosting")
    strange = dataclasses.replace(model, estimator=COLUMNS)
    save_model(strange, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"types not trusted: .*FeatureColumns"):
        load_model(tmp_path / "model")


def test_the_seed_decides(model):
    again, other = fit(model.family), fit(model.family, seed=8)
    assert np.array_equal(again.predict(TEST.frame), model.predict(TEST.frame))
    drawn = not np.array_equal(other.predict(TEST.frame), model.predict(TEST.frame))
    assert drawn == (model.family != "logistic_regression")


@pytest.mark.parametrize("name", FAMILIES)
def test_fits_without_validation_rows_or_with_one_kind_of_column(name):
    for columns in (FeatureColumns(("wind",), ()), FeatureColumns((), ("carrier", "nobody"))):
        model = family(name).fit(TRAIN, None, columns, QUICK[name], FitOptions(threads=1))
        assert np.isfinite(model.predict(TEST.frame)).all()
        assert "valid_loss" not in model.description()


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"logistic_regression"}))
def test_stops_early_and_tells(name):
    told: list[str] = []
    noise = Labelled(VALID.frame, np.random.default_rng(0).permutation(VALID.label))
    params = QUICK[name] | {"patience": 2}
    model = family(name).fit(
        TRAIN, noise, COLUMNS, params, FitOptions(threads=1, on_progress=told.append)
    )
    facts = model.description()
    assert facts.get("rounds", facts.get("epochs")) < params.get("rounds", params.get("epochs"))
    assert told[-1].startswith(name)


@pytest.mark.parametrize("name", ["embedding_mlp", "xgboost"])
def test_the_best_round_is_kept(name):
    model = fit(name)
    judged = binary_metrics(VALID.label, model.predict(VALID.frame), 0.5)
    assert judged.log_loss == pytest.approx(model.description()["valid_loss"], abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_class_is_refused(name):
    with pytest.raises(ValueError, match="all 3000 training labels are 0"):
        fit(name, Labelled(TRAIN.frame, np.zeros(3000)))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_parameter_it_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} has no parameter max_dept; it has "):
        family(name).fit(TRAIN, VALID, COLUMNS, {"max_dept": 3}, FitOptions(threads=1))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_column_unfit_for_fitting_is_named(name):
    broken = Labelled(TRAIN.frame.with_columns(wind=pl.lit(float("inf"))), TRAIN.label)
    with pytest.raises(FeatureError, match="'wind' is infinite"):
        fit(name, broken)


@pytest.mark.parametrize("name", FAMILIES)
def test_cuda_is_used_or_refused(name):
    import torch

    gpu = torch.cuda.is_available()
    if name in ON_GPU and gpu:
        assert fit(name, device="cuda").description()["device"].startswith("cuda")
    else:
        with pytest.raises(ValueError, match=r"set device to 'cpu' or 'auto'"):
            fit(name, device="cuda")
    expected = "cuda" if name in ON_GPU and gpu else "cpu"
    assert fit(name, device="auto").description()["device"].startswith(expected)


def test_options_say_what_would_be_good():
    with pytest.raises(ValueError, match="device is 'gpu', expected 'cpu', 'cuda' or 'auto'"):
        FitOptions(device="gpu")
    with pytest.raises(ValueError, match="threads is 0"):
        FitOptions(threads=0)


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        (2, [0, 1, 1], "shape"),
        (2, [0, 2], "1 of 2 labels are neither 0 nor 1"),
        (2, [0, None], "1 of 2 labels are neither 0 nor 1"),
        (0, [], "0 labelled rows"),
    ],
)
def test_labels_are_checked(rows, label, message):
    with pytest.raises(ValueError, match=message):
        Labelled(pl.DataFrame({"wind": [0.0] * rows}), np.array(label, dtype=float))


def test_columns_are_checked():
    with pytest.raises(ValueError, match="at least one"):
        FeatureColumns((), ())
    with pytest.raises(ValueError, match="more than once: wind"):
        FeatureColumns(("wind",), ("wind",))


def test_a_prediction_that_is_no_number_raises():
    class Diverged(EncodedModel):
        family = "diverged"

        def score(self, frame):
            return np.full(frame.height, np.nan, dtype=np.float32)

        def save_weights(self, folder): ...

    model = Diverged(Encoder.fit(TRAIN.frame, COLUMNS), {})
    with pytest.raises(ArithmeticError, match="1500 of 1500 predictions are not finite"):
        model.predict(TEST.frame)


def test_an_encoder_keeps_the_most_frequent_levels():
    frame = pl.DataFrame({"dest": ["c", "b", "a", "c", "b", None, "d"]})
    encoder = Encoder.fit(frame, FeatureColumns((), ("dest",)), most_levels=3)
    assert encoder.levels == {"dest": ("a", "b", "c")}
    assert encoder.codes(frame).ravel().tolist() == [2, 1, 0, 2, 1, -1, -1]


def test_an_encoder_survives_json():
    encoder = Encoder.fit(TRAIN.frame, COLUMNS)
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again == encoder
    assert np.array_equal(again.standardised(TEST.frame), encoder.standardised(TEST.frame))


def test_an_encoder_standardises_by_the_training_rows():
    columns = FeatureColumns(("wind",), ())
    encoder = Encoder.fit(pl.DataFrame({"wind": [1.0, 3.0, None]}), columns)
    read = encoder.standardised(pl.DataFrame({"wind": [2.0, 4.0, None, 1048.0]}))
    assert read.tolist() == [[0, 0], [2, 0], [0, 1], [10, 0]]


def test_more_levels_than_bins_fit():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"tail": rng.integers(0, 900, 3000).astype(str)})
    columns = FeatureColumns((), ("tail",))
    for name in FAMILIES:
        model = family(name).fit(
            Labelled(frame, TRAIN.label), None, columns, QUICK[name], FitOptions()
        )
        assert np.isfinite(model.predict(frame)).all()
