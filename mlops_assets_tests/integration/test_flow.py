"""One whole flow over five weeks of real flights, from the source to drift, and what follows it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.components.engine import Report
from mlops_assets.components.ml_product.evaluation import write_outcomes
from mlops_assets.defs.nyc_flights import flights
from mlops_assets.ml.gates import REQUIRED, GateOutcome
from mlops_assets_tests.integration.conftest import (
    CUTOFF,
    NEWEST_LABELLED,
    TODAY,
    Flow,
    copied,
    opened,
    span,
)

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
EVENTS = dg.AssetKey(["nyc_flights", "flight_events"])
PARENT = "mlflow.parentRunId"
KEY = ["date", "carrier", "flight", "origin"]
RAW = ["flight_events", "flight_schedule", "weather"]
DELAYS = [
    f"nyc_flights/{by}_delays"
    for by in ("origin", "carrier", "carrier_origin", "route", "destination", "flight_number")
]
DEPARTURES = ["nyc_flights/departure_counts", "nyc_flights/same_hour_last_week"]
OF_A_DAY = [
    *(f"nyc_flights/{name}" for name in (*RAW, "weather_known", "scheduled_congestion")),
    *DELAYS,
    *DEPARTURES,
    *(f"flight_delays/{name}" for name in ("feature_view", "predictions", "performance", "drift")),
    "flight_delays/shadow_predictions",
    "flight_delays/online_features",
]


@pytest.fixture(scope="module")
def flow(settled: Path) -> Iterator[Flow]:
    """The settled lake, to read."""
    with opened(settled) as there:
        yield there


@pytest.fixture
def fresh(settled: Path, tmp_path: Path) -> Iterator[Flow]:
    """The settled lake, to change."""
    with copied(settled, tmp_path / "home") as there:
        yield there


# --- what is there afterwards ----------------------------------------------------------------


def test_every_table_has_rows(flow):
    made = ("training_set", "leaderboard", "evaluation", "evaluation_segments", "bento")
    expected = {*OF_A_DAY, *(f"flight_delays/{name}" for name in made)}
    rows = {name: flow.lakehouse.rows(name) for name in flow.lakehouse.tables()}
    assert expected <= rows.keys()
    # The first champion has no predecessor that could score in its shadow.
    empty = [name for name, count in rows.items() if not count]
    assert empty == ["flight_delays/shadow_predictions"]


def test_the_training_set_can_be_made_again_from_the_versions_it_pins(flow):
    made_of = flow.metadata("training_set")["made_of"].value
    assert all(flow.table(name, version).height for name, version in made_of.items())
    view = flow.table("feature_view", made_of["flight_delays/feature_view"])
    events = flow.table("nyc_flights/flight_events", made_of["nyc_flights/flight_events"])
    labels = flow.product.module.label(events.lazy()).select(*KEY, "label").collect()
    again = view.filter(pl.col("date") <= CUTOFF).join(labels, on=KEY)
    training_set = flow.table("training_set")
    assert training_set["date"].max() == CUTOFF
    assert_frame_equal(training_set, again, check_row_order=False)


def test_mlflow_has_the_trainings_their_trials_and_a_version_with_a_signature(flow):
    from mlflow.models import get_model_info

    runs = {run_id: run.data for run_id, run in flow.trainings().items()}
    trials = [run.tags[PARENT] for run in runs.values() if PARENT in run.tags]
    fits = {run.tags["family"]: run for run in runs.values() if PARENT not in run.tags}
    assert fits.keys() == {"hist_gradient_boosting", "logistic_regression"}
    assert all(fit.params and "validation_log_loss" in fit.metrics for fit in fits.values())
    assert [runs[fit].tags["family"] for fit in trials] == ["hist_gradient_boosting"]
    champion = flow.registry.champion("flight_delays")
    assert "evaluation_auc" in runs[champion.run_id].metrics
    signature = get_model_info(champion.source).signature
    assert signature.inputs.input_names() == list(flow.product.columns.names)


def test_no_file_of_a_model_or_a_bento_is_a_pickle(flow):
    folders = [flow.home / "artifacts", flow.home / "bentos"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "bento.yaml"} <= {path.name for path in files}
    pickled = [f for f in files if f.suffix in (".pkl", ".pickle", ".joblib") or _is_pickle(f)]
    assert pickled == []


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2)
    return head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")


def test_every_gate_has_a_row_and_the_champion_says_who_promoted_it(flow):
    results = flow.table("gate_results")
    assert set(results["gate"]) == REQUIRED | {"answers_as_batch"}
    assert results["passed"].all()
    champion = flow.registry.champion("flight_delays")
    promoted = flow.table("promotions").row(0, named=True)
    assert (promoted["status"], promoted["by"]) == ("promoted", "automation")
    assert (promoted["model_version"], promoted["digest"]) == (champion.version, champion.digest)


def test_predictions_begin_after_the_cut_off_and_say_what_made_them(flow):
    predictions = flow.table("predictions")
    assert sorted(predictions["date"].unique()) == span(CUTOFF + DAY, TODAY)
    assert predictions["prediction_id"].is_unique().all()
    threshold = float(flow.registry.champion("flight_delays").tags["threshold"])
    assert predictions["threshold"].unique().to_list() == [threshold]
    assert (predictions["decision"] == (predictions["probability"] >= threshold)).all()
    assert predictions["probability"].is_between(0, 1).all()
    schedule = flow.table("nyc_flights/flight_schedule").filter(pl.col("date") > CUTOFF)
    asked = predictions.join(schedule, on=KEY, how="full", coalesce=True)
    assert asked.height == predictions.height == schedule.height
    lead = asked["scheduled_departure"] - asked["as_of"]
    assert lead.unique().to_list() == [timedelta(hours=2)]


def test_cancelled_flights_are_scored_and_not_counted_as_labelled(flow):
    arrived = flow.table("nyc_flights/flight_events").filter(event="arrival")
    on = {"left_on": KEY, "right_on": ["flight_date", *KEY[1:]]}
    without = flow.table("predictions").join(arrived, **on, how="anti")
    performance = flow.table("performance")
    assert sorted(performance["date"]) == span(CUTOFF + DAY, NEWEST_LABELLED)
    unlabelled = performance["rows"].sum() - performance["labelled"].sum()
    assert unlabelled == without.filter(pl.col("date") <= NEWEST_LABELLED).height > 0
    assert performance["auc"].is_between(0.4, 0.9).all()


def test_drift_has_a_row_for_each_column_and_day(flow):
    drift = flow.table("drift")
    columns = {*flow.product.columns.names, "probability"}
    days = span(CUTOFF + DAY, TODAY)
    assert set(drift["column"]) == columns
    assert sorted(drift["date"].unique()) == days
    assert drift.select("date", "column").is_unique().all()
    assert drift.height == len(columns) * len(days)
    assert drift.filter(pl.col("value").is_null() & pl.col("note").is_null()).is_empty()


def test_the_newest_day_of_performance_shows_the_trend(flow):
    assert flow.metadata("performance")["trend"].value.startswith("![log loss by day](data:image")


def test_the_newest_day_of_drift_links_an_evidently_report(flow):
    run_id = flow.registry.champion("flight_delays").run_id
    path = f"monitoring/drift-{TODAY}.html"
    assert flow.metadata("drift")["evidently_report"].value.endswith(f"{run_id}/artifacts/{path}")
    assert "<html" in flow.registry.run_files(run_id, path).read_text()


def test_what_the_champion_leans_on_is_told_by_rise_and_by_contribution(flow):
    found = flow.table("importance")
    assert found["column"].sort().to_list() == sorted(flow.product.columns.names)
    assert found["contribution"].null_count() == 0
    assert 0 <= found["contribution"].min() < found["contribution"].max()
    run_id = flow.registry.champion("flight_delays").run_id
    png = flow.registry.run_files(run_id, "evaluation/leans_on.png").read_bytes()
    assert png[:4] == b"\x89PNG"
    shown = flow.metadata("importance")["picture"].value
    assert shown == f"![leans_on](data:image/png;base64,{b64encode(png).decode()})"
    assert "| column | rise | weight | contribution |" in flow.table("model_card")["card"].item()


# --- what follows from a change --------------------------------------------------------------


def test_settling_again_does_nothing(flow):
    assert flow.engine.settle().runs == []


def test_a_new_day_is_predicted_and_watched_without_a_retraining(fresh):
    before = fresh.table("predictions")
    tomorrow = TODAY + DAY
    report = fresh.arrive(tomorrow, tomorrow)
    assert report.errors == []
    assert report.recomputed == dict.fromkeys(OF_A_DAY, 1)
    new = fresh.table("predictions").join(before, on="prediction_id", how="anti")
    assert new["date"].unique().to_list() == [tomorrow]
    assert fresh.table("drift")["date"].max() == tomorrow
    assert fresh.table("performance")["date"].max() == NEWEST_LABELLED + DAY


def test_a_correction_recomputes_what_it_can_reach_and_leaves_past_predictions(fresh, monkeypatch):
    corrected = CUTOFF + 2 * DAY
    tables = ("predictions", "performance", "feature_view")
    before = {name: fresh.table(name) for name in tables}
    monkeypatch.setattr(flights, "read_source", _with_a_late_flight(corrected))
    report = Report([fresh.engine.run([EVENTS], [corrected.isoformat()])])
    fresh.engine.settle(report)
    reach = 8 * DAY  # the longest window, the lead and an hour of daylight saving
    assert report.errors == []
    assert report.recomputed == {
        "nyc_flights/flight_events": 1,
        **dict.fromkeys((*DELAYS, *DEPARTURES), 1),
        "flight_delays/feature_view": len(span(corrected, corrected + reach)),
        "flight_delays/online_features": 1,
        "flight_delays/performance": len(span(CUTOFF + DAY, corrected)),
        "flight_delays/drift": len(span(corrected, TODAY)),
    }
    after = {name: fresh.table(name) for name in tables}
    assert_frame_equal(after["predictions"], before["predictions"], check_row_order=False)
    assert _differing(after["performance"], before["performance"])["date"].to_list() == [corrected]
    moved = _differing(after["feature_view"], before["feature_view"])
    assert corrected <= moved["date"].min() <= moved["date"].max() <= corrected + reach
    assert (moved["carrier"].eq("HA") | moved["origin"].eq("JFK") | moved["dest"].eq("HNL")).all()


def _with_a_late_flight(day: date):
    """The source in which Hawaiian 51 arrived an hour and a half late on that day."""
    read = flights.read_source
    theirs = (pl.date("year", "month", "day") == day) & (pl.col("carrier") == "HA")
    late = pl.when(theirs).then(90).otherwise(pl.col("arr_delay")).alias("arr_delay")
    return lambda name: read(name).with_columns(late) if name == "flights" else read(name)


def _differing(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Rows of `frame` that `other` does not have."""
    return frame.join(other, on=frame.columns, how="anti", nulls_equal=True)


def test_a_day_of_the_champions_training_is_not_scored(fresh):
    fresh.registry.set_tags("flight_delays", 1, {"cutoff": str(CUTOFF + 2 * DAY)})
    refused = fresh.run("predictions", CUTOFF + DAY)
    assert f"{CUTOFF + DAY} lie in the champion's training set" in refused.error
    assert f"reaches through {CUTOFF + 2 * DAY}; predictions begin the day after" in refused.error


def test_a_version_that_did_not_pass_scores_nothing_whatever_the_alias_says(fresh):
    version = fresh.registry.champion(fresh.product.name)
    leak = GateOutcome("leak_suspect", False, 0.9, 0.82, -0.08, None, None, 9_000, "AUC 0.9")
    write_outcomes(fresh.lakehouse, fresh.product, version, [leak], "", "evaluation")

    done = fresh.run("predictions", TODAY)

    assert f"names version {version.version}, which did not pass leak_suspect: AUC" in done.error
