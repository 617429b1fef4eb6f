"""What a walk shows, on the small lake of one that has ended: of a yes or no, a class, a count."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, mean_poisson_deviance

from mlops_assets.cli import backtest as command
from mlops_assets.cli.console import out
from mlops_assets.components.backtest import Walk, Walked
from mlops_assets.components.backtest_models import Models
from mlops_assets.components.backtest_report import ALL, Shown
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.product import Product
from mlops_assets.ml.targets import BINARY, Multiclass, Target
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

START, FIRST, HANDOVER, LAST = (
    date(2024, 1, 1), date(2024, 1, 24), date(2024, 2, 5), date(2024, 2, 12)
)  # fmt: skip
DAYS = dg.DailyPartitionsDefinition("2024-01-01")
NAME, PLACES = "late", 30
CUTOFFS = (FIRST - timedelta(days=2), date(2024, 1, 28))
UNIT = {"binary": "nats", "multiclass": "nats", "regression": "of the rival's loss"}
TITLES = {
    "binary": ["Log loss (nats)", "AUC"],
    "multiclass": ["Log loss (nats)", "Accuracy"],
    "regression": ["Poisson deviance", "Absolute error (the label's unit)"],
}
TASKS = list(UNIT)


def spine(rows: pl.LazyFrame) -> pl.LazyFrame:
    """As a problem has it; the small lake has the feature view already."""
    return rows


def label(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each row's own."""
    return rows


def product(task: str) -> Product:
    return Product(
        name=NAME,
        description="What will it be?",
        owners=(),
        problem=__name__,
        task=task,
        spine=d.Spine(table="a/rows", entity_keys=["place", "date"], lead_hours=1),
        label=d.Label(table=f"a/{task}", known_after_days=1),
        features=d.Features(tables=[], numeric=["x"]),
        training=d.Training(
            first_cutoff=CUTOFFS[0], validation_days=4, holdout_days=5, threads=1, min_rows=50,
            families=["hist_gradient_boosting"], search=d.Search(folds=1, fold_days=4),
            metric="poisson_deviance" if task == "regression" else "",
            params={"hist_gradient_boosting": {"rounds": 15}},
        ),
        gates=d.Gates(),
        promotion=d.Promotion(),
        monitoring=d.Monitoring(),
    )  # fmt: skip


def rows() -> pl.DataFrame:
    """A row a place and day; what x means turns round at the end of January."""
    random = np.random.default_rng(5)
    days = [START + timedelta(days=n) for n in range((LAST - START).days + 2)]
    x = random.normal(size=len(days) * PLACES)
    turned = np.repeat([day > CUTOFFS[1] for day in days], PLACES)
    mean = np.exp(0.7 * np.where(turned, -x, x))
    return pl.DataFrame({
        "date": pl.Series(days).gather(np.repeat(np.arange(len(days)), PLACES)),
        "place": np.tile(np.arange(PLACES), len(days)), "x": x,
        "count": random.poisson(mean).astype(float), "turned": turned,
    })  # fmt: skip


def labels(task: str) -> pl.DataFrame:
    """The label of each row; the class `many` is there only after the first cut-off."""
    many = pl.when(pl.col("turned") & (pl.col("count") > 2)).then(pl.lit("many"))
    said = {
        "binary": (pl.col("count") > 1).cast(pl.Int8),
        "multiclass": many.when(pl.col("count") > 0).then(pl.lit("some")).otherwise(pl.lit("none")),
        "regression": pl.col("count"),
    }
    return rows().select("date", "place", said[task].alias("label"))


def answers(task: str, x: np.ndarray, turned: bool) -> tuple[Target, np.ndarray]:
    """What version 1 says, or version 2, which knows that x has turned round."""
    mean = np.exp(0.7 * (-x if turned else x))
    none = np.exp(-mean)
    if task == "binary":
        return BINARY, 1 - none * (1 + mean)
    if task == "regression":
        return product(task).target, mean
    known = Multiclass(classes=("many", "none", "some") if turned else ("none", "some"))
    many = (1 - none) / 2
    return known, np.column_stack([many, none, many] if turned else [none, 1 - none])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """Two versions, of which only the cut-off is asked."""
    home = tmp_path_factory.mktemp("registry")
    models = ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    for number, cutoff in enumerate(CUTOFFS, 1):
        folder = home / f"model-{number}"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(bytes([number]))
        with models.training_run(NAME, tags={}) as run:
            models.register(
                run, NAME, folder, inputs=pl.DataFrame({"x": [0.1]}), outputs=np.array([0.2]),
                tags={"family": "hist_gradient_boosting", "cutoff": str(cutoff)},
                pip_requirements=[],
            )  # fmt: skip
    return models


