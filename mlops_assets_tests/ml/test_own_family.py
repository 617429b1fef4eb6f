"""docs/own-family.md: its file, put beside the families as it stands there, is one of them."""

import re

import numpy as np
import polars as pl
import pytest

import mlops_assets.ml.families as package
from mlops_assets.local import repository
from mlops_assets.ml.families import (
    FeatureColumns,
    FitOptions,
    Labelled,
    Rows,
    families,
    family,
    load_model,
    save_model,
)
from mlops_assets.ml.targets import BINARY, Multiclass, Regression

NAME = "nearest_neighbours"
ROWS = 600


@pytest.fixture
def own(tmp_path, monkeypatch):
    page = (repository() / "docs" / "own-family.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / f"{NAME}.py").write_text(code)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert NAME in families()
    return family(NAME)


@pytest.mark.parametrize(
    "target", [BINARY, Multiclass(classes=("a", "b", "c")), Regression()], ids=lambda t: t.task
)
def test_the_page_is_a_family(own, target, tmp_path):
    rng = np.random.default_rng(1)
    x, kind = rng.normal(size=ROWS), rng.choice(["u", "v"], ROWS)
    mean = x + (kind == "u")
    label = {
        "binary": (mean > 0.3).astype(int),
        "multiclass": np.digitize(mean, [-0.3, 0.9]),
        "regression": 10 * mean,
    }[target.task]
    frame = pl.DataFrame({"x": x, "kind": kind})
    columns = FeatureColumns(("x",), ("kind",))
    cut = ROWS * 2 // 3
    model = own.fit(
        Labelled(frame[:cut], label[:cut], target), None, columns, {"neighbours": 9}, FitOptions()
    )
    truth, scores = target.check(label[cut:], model.predict(frame[cut:]))
    nothing, _ = target.constant(target.encode(label[:cut]), ROWS - cut)
    assert np.abs(scores - nothing).max() > 0.1
    assert target.plausibility(truth, scores)[1] > 0.8
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    rows = Rows([{"x": None, "kind": "never seen"}, *frame[:2].to_dicts()])
    np.testing.assert_allclose(again.predict(rows)[1:], model.predict(frame[:2]))
