"""Retrain cases on a small lake: one however long it drifts, the cool-down, and who settles it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import withdrawn, write_promotion
from mlops_assets.components.ml_product.quiet import quiet_through
from mlops_assets.components.ml_product.retrain_case import (
    asked_case,
    carried_out,
    cases,
    decisions,
    due_case,
    to_launch,
)
from mlops_assets.components.ml_product.retrain_decisions import Considered, decision, write
from mlops_assets.components.ml_product.rollback import served_before, worse_champion
from mlops_assets.components.ml_product.sensors import (
    ATTEMPTS,
    request,
    retrain_sensor,
    watch_sensor,
)
from mlops_assets.components.ml_product.shadow import Serving, first_scored, in_shadow, serving
from mlops_assets.components.ml_product.training import fit_version
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion

CUTOFF, COOL_DOWN = date(2013, 4, 30), 7
SINCE = CUTOFF + timedelta(days=1)
DAYS = [SINCE + timedelta(days=n) for n in range(67)]
WEIGHTS = {"hour": 0.9, "wind": 0.1}


@pytest.fixture(scope="module")
def product() -> Product:
    """As much of a declaration as a case asks for; a training would see too few new labels."""
    return Product(
        name="late",
        description="Late?",
        owners=(),
        problem="mlops_assets.defs.flight_delays.problem",
        spine=d.Spine(table="a/spine", entity_keys=["date"], lead_hours=2),
        label=d.Label(table="a/events", known_after_days=2),
        features=d.Features(
            declared_in="mlops_assets.defs.nyc_flights.features", tables=[], numeric=list(WEIGHTS)
        ),
        training=d.Training(first_cutoff=CUTOFF, families=["xgboost"]),
        gates=d.Gates(),
        promotion=d.Promotion(),
        monitoring=d.Monitoring(),
        retraining=d.Retraining(cool_down_days=COOL_DOWN, growth=10_000, min_new_labels=1_000_000),
    )


@pytest.fixture(scope="module")
def versions(
    product: Product, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelRegistry, list[ModelVersion]]:
    home = tmp_path_factory.mktemp("registry")
    registry = ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    made = []
    for number in (1, 2):
        folder = home / f"model-{number}"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(bytes([number]))
        code = {"code_version": fit_version(product, "xgboost")}
        with registry.training_run(product.name, tags=code) as run:
            made.append(
                registry.register(
                    run,
                    product.name,
                    folder,
                    inputs=pl.DataFrame({"hour": [5]}),
                    outputs=np.array([0.2]),
                    tags={"family": "xgboost", "cutoff": str(CUTOFF), "training_set_version": "0"},
                    pip_requirements=[],
                )
            )
    return registry, made


@pytest.fixture
def registry(versions, product) -> ModelRegistry:
    models, made = versions
    models.set_alias(product.name, CHAMPION, made[0].version)
    return models


@pytest.fixture
def store(tmp_path: Path, versions: Any, product: Product) -> Lakehouse:
    """A lake in which version 1 scores from SINCE on, and all that it leans on has drifted."""
    lake = Lakehouse(tmp_path / "lake")
    days = pl.DataFrame({"date": DAYS})
    one = pl.lit(1, pl.Int64)
    columns = pl.DataFrame({"column": list(WEIGHTS), "kind": ["numeric", "numeric"]})
    figures = {"model_version": one, "rows": pl.lit(900), "labelled": pl.lit(900)}
    rates = {"base_rate": pl.lit(0.2), "mean_prediction": pl.lit(0.2), "log_loss": pl.lit(0.4)}
    daily = {
        "a/spine": days.with_columns(flight=one),
        "late/predictions": days.with_columns(model_version=one, revision=one),
        "late/performance": days.with_columns(**figures, **rates),
        "late/drift": days.join(columns, how="cross").with_columns(
            value=0.5, drifted=True, model_version=one
        ),
    }
    for name, rows in daily.items():
        lake.append(name, rows, Commit(), by="date")
    label = pl.DataFrame({"label": [1, 0, 0, 0, 0] * 20})
    digest = versions[1][0].digest
    leaned = pl.DataFrame({"column": list(WEIGHTS), "weight": list(WEIGHTS.values())})
    lake.overwrite("late/training_set", label, Commit())
    lake.overwrite("late/importance", leaned.with_columns(digest=pl.lit(digest)), Commit())
    write_promotion(lake, product, versions[1][0], "promoted", "automation", "", "run")
    return lake


@pytest.fixture
def walk(store, registry, product) -> Callable[..., None]:
    """Look on each of some days, and decide what is due."""

    def days(those: list[date], done: frozenset[str] = frozenset(), **asked: str) -> None:
        for today in those:
            said = Considered(**asked)
            if said.opened_by:
                case = asked_case(store, registry, product, today, set(done), said.opened_by, "")
            else:
                case = due_case(store, registry, product, today, set(done))
            if case:
                write(store, product, decision(store, registry, product, case, said), "run")

    return days


def test_sixty_drifting_days_are_one_case_that_is_looked_at_after_each_cool_down(
    store, product, walk
):
    walk(DAYS)
    rows = decisions(store, product)
    first = SINCE + timedelta(days=COOL_DOWN)
    assert rows["day"].to_list() == [first + timedelta(days=n) for n in range(0, 60, COOL_DOWN)]
    assert set(rows["case_id"]) == {f"late-v1-{first}"}
    assert rows["review"].to_list() == list(range(1, rows.height + 1))
    assert set(rows["verdict"]) == {"wait"}
    assert set(rows["fired"]) == {"covariate_drift"}
    (case,) = cases(rows, 1, set()).to_dicts()
    assert (case["state"], case["decisions"]) == ("open", rows.height)


def test_on_quiet_days_no_case_is_due_and_on_the_day_after_one_is(store, registry, product, walk):
    today = SINCE
    for _ in range(4):
        quiet = quiet_through(store, registry, product, today, set())
        span = [today + timedelta(days=n) for n in range(1, (quiet - today).days + 1)]
        assert len(span) == COOL_DOWN - 1
        assert not any(due_case(store, registry, product, day, set()) for day in span)
        today = quiet + timedelta(days=1)
        assert due_case(store, registry, product, today, set())
        assert quiet_through(store, registry, product, today, set()) == today
        walk([today])


def test_a_predecessor_ends_the_quiet_days_before_the_cool_down_does(
    store, registry, product, versions
):
    patient = replace(product, retraining=d.Retraining(cool_down_days=60, shadow_min_days=10))
    today = DAYS[10]
    after = (DAYS[0] - today).days + 60 - 1  # version 1 serves since DAYS[0] and had none before it
    assert quiet_through(store, registry, patient, today, set()) == today + timedelta(days=after)
    registry.set_alias(product.name, CHAMPION, versions[1][1].version)
    # Version 2 scores from tomorrow on; its tenth day has its labels two days later.
    assert quiet_through(store, registry, patient, today, set()) == today + timedelta(days=11)


def test_days_on_which_nobody_looked_are_not_missed(store, product, walk):
    """Drift in May only, and the first look in July."""
    calm = DAYS[25:]
    store.overwrite_partitions(
        "late/drift",
        store.scan("late/drift", first=calm[0]).collect().with_columns(drifted=False),
        by="date",
        partitions=[str(day) for day in calm],
        commit=Commit(),
    )
    walk(DAYS[-1:])
    (row,) = decisions(store, product).to_dicts()
    assert row["day"] == DAYS[-1]
    walk([DAYS[-1]])
    assert decisions(store, product).height == 1


def test_without_a_signal_there_is_no_case(store, product, walk):
    rows = store.scan("late/drift").collect().with_columns(drifted=False)
    store.overwrite("late/drift", rows, Commit())
    walk(DAYS[-3:])
    assert decisions(store, product).is_empty()


def test_a_corrupt_drift_row_silences_nothing_and_is_named(store, registry, product):
    bad = DAYS[20]
    rows = store.scan("late/drift", first=bad, last=bad).collect()
    broken = pl.when(pl.col("column") == "hour").then(float("nan")).otherwise("value")
    store.overwrite_partitions(
        "late/drift", rows.with_columns(value=broken), by="date", partitions=[str(bad)],
        commit=Commit(),
    )  # fmt: skip
    case = due_case(store, registry, product, bad, set())
    (drift,) = [signal for signal in case.signals if signal.name == "covariate_drift"]
    assert drift.fired
    assert f"1 rows cannot be read and are left out, of {bad}" in drift.detail


def test_a_person_settles_the_open_case_and_the_next_is_another(store, product, walk):
    first = SINCE + timedelta(days=COOL_DOWN)
    walk([first])
    walk([first + timedelta(days=1)], opened_by="Ada", verdict="wait", reason="spring")
    rows = decisions(store, product)
    assert rows["case_id"].n_unique() == 1
    assert rows.select("by", "verdict", "reason").row(1) == ("Ada", "wait", "spring")
    assert cases(rows, 1, set())["state"].to_list() == ["closed"]
    walk([day for day in DAYS if day > first + timedelta(days=1)][: COOL_DOWN + 1])
    later = decisions(store, product)
    assert later["case_id"].n_unique() == 2
    assert later["day"][-1] == first + timedelta(days=1 + COOL_DOWN)


def test_a_decision_waits_until_its_training_set_is_cut(store, registry, product, walk):
    walk([DAYS[40]], opened_by="Ada", verdict="retrain", cutoff=str(DAYS[10]))
    rows = decisions(store, product)
    wanted = to_launch(rows, 1, set())
    assert (wanted["cutoff"], wanted["by"]) == (DAYS[10], "Ada")
    assert due_case(store, registry, product, DAYS[-1], set()) is None

    with dg.DagsterInstance.ephemeral() as instance:
        assert carried_out(instance, product) == set()
        cut = dg.AssetMaterialization(
            ["late", "training_set"], metadata={"decision": wanted["decision_id"]}
        )
        instance.report_runless_asset_event(cut)
        done = carried_out(instance, product)
    assert to_launch(rows, 1, done) is None
    assert due_case(store, registry, product, DAYS[40], done) is None
    assert due_case(store, registry, product, DAYS[-1], done) is not None
    assert to_launch(rows, 2, set()) is None  # it was about another champion


def test_what_two_daemons_decide_at_once_is_one_row(store, registry, product):
    case = due_case(store, registry, product, DAYS[30], set())
    row = decision(store, registry, product, case, Considered())
    with ThreadPoolExecutor(4) as daemons:
        list(daemons.map(lambda run: write(store, product, row, run), ["a", "b", "c", "d"]))
    assert decisions(store, product).height == 1
    write(store, product, row | {"verdict": "retrain"}, "later")
    assert decisions(store, product)["verdict"].to_list() == ["wait"]


def test_a_case_is_about_what_was_promoted_wherever_somebody_moved_the_alias(
    store, registry, product, versions
):
    registry.set_alias(product.name, CHAMPION, versions[1][1].version)
    case = due_case(store, registry, product, DAYS[30], set())
    assert (case.champion, case.id) == (1, f"late-v1-{DAYS[30]}")
    assert asked_case(store, registry, product, DAYS[30], set(), "Ada", "").champion == 1
    assert worse_champion(store, registry, product) is None
    back = served_before(store, registry, product)
    assert (back.version, back.aliases) == (1, ())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"verdict": "perhaps", "opened_by": "Ada"}, "verdict 'perhaps' is none"),
        ({"verdict": "retrain"}, "needs opened_by"),
    ],
)
def test_a_verdict_that_is_none_or_that_nobody_signs(asked, message):
    with pytest.raises(dg.Failure, match=message):
        Considered(**asked).checked("late")


def test_a_clock_that_was_set_back_brings_nothing_back_that_was_rolled_back(
    store, product, versions
):
    version = versions[1][1]
    for status in ("promoted", "rolled_back"):
        write_promotion(store, product, version, status, "automation", "", "run")
    ahead = datetime.now(UTC) + timedelta(days=3)
    rows = store.scan("late/promotions").collect().filter(status="rolled_back")
    later = rows.with_columns(decided_at=pl.lit(ahead), status=pl.lit("promoted"))
    store.append("late/promotions", later, Commit())
    assert not withdrawn(store, product, version)
    write_promotion(store, product, version, "rolled_back", "automation", "", "run")
    assert withdrawn(store, product, version)


def test_a_candidate_that_waits_for_a_person_comes_first(store, registry, product, versions):
    assert due_case(store, registry, product, DAYS[30], set()) is not None
    write_promotion(store, product, versions[1][1], "waiting", "automation", "", "run")
    assert due_case(store, registry, product, DAYS[30], set()) is None


def test_what_failed_is_asked_for_again_but_not_for_ever():
    with dg.DagsterInstance.ephemeral() as instance:
        keys = []
        for number in range(ATTEMPTS):
            asked = request(instance, "late_consider", "late-v1")
            assert isinstance(asked, dg.RunRequest)
            keys.append(asked.run_key)
            instance.add_run(
                dg.DagsterRun(
                    "late_consider",
                    run_id=f"run-{number}",
                    status=dg.DagsterRunStatus.FAILURE,
                    tags=dict(asked.tags),
                )
            )
        assert len(set(keys)) == ATTEMPTS
        refused = request(instance, "late_consider", "late-v1")
        assert "late_consider failed 3 times for late-v1" in refused.skip_message
        assert isinstance(request(instance, "late_consider", "late-v2"), dg.RunRequest)


@pytest.fixture
def tick(store, registry, product, tmp_path) -> Callable[..., dg.SensorExecutionData]:
    """One look of a sensor of the product in some mode."""
    resources = {
        "lakehouse": LakehouseResource(uri=store.uri),
        "registry": ModelRegistryResource(
            tracking_uri=registry.tracking_uri, artifact_uri=str(tmp_path), ui_url=""
        ),
    }

    def look(make: Callable[..., dg.SensorDefinition], mode: str) -> dg.SensorExecutionData:
        declared = product.retraining.model_copy(update={"mode": mode})
        names = ["late_consider", "late_rollback"] if make is watch_sensor else ["late_retrain"]
        jobs = [dg.define_asset_job(name) for name in names]
        sensor = make(replace(product, retraining=declared), *jobs)
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(instance=instance, resources=resources) as context,
        ):
            return sensor.evaluate_tick(context)

    return look


@pytest.mark.parametrize(("mode", "asks"), [("auto", 1), ("notify", 1), ("off", 0)])
def test_a_case_is_decided_by_itself_unless_that_is_off(tick, mode, asks):
    found = tick(watch_sensor, mode)
    assert len(found.run_requests or []) == asks
    # The cursor moves only when nothing is due, so that no case is forgotten.
    assert bool(found.cursor) is not bool(asks)


@pytest.mark.parametrize(("mode", "asks"), [("auto", 1), ("notify", 0), ("off", 0)])
def test_a_retraining_that_no_person_decided_is_launched_in_mode_auto_only(
    store, registry, product, tick, mode, asks
):
    case = due_case(store, registry, product, DAYS[30], set())
    row = decision(store, registry, product, case, Considered())
    write(store, product, row | {"verdict": "retrain", "cutoff": DAYS[10]}, "run")
    found = tick(retrain_sensor, mode)
    assert len(found.run_requests or []) == asks
    if not asks:
        assert f"the mode is {mode}, so a person launches it" in found.skip_message


@pytest.mark.parametrize("mode", ["auto", "notify", "off"])
def test_what_a_person_decides_is_launched_in_every_mode(walk, tick, mode):
    walk([DAYS[40]], opened_by="Ada", verdict="retrain", cutoff=str(DAYS[10]))
    (asked,) = tick(retrain_sensor, mode).run_requests
    config = asked.run_config["ops"]["late__training_set"]["config"]
    assert config["cutoff"] == str(DAYS[10])
    assert config["decision"].endswith("-by-a-person")


def scored(*spans: tuple[int, int]) -> pl.DataFrame:
    """`first_scored` of (version, days) one after the other."""
    numbers = [version for version, days in spans for _ in range(days)]
    return pl.DataFrame({"date": DAYS[: len(numbers)], "model_version": numbers})


def test_who_served_since_when_and_after_whom():
    assert serving(scored(), DAYS[0]) is None
    assert serving(scored((1, 9)), DAYS[8]) == Serving(1, DAYS[0], None)
    assert serving(scored((1, 9), (2, 5)), DAYS[13]) == Serving(2, DAYS[9], 1)
    assert serving(scored((1, 9), (2, 5)), DAYS[8]) == Serving(1, DAYS[0], None)
    back = serving(scored((1, 9), (2, 5), (1, 3)), DAYS[16])
    assert back == Serving(1, DAYS[14], None)  # one that came back has no predecessor
    after = serving(scored((1, 9), (2, 5), (1, 3), (3, 1)), DAYS[17])
    assert after == Serving(3, DAYS[17], 1)


def test_a_late_day_that_the_new_champion_scored_moves_no_handover():
    late = scored((1, 3), (2, 1), (1, 5), (2, 4))
    assert serving(late, DAYS[12]) == Serving(2, DAYS[9], 1)


def test_the_shadow_ends_after_its_days(product):
    found = Serving(2, DAYS[0], 1)
    days = product.retraining.shadow_days
    assert in_shadow(found, DAYS[days - 1], product) == 1
    assert in_shadow(found, DAYS[days], product) is None
    assert in_shadow(Serving(1, DAYS[0], None), DAYS[0], product) is None


def test_a_later_revision_says_nothing_of_who_served(store, product):
    again = store.scan("late/predictions").head(5).collect()
    revised = again.with_columns(model_version=pl.lit(2, pl.Int64), revision=pl.lit(2, pl.Int64))
    store.append("late/predictions", revised, Commit(), by="date")
    assert set(first_scored(store, product)["model_version"]) == {1}