@pytest.fixture(scope="module", params=TASKS)
def shown(request: Any, registry: ModelRegistry, tmp_path_factory: Any) -> Shown:
    """A walk that has ended, in which version 2 serves from HANDOVER on."""
    task, store = request.param, Lakehouse(tmp_path_factory.mktemp("lake"))
    own, view, commit = product(task), rows(), Commit(run_id="test")
    store.append(own.table("feature_view"), view.select("date", "place", "x"), commit, by="date")
    store.append(own.label.table, labels(task), commit, by="date")
    served = [
        (view.filter(pl.col("date").is_between(FIRST, HANDOVER, closed="left")), 1),
        (view.filter(pl.col("date") >= HANDOVER), 2),
    ]
    for part, number in served:
        target, scores = answers(task, part["x"].to_numpy(), number == 2)
        said = part.select(
            "date", "place", *target.columns(scores, 0.5),
            pl.lit(number, pl.Int64).alias("model_version"), pl.lit(1, pl.Int64).alias("revision"),
        )  # fmt: skip
        # Of one row the loop said nothing.
        store.append(own.table("predictions"), said[1:] if number == 1 else said, commit, by="date")
    walked = Walked(Walk(NAME, FIRST, LAST), None, own, store, registry)  # type: ignore[arg-type]
    return Shown(walked, Models(walked))


def losses(task: str, frame: pl.DataFrame) -> float:
    """The mean loss of the loop by scikit-learn, on rows with their labels, x and day."""
    found, size = 0.0, 0
    for turned in (False, True):
        part = frame.filter((pl.col("date") >= HANDOVER) == turned)
        target, scores = answers(task, part["x"].to_numpy(), turned)
        truth = part["label"].to_numpy()
        if task == "regression":
            mean = mean_poisson_deviance(truth, scores)
        elif task == "binary":
            mean = log_loss(truth, scores)
        else:
            chance = [
                s[target.classes.index(t)] if t in target.classes else 1e-15
                for t, s in zip(truth, scores, strict=True)
            ]
            mean = float(-np.log(chance).mean())
        found, size = found + mean * part.height, size + part.height
    return found / size


def test_the_loop_is_judged_by_the_product_s_own_metric(shown):
    task, metric = shown.walked.product.task, shown.target.metric
    row = shown.figures().filter(period=ALL, policy="loop").row(0, named=True)
    there = rows().filter(pl.col("date").is_between(FIRST, LAST))
    there = there.join(labels(task), on=["date", "place"], maintain_order="left")[1:]
    assert (row["rows"], row["days"], shown.left_out) == (there.height, 20, 1)
    assert row[metric] == pytest.approx(losses(task, there))
    assert row[f"{metric}_low"] < row[metric] < row[f"{metric}_high"]
    assert row["retrains"] == 1


def test_a_gain_is_in_the_target_s_own_terms(shown):
    metric = shown.target.metric
    figures = shown.figures().filter(period=ALL)
    loss = dict(figures.select("policy", metric).iter_rows())
    gains = shown.gains().filter(period=ALL, metric=metric)
    gain = gains.filter(what="loop over frozen").row(0, named=True)
    difference = loss["frozen"] - loss["loop"]
    share = difference / loss["frozen"] if shown.target.is_relative else difference
    assert gain["value"] == pytest.approx(share)
    assert gain["unit"] == UNIT[shown.walked.product.task]
    assert gain["low"] <= gain["value"] <= gain["high"]
    # x has turned round, which version 2 knows, and no model that is fitted before.
    assert gain["value"] > 0


def test_each_model_is_fitted_once(shown):
    shown.figures()
    told: list[str] = []
    again = Shown(shown.walked, Models(shown.walked, told.append))
    assert again.figures().equals(shown.figures())
    assert told == []


def test_other_dates_are_judged_in_the_same_terms(shown):
    found = shown.judge(every=4, seeds=1)[ALL]
    assert found.retrains == 1
    if shown.target.is_relative:
        assert found.regret.value < 1


def test_tables_and_picture_name_the_metric_and_its_unit(shown, tmp_path):
    task = shown.walked.product.task
    with out.capture() as said:
        found = command._shown(shown.walked, tmp_path, None)
    printed = said.get()
    assert [title for title in TITLES[task] if title not in printed] == []
    assert ("AUC" in printed) == (task == "binary")
    assert {row["unit"] for row in found["gains"]} == {UNIT[task], ""}
    assert (tmp_path / "backtest.png").read_bytes().startswith(b"\x89PNG")
