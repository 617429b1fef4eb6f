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
from mlops_assets.components.ml_product.incumbent import (
    PROMOTED,
    PROMOTIONS,
    WAITING,
    incumbent,
    objections,
    refusals,
    serving_version,
)
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import promote, write_promotion
from mlops_assets.components.ml_product.report import Contender, Limits, judge
from mlops_assets.ml.gates import REQUIRED, GateOutcome
from mlops_assets.ml.targets import BINARY
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion

ROWS, CUTOFF = 8_000, date(2013, 7, 31)
RANDOM = np.random.default_rng(7)
DAYS = np.array([CUTOFF + timedelta(days=1 + n % 28) for n in range(ROWS)], "datetime64[D]")
CHANCE = RANDOM.beta(1.2, 4, ROWS)
LABEL = (RANDOM.random(ROWS) < CHANCE).astype(int)
LIMITS = Limits(leak=0.82, min_gain=0.0, champion_margin=0.002, min_slope=0.7)


def contender(name: str, scores: np.ndarray) -> Contender:
    return Contender(name, scores, 0.3)


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
    outcomes = judge(pl.Series(LABEL[rows]), DAYS[rows], BINARY, *cut, LIMITS)
    assert all(o.detail for o in outcomes)
    return ON_SCORES - {o.name for o in outcomes if o.passed}


UNJUDGED = {"leak_suspect", "gain_over_baseline", "calibrated", "not_worse_than_champion"}
ON_SCORES = {"sound_scores"} | UNJUDGED


def test_a_good_candidate_passes_every_gate():
    assert failed(GOOD) == set()
    assert failed(GOOD, champion=contender("champion", blurred(0.08))) == set()


@pytest.mark.parametrize(
    ("scores", "gates"),
    [
        pytest.param(np.full(ROWS, LABEL.mean()), {"sound_scores"} | UNJUDGED, id="constant"),
        pytest.param(np.where(LABEL == 1, np.nan, GOOD), {"sound_scores"} | UNJUDGED, id="nan"),
        pytest.param(1 - GOOD, {"gain_over_baseline", "calibrated"}, id="inverted"),
        pytest.param(RANDOM.permutation(GOOD), {"gain_over_baseline", "calibrated"}, id="shuffled"),
        pytest.param(
            BASELINE.scores, {"gain_over_baseline", "calibrated"}, id="as good as the baseline"
        ),
        pytest.param(
            blurred(0.3), {"gain_over_baseline", "calibrated"}, id="worse than the baseline"
        ),
        pytest.param(LEAKY, {"leak_suspect"}, id="leaky"),
    ],
)
def test_a_bad_candidate_fails_the_gate_that_is_there_for_it(scores, gates):
    assert failed(scores) == gates


def test_one_day_is_too_few_to_compare_on():
    assert failed(GOOD, rows=slice(0, None, 28)) == UNJUDGED


def test_why_a_model_gave_no_scores_is_told():
    candidate = Contender("candidate", np.full(ROWS, np.nan), 0.3, "features: wind is not there")
    (outcome,) = judge(pl.Series(LABEL), DAYS, BINARY, candidate, BASELINE, None, LIMITS)
    assert (outcome.passed, outcome.detail) == (False, "features: wind is not there")


def test_worse_than_the_champion():
    champion = contender("champion", blurred(0.01))
    assert failed(blurred(0.08), champion) == {"not_worse_than_champion"}


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
        gates=d.Gates(),
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
            for gate in sorted(REQUIRED - {absent})
        ]
        write_outcomes(store, product, version, outcomes, "run-1", "evaluation")
        return store

    return lake


def test_a_version_that_passed_every_gate_is_promoted(judged, registry, product, version):
    store = judged()
    assert refusals(store, product.name, version) == []
    promote(store, registry, product, version, "Ada", "reviewed", "run-2")
    assert registry.champion(product.name).version == version.version
    row = store.scan(product.table(PROMOTIONS)).collect().row(0, named=True)
    assert (row["status"], row["by"], row["digest"]) == ("promoted", "Ada", version.digest)


@pytest.mark.parametrize("gate", sorted(REQUIRED))
@pytest.mark.parametrize("how", ["absent", "failing"])
def test_a_version_with_a_gate_missing_or_failed_is_not(
    judged, registry, product, version, gate, how
):
    store = judged(**{how: gate})
    reason = "not judged" if how == "absent" else f"{gate} was asked"
    assert refusals(store, product.name, version) == [f"{gate}: {reason}"]
    before = registry.by_alias(product.name, CHAMPION)
    other = replace(version, version=99)
    with pytest.raises(dg.Failure, match=f"99 is not promoted: {gate}: {reason}"):
        promote(store, registry, product, other, "Ada", "", "run-2")
    assert registry.by_alias(product.name, CHAMPION) == before
    assert not store.exists(product.table(PROMOTIONS))


def test_the_last_judgement_counts(judged, product, version):
    judged(failing="leak_suspect")
    assert refusals(judged(), product.name, version) == []
    assert refusals(judged(failing="enough_rows"), product.name, version) == [
        "enough_rows: enough_rows was asked"
    ]


def test_another_models_gates_do_not_count(judged, product, version):
    other = replace(version, digest="another")
    assert len(refusals(judged(), product.name, other)) == len(REQUIRED)


# --- what may serve ----------------------------------------------------------------------------


def test_a_gate_that_is_new_since_its_promotion_does_not_stop_the_champion(
    judged, registry, product, version
):
    store = judged(absent="calibrated")
    write_promotion(store, product, version, PROMOTED, "Ada", "", "run-2")
    registry.set_alias(product.name, CHAMPION, version.version)
    assert refusals(store, product.name, version) == ["calibrated: not judged"]
    assert objections(store, product.name, version) == []
    assert serving_version(store, registry, product.name).version == version.version


def test_a_gate_that_failed_since_its_promotion_does_and_another_may_take_its_place(
    judged, registry, product, version
):
    store = judged(failing="leak_suspect")
    write_promotion(store, product, version, PROMOTED, "Ada", "", "run-2")
    registry.set_alias(product.name, CHAMPION, version.version)
    with pytest.raises(dg.Failure, match="which did not pass leak_suspect: leak_suspect was asked"):
        serving_version(store, registry, product.name)
    assert incumbent(store, registry, product.name).digest == version.digest


def test_a_version_that_waits_for_a_person_does_not_serve_whatever_the_alias_says(
    judged, registry, product, version
):
    store = judged()
    write_promotion(store, product, version, WAITING, "automation", "", "run-2")
    registry.set_alias(product.name, CHAMPION, version.version)
    with pytest.raises(dg.Failure, match="which did not pass promotion: nobody promoted it"):
        serving_version(store, registry, product.name)
    assert incumbent(store, registry, product.name) is None


def test_a_registry_that_lost_a_promoted_version_is_refused(judged, registry, product, version):
    store = judged()
    write_promotion(store, product, version, PROMOTED, "Ada", "", "run-2")
    other = replace(version, digest="another")
    write_promotion(store, product, other, PROMOTED, "Ada", "", "run-3")
    with pytest.raises(
        dg.Failure, match=r"has another model as version 1, although .* \(digest an"
    ):
        incumbent(store, registry, product.name)
    missing = replace(version, version=7)
    write_promotion(store, product, missing, PROMOTED, "Ada", "", "run-4")
    with pytest.raises(dg.Failure, match="Put the database back from a backup"):
        serving_version(store, registry, product.name)
