"""The promotion gates as the evaluation asks them, and that nothing passes by them into service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.evaluation import write_outcomes
from mlops_assets.components.ml_product.packaging import GATE as BENTO_GATE
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import GATES, PROMOTIONS, promote, refusals
from mlops_assets.components.ml_product.report import Contender, judge
from mlops_assets.ml.gates import REQUIRED, GateOutcome
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion

ROWS, CUTOFF = 8_000, date(2013, 7, 31)
RANDOM = np.random.default_rng(7)
DAYS = np.array([CUTOFF + timedelta(days=1 + n % 28) for n in range(ROWS)], "datetime64[D]")
CHANCE = RANDOM.beta(1.2, 4, ROWS)
LABEL = (RANDOM.random(ROWS) < CHANCE).astype(int)
LIMITS = d.Gates()


def contender(name: str, scores: np.ndarray, through: date = CUTOFF) -> Contender:
    return Contender(name, scores, 0.3, through)


def blurred(by: float) -> np.ndarray:
    """The true chances, seen as through a fog."""
    return np.clip(CHANCE + RANDOM.normal(0, by, ROWS), 0.01, 0.99)


GOOD, BASELINE = blurred(0.05), contender("baseline", blurred(0.15))
LEAKY = np.clip(0.3 * LABEL + blurred(0.1), 0.01, 0.99)


def failed(
    scores: np.ndarray,
    champion: Contender | None = None,
    baseline: Contender = BASELINE,
    rows: slice = slice(None),
) -> set[str]:
    """Gates that do not pass; one that was not judged does not."""
    cut = [
        c and replace(c, scores=c.scores[rows])
        for c in (contender("candidate", scores), baseline, champion)
    ]
    outcomes = judge(LABEL[rows], DAYS[rows], *cut, LIMITS)
    assert all(o.detail for o in outcomes)
    return set(REQUIRED) - {o.name for o in outcomes if o.passed}


UNJUDGED = {"leak_suspect", "gain_over_baseline", "not_worse_than_champion"}


def test_a_good_candidate_passes_every_gate():
    assert failed(GOOD) == set()
    assert failed(GOOD, champion=contender("champion", blurred(0.08))) == set()


@pytest.mark.parametrize(
    ("scores", "gates"),
    [
        pytest.param(np.full(ROWS, LABEL.mean()), {"sound_scores"} | UNJUDGED, id="constant"),
        pytest.param(np.where(LABEL == 1, np.nan, GOOD), {"sound_scores"} | UNJUDGED, id="nan"),
        pytest.param(1 - GOOD, {"gain_over_baseline"}, id="inverted"),
        pytest.param(RANDOM.permutation(GOOD), {"gain_over_baseline"}, id="shuffled"),
        pytest.param(BASELINE.scores, {"gain_over_baseline"}, id="as good as the baseline"),
        pytest.param(blurred(0.3), {"gain_over_baseline"}, id="worse than the baseline"),
        pytest.param(LEAKY, {"leak_suspect"}, id="leaky"),
    ],
)
def test_a_bad_candidate_fails_the_gate_that_is_there_for_it(scores, gates):
    assert failed(scores) == gates


def test_too_few_rows_or_days():
    assert "enough_rows" in failed(GOOD, rows=slice(LIMITS.min_rows - 1))
    few_days = d.Gates(min_days=29)
    outcomes = judge(LABEL, DAYS, contender("candidate", GOOD), BASELINE, None, few_days)
    assert [o.name for o in outcomes if not o.passed] == ["enough_rows"]


@pytest.mark.parametrize("name", ["candidate", "baseline", "champion"])
def test_rows_that_any_of_the_models_was_trained_on(name):
    through = {name: CUTOFF + timedelta(days=3)}
    models = [
        contender(n, s, through.get(n, CUTOFF))
        for n, s in (("candidate", GOOD), ("baseline", BASELINE.scores), ("champion", GOOD))
    ]
    (outcome,) = [o for o in judge(LABEL, DAYS, *models, LIMITS) if not o.passed]
    assert outcome.name == "untouched_rows"
    assert f"{name} saw days through 2013-08-03" in outcome.detail


def test_worse_than_the_champion():
    champion = contender("champion", blurred(0.01))
    assert failed(blurred(0.12), champion) == {"not_worse_than_champion"}


# --- promotion -------------------------------------------------------------------------------

Stage = tuple[Lakehouse, ModelRegistry, Product, ModelVersion]


@pytest.fixture(scope="module")
def product() -> Product:
    """As much of a declaration as promotion asks for."""
    return Product(
        name="late_flights",
        description="Late?",
        owners=(),
        problem="mlops_assets.defs.flight_delays.problem",
        spine=d.Spine(table="a/spine", entity_keys=["date"], lead_hours=2),
        label=d.Label(table="a/events", known_after_days=2),
        features=d.Features(declared_in="mlops_assets.defs.nyc_flights.features", tables=[]),
        training=d.Training(first_cutoff=CUTOFF),
        gates=LIMITS,
        promotion=d.Promotion(),
        monitoring=d.Monitoring(),
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    home = tmp_path_factory.mktemp("registry")
    return ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")


@pytest.fixture(scope="module")
def version(registry: ModelRegistry, product: Product, tmp_path_factory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("model") / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights")
    with registry.training_run(product.name, tags={}) as run:
        return registry.register(
            run,
            product.name,
            folder,
            inputs=pl.DataFrame({"hour": [5]}),
            outputs=np.array([0.2]),
            tags={"family": "xgboost"},
            pip_requirements=[],
        )


@pytest.fixture
def judged(tmp_path: Path, product: Product, version: ModelVersion) -> Callable[..., Lakehouse]:
    """A lake with the outcomes of all gates, but for those that are absent or failed."""

    def lake(absent: str = "", failing: str = "") -> Lakehouse:
        store = Lakehouse(tmp_path / "lake")
        outcomes = [
            GateOutcome(gate, gate != failing, 0.5, 1.0, 0.5, None, None, 9, f"{gate} was asked")
            for gate in sorted(GATES - {absent})
        ]
        write_outcomes(store, product, version, outcomes, "run-1", "evaluation")
        return store

    return lake


def test_a_version_that_passed_every_gate_is_promoted(judged, registry, product, version):
    store = judged()
    assert refusals(store, product, version) == []
    promote(store, registry, product, version, "Ada", "reviewed", "run-2")
    assert registry.champion(product.name).version == version.version
    row = store.scan(product.table(PROMOTIONS)).collect().row(0, named=True)
    assert (row["status"], row["by"], row["digest"]) == ("promoted", "Ada", version.digest)


@pytest.mark.parametrize("gate", sorted(REQUIRED | {BENTO_GATE}))
@pytest.mark.parametrize("how", ["absent", "failing"])
def test_a_version_with_a_gate_missing_or_failed_is_not(
    judged, registry, product, version, gate, how
):
    store = judged(**{how: gate})
    reason = "not judged" if how == "absent" else f"{gate} was asked"
    assert refusals(store, product, version) == [f"{gate}: {reason}"]
    before = registry.by_alias(product.name, CHAMPION)
    other = replace(version, version=99)
    with pytest.raises(dg.Failure, match=f"99 is not promoted: {gate}: {reason}"):
        promote(store, registry, product, other, "Ada", "", "run-2")
    assert registry.by_alias(product.name, CHAMPION) == before
    assert not store.exists(product.table(PROMOTIONS))


def test_the_last_judgement_counts(judged, product, version):
    judged(failing="leak_suspect")
    assert refusals(judged(), product, version) == []
    assert refusals(judged(failing="enough_rows"), product, version) == [
        "enough_rows: enough_rows was asked"
    ]


def test_another_models_gates_do_not_count(judged, product, version):
    other = replace(version, digest="another")
    assert len(refusals(judged(), product, other)) == len(GATES)
