"""Predictions made block by block: what is in the table afterwards, and what a run says of it."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.ml_product import scoring
from mlops_assets.components.ml_product.scoring import newest_revision, predict_days
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.targets import BINARY
from mlops_assets.stores.content import content_hashes
from mlops_assets.stores.lakehouse import Commit, Lakehouse

DAYS = [date(2013, 8, 1) + timedelta(days=n) for n in range(6)]
VIEW, PREDICTIONS = "flights/feature_view", "flights/predictions"
# A declared product takes a code location; of it, scoring reads only this.
PRODUCT = SimpleNamespace(
    name="flights",
    table="flights/{}".format,
    spine=SimpleNamespace(entity_keys=["date", "flight"]),
    target=BINARY,
)
FIRST = SimpleNamespace(version=1, threshold=0.4, tags={"family": "logistic_regression"})
SECOND = SimpleNamespace(version=2, threshold=0.4, tags=FIRST.tags)


def view(*days, seed=0):
    rng = np.random.default_rng(seed)
    rows = 40 * len(days)
    return pl.DataFrame(
        {
            "date": [day for day in days for _ in range(40)],
            "flight": list(range(40)) * len(days),
            "prediction_time": [datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
                                for day in days for _ in range(40)],
            "wind": rng.normal(size=rows),
            "carrier": rng.choice(["AA", "UA"], rows),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    rows = view(*DAYS, seed=1)
    label = (rows["wind"] + rows["carrier"].eq("UA").cast(pl.Float64) > 0.5).to_numpy()
    columns = FeatureColumns(("wind",), ("carrier",))
    chosen = family("logistic_regression")
    return chosen.fit(Labelled(rows, label), None, columns, {}, FitOptions(threads=1))


@pytest.fixture
def lakehouse(tmp_path):
    store = Lakehouse(tmp_path / "lake")
    store.append(VIEW, view(*DAYS), Commit(), by="date")
    return store


def change(store, *days):
    keys = [str(day) for day in days]
    store.overwrite_partitions(
        VIEW, view(*days, seed=9), by="date", partitions=keys, commit=Commit()
    )


def run(store, model, days=DAYS, version=FIRST):
    return predict_days(store, PRODUCT, model, version, days, Commit(run_id="r"))


def written(store):
    return store.scan(PREDICTIONS).collect()


def read_back(store):
    """What a run says of the days, computed from the table."""
    newest = newest_revision(store.scan(PREDICTIONS), PRODUCT).collect()
    rows = dict(newest.group_by("date").len().iter_rows())
    return {date.fromisoformat(d): (rows[date.fromisoformat(d)], content)
            for d, content in content_hashes(newest, by="date").items()}  # fmt: skip


def said(found):
    return {day: (there.rows, there.content) for day, there in found.items()}


@pytest.mark.parametrize("rows", [1, 100, 10_000], ids=["a day", "two days", "all days"])
def test_blocks_of_any_size_make_the_same_table_in_one_commit(lakehouse, model, monkeypatch, rows):
    monkeypatch.setattr(scoring, "BLOCK_ROWS", rows)
    found = run(lakehouse, model)
    rows_of_view = lakehouse.scan(VIEW).collect()
    at_once = scoring.revise(scoring.score(rows_of_view, model, FIRST, PRODUCT), None, PRODUCT)
    assert_frame_equal(written(lakehouse), at_once, check_row_order=False, check_column_order=False)
    assert lakehouse.history(PREDICTIONS)["rows"].to_list() == [240, None]
    assert said(found) == read_back(lakehouse)
    means = dict(at_once.group_by("date").agg(pl.col("probability").mean()).iter_rows())
    assert {d: there.mean_prediction for d, there in found.items()} == pytest.approx(means)


def test_the_same_champion_on_the_same_features_adds_nothing(lakehouse, model, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 100)
    first = run(lakehouse, model)
    version = lakehouse.version(PREDICTIONS)
    again = run(lakehouse, model)
    assert lakehouse.version(PREDICTIONS) == version
    assert said(again) == said(first)


def test_changed_features_and_another_champion_add_a_revision(lakehouse, model, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 100)
    run(lakehouse, model, DAYS[:4])
    version = lakehouse.version(PREDICTIONS)
    change(lakehouse, DAYS[1])
    found = run(lakehouse, model)
    revisions = dict(written(lakehouse).group_by("date").agg(pl.col("revision").max()).iter_rows())
    assert revisions == dict.fromkeys(DAYS, 1) | {DAYS[1]: 2}
    assert lakehouse.version(PREDICTIONS) == version + 1
    assert said(found) == read_back(lakehouse)
    found = run(lakehouse, model, DAYS[:2], SECOND)
    assert said(found) == {d: v for d, v in read_back(lakehouse).items() if d in DAYS[:2]}
    newest = newest_revision(lakehouse.scan(PREDICTIONS), PRODUCT).collect()
    made = newest.group_by("date").agg(pl.col("model_version", "revision").first()).sort("date")
    assert made.rows()[:3] == [(DAYS[0], 2, 2), (DAYS[1], 2, 3), (DAYS[2], 1, 1)]
    assert written(lakehouse)["prediction_id"].is_unique().all()


class Overtaken:
    """A model that is at work while another run scores the same days."""

    def __init__(self, model, other):
        self._model, self._other = model, other
        self.target = model.target

    def predict(self, rows):
        other, self._other = self._other, None
        if other:
            other()
        return self._model.predict(rows)


@pytest.mark.parametrize("there", [False, True], ids=["no table yet", "a table"])
@pytest.mark.parametrize("version", [FIRST, SECOND], ids=["the same model", "another model"])
def test_of_two_that_score_a_day_at_once_one_brings_each_revision(lakehouse, model, there, version):
    if there:
        run(lakehouse, model, DAYS[:1])
    slow = Overtaken(model, lambda: run(lakehouse, model, DAYS[2:4], FIRST))
    found = run(lakehouse, slow, version=version)
    assert written(lakehouse)["prediction_id"].is_unique().all()
    revisions = dict(written(lakehouse).group_by("date").agg(pl.col("revision").max()).iter_rows())
    twice = [] if version is FIRST else [*DAYS[:there], *DAYS[2:4]]
    assert revisions == {day: 1 + (day in twice) for day in DAYS}
    assert said(found) == read_back(lakehouse)


def test_a_row_that_left_the_features_keeps_its_prediction(lakehouse, model):
    run(lakehouse, model)
    fewer = view(DAYS[0], seed=9).head(30)
    lakehouse.overwrite_partitions(
        VIEW, fewer, by="date", partitions=[str(DAYS[0])], commit=Commit()
    )
    found = run(lakehouse, model)
    assert found[DAYS[0]].rows == 40
    assert said(found) == read_back(lakehouse)


def test_only_the_days_that_are_asked_for_are_scored(lakehouse, model):
    found = run(lakehouse, model, [DAYS[0], DAYS[2], DAYS[5] + timedelta(days=1)])
    assert sorted(found) == sorted(written(lakehouse)["date"].unique()) == [DAYS[0], DAYS[2]]


def test_a_block_that_cannot_be_scored_leaves_nothing(lakehouse, model, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 1)
    wild = view(DAYS[3]).with_columns(wind=pl.lit(float("inf")))
    lakehouse.overwrite_partitions(
        VIEW, wild, by="date", partitions=[str(DAYS[3])], commit=Commit()
    )
    with pytest.raises(ValueError, match="'wind' is infinite in 40 of 40 rows"):
        run(lakehouse, model)
    assert not lakehouse.exists(PREDICTIONS)
