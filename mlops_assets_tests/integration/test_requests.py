"""From a running Bento back to the lake: killed while it answers, shipped, traced, held against."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from bentos.tabular.scoring import Asked, Scorer
from bentos.tabular.versions import Loaded, Serving
from mlops_assets.cli import app
from mlops_assets.components.loop import evaluate, loop_sensors
from mlops_assets.components.ml_product.pins import pins
from mlops_assets.components.ml_product.trace import UnknownPrediction, trace
from mlops_assets.components.ml_product.trial import requests_of
from mlops_assets.ml.point_in_time import Definition, Trailing
from mlops_assets.stores.bento_store import BentoStore
from mlops_assets.stores.online_features import OnlineFeatures, Spine
from mlops_assets.stores.online_store import open_store
from mlops_assets.stores.request_log import RequestLog
from mlops_assets_tests.integration.conftest import TODAY, Flow, copied

pytestmark = pytest.mark.slow

ASKED = 40


@dataclass(frozen=True)
class Asking:
    """A home whose Bento was asked and then killed, and what it said."""

    flow: Flow
    requests: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    ran: list[str]


@pytest.fixture(scope="module")
def asked(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with copied(settled, tmp_path_factory.mktemp("asked") / "home") as flow:
        view = flow.table("feature_view").filter(date=TODAY).head(ASKED)
        bentos = BentoStore(flow.home / "bentos")
        tag = flow.table("bento")["tag"][0]
        requests = requests_of(flow.lakehouse, bentos.contract(tag), view)
        answers = []
        environment = {"MLOPS_HOME": str(flow.home), "MLOPS_API_TOKENS": "", "MLOPS_BESIDE": ""}
        with bentos.serve(tag, environment, ready_within=180) as bento:
            answers += [bento.predict(request) for request in requests[: ASKED // 2]]
            answers += bento.predict_batch(requests[ASKED // 2 :])
            for pid in bento.pids:
                os.kill(pid, signal.SIGKILL)
        yield Asking(flow, requests, answers, came_back(flow))


def came_back(flow: Flow) -> list[str]:
    """What the sensor asks for, and then automation, until all of it is done; in that order."""
    (sensor,) = [s for s in loop_sensors(flow.engine.definitions) if s.name.endswith("_requests")]
    (asked_for,) = evaluate(flow.engine, sensor).run_requests
    runs = [flow.engine.run_job(asked_for.job_name, asked_for.run_config, asked_for.tags)]
    for name in ("skew", "online_performance"):
        assert flow.product.key(name) in flow.engine.due()
        runs.append(flow.run(name))
    assert [run.error for run in runs] == [None] * 3
    assert "no closed segment waits" in evaluate(flow.engine, sensor).skip_message
    return [asset for run in runs for asset in run.assets]


def logged(flow: Flow) -> pl.DataFrame:
    return flow.table("requests").filter(role="answer")


def scorer(flow: Flow, definitions: dict[str, Definition] | None = None) -> Scorer:
    """What a server has inside, perhaps with definitions that are not the product's."""
    contract = BentoStore(flow.home / "bentos").contract(flow.table("bento")["tag"][0])
    version = flow.registry.champion(flow.product.name)
    online = OnlineFeatures(
        open_store(f"lmdb://{flow.home / 'online'}", read_only=True), flow.product.name,
        definitions or contract.definitions(),
        Spine(contract.spine_table, contract.spine_keys, contract.spine_columns),
    )  # fmt: skip
    loaded = Loaded(
        version.version, version.digest, contract.threshold, flow.registry.load(version)
    )
    log = RequestLog(flow.home / "requests", flow.product.name)
    return Scorer(contract, online, log, Serving(loaded))


def ask(scorer: Scorer, requests: list[dict[str, Any]]) -> list[str]:
    """The ids of the answers to some requests, which are in a closed segment then."""
    given = [
        row | {"scheduled_departure": datetime.fromisoformat(row["scheduled_departure"])}
        for row in requests
    ]
    answers = scorer.answer([Asked.now(row) for row in given])
    scorer.close()
    return [answer.prediction_id for answer in answers]


def known(request: str) -> list[str]:
    """What a request says, without what it leaves open."""
    return sorted(f"{k}={v}" for k, v in json.loads(request).items() if v is not None)


def shipped(flow: Flow) -> str | None:
    """Ship what waits and hold it against the offline path; what went wrong."""
    assert flow.run("requests").error is None
    return flow.run("skew").error


# --- the log -----------------------------------------------------------------------------------


def test_every_answer_of_a_server_that_was_killed_is_in_the_lake_once(asked):
    assert asked.ran[0] == "flight_delays/requests"
    rows = logged(asked.flow)
    assert sorted(rows["prediction_id"]) == sorted(a["prediction_id"] for a in asked.answers)
    said = {a["prediction_id"]: a["probability"] for a in asked.answers}
    assert dict(rows.select("prediction_id", "probability").iter_rows()) == said
    given = [json.dumps(request).replace("+00:00", "Z") for request in asked.requests]
    assert sorted(map(known, rows["request"])) == sorted(map(known, given))
    assert list((asked.flow.home / "requests").rglob("*.jsonl")) == []


def test_what_is_shipped_and_compared_is_not_asked_for_again(asked):
    names = ("requests", "skew", "online_performance")
    assert not {asked.flow.product.key(name) for name in names} & asked.flow.engine.due().keys()


def test_served_answers_are_those_of_the_batch_path(asked):
    flow = asked.flow
    keys = flow.product.spine.entity_keys
    parsed = logged(flow)["key"].str.json_decode(
        pl.Struct({k: pl.Int64() if k == "flight" else pl.String() for k in keys})
    )
    served = logged(flow).select("probability").hstack(parsed.struct.unnest())
    served = served.with_columns(pl.col("date").str.to_date())
    both = served.join(flow.table("predictions"), on=keys, suffix="_batch")
    assert both.height == ASKED
    assert (both["probability"] - both["probability_batch"]).abs().max() <= 1e-6


def test_online_and_offline_agree_cell_by_cell(asked):
    row = asked.flow.table("skew").row(0, named=True)
    assert row["requests"] == ASKED
    assert row["cells"] == ASKED * (len(asked.flow.product.columns.names) + 1)
    assert (row["differing"], row["unresolved"], row["why"]) == (0, 0, "")


def test_served_answers_have_the_labels_that_are_known(asked):
    flow = asked.flow
    figures = flow.table("online_performance").row(0, named=True)
    assert (figures["role"], figures["arm"]) == ("answer", "champion")
    assert (figures["date"], figures["rows"]) == (TODAY, ASKED)
    arrived = flow.table("nyc_flights/flight_events").filter(event="arrival", flight_date=TODAY)
    asked_for = flow.table("feature_view").filter(date=TODAY).head(ASKED)
    keys = [key for key in flow.product.spine.entity_keys if key != "date"]
    assert figures["labelled"] == asked_for.join(arrived, on=keys, how="semi").height


def test_what_was_answered_from_stays_readable(asked):
    flow = asked.flow
    generation = flow.table("online_features").filter(
        pl.col("generation") == logged(flow)["generation"][0]
    )
    found = pins(flow.lakehouse, flow.registry, [flow.product])
    for table, version in generation.select("table", "delta_version").iter_rows():
        assert any("requests were answered" in why for why in found[table][version])


# --- receipts ----------------------------------------------------------------------------------


def test_an_online_answer_is_traced_to_the_same_number(asked):
    flow, answer = asked.flow, asked.answers[3]
    found = trace(flow.lakehouse, flow.registry, flow.product, answer["prediction_id"])
    champion = flow.registry.champion(flow.product.name)
    assert (found.path, found.same, found.features_differing) == ("online", True, {})
    assert found.computed_again == pytest.approx(answer["probability"], abs=1e-6)
    assert (found.model["version"], found.model["digest"]) == (champion.version, champion.digest)
    assert found.training_set["flight_delays/training_set"] == 0
    assert {gate["gate"] for gate in found.gates} >= {"leak_suspect", "answers_as_batch"}
    assert found.promotions[0]["status"] == "promoted"
    assert list(found.features) == list(flow.product.columns.names)
    assert set(found.features_from) == {flow.product.spine.table, *flow.product.definitions}
    why = found.contributions
    assert (why["unit"], len(why["largest"])) == ("log-odds", 10)
    assert 1 / (1 + math.exp(-why["margin"])) == pytest.approx(answer["probability"], abs=1e-6)
    summed = why["base"] + why["others"] + sum(each["contribution"] for each in why["largest"])
    assert summed == pytest.approx(why["margin"])
    assert all(found.features[each["feature"]] == each["value"] for each in why["largest"])


def test_a_batch_prediction_is_traced_to_the_same_number(asked):
    flow = asked.flow
    row = flow.table("predictions").filter(date=TODAY).row(5, named=True)
    found = trace(flow.lakehouse, flow.registry, flow.product, row["prediction_id"])
    assert (found.path, found.same) == ("batch", True)
    assert found.features_content == row["features_version"]
    view = flow.table("feature_view").filter(
        pl.col(k) == row[k] for k in flow.product.spine.entity_keys
    )
    assert found.features == view.select(flow.product.columns.names).row(0, named=True)


def test_the_command_gives_the_receipt_as_json_and_refuses_what_nobody_said(asked):
    known = asked.answers[0]["prediction_id"]
    done = CliRunner().invoke(app, ["trace", known, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["answer"]["prediction_id"] == known
    sizes = [abs(e["contribution"]) for e in json.loads(done.stdout)["contributions"]["largest"]]
    assert sizes == sorted(sizes, reverse=True)
    unknown = CliRunner().invoke(app, ["trace", "flight_delays:q:00"])
    assert unknown.exit_code == 1
    assert "no answer has the id 'flight_delays:q:00'" in unknown.output
    assert "An id looks like flight_delays:" in unknown.output
    with pytest.raises(UnknownPrediction):
        trace(asked.flow.lakehouse, asked.flow.registry, asked.flow.product, known + "0")


# --- skew --------------------------------------------------------------------------------------


@pytest.fixture
def fresh(asked: Asking, tmp_path: Path) -> Iterator[Flow]:
    with copied(asked.flow.home, tmp_path / "home") as flow:
        yield flow


def test_a_definition_that_differs_online_is_seen_and_named(asked, fresh):
    table = "nyc_flights/carrier_delays"
    right = fresh.product.definitions[table]
    assert isinstance(right, Trailing)
    wrong = replace(right, windows=right.windows | {"24h": timedelta(hours=23)})
    made = ask(scorer(fresh, fresh.product.definitions | {table: wrong}), asked.requests)

    failed = shipped(fresh)

    assert "1 blocking asset check failed" in failed
    assert "skew: online_as_offline" in failed
    cells = fresh.table("skew_cells")
    assert set(cells["feature"]) <= {name for name in right.features if name.endswith("24h")}
    assert "carrier_late_rate_24h" in cells["feature"]
    found = trace(fresh.lakehouse, fresh.registry, fresh.product, cells["prediction_id"][0])
    assert cells["prediction_id"][0] in made
    assert not found.same
    assert found.features_differing.keys() <= set(right.features)
    # What follows from answers that cannot be trusted is withheld.
    assert fresh.product.key("online_performance") not in fresh.engine.due()


def test_a_store_that_this_lake_did_not_fill_is_no_proof(asked, fresh):
    from mlops_assets.components.ml_product.online_features import newest_days

    store = open_store(f"lmdb://{fresh.home / 'online'}")
    tables = newest_days(fresh.lakehouse, fresh.product)
    table = "nyc_flights/carrier_delays"
    chunks = dict(tables[table].packed.chunks)
    chunks.popitem()
    packed = replace(tables[table].packed, chunks=chunks)
    tables[table] = replace(tables[table], packed=packed)
    store.publish(fresh.product.name, tables, datetime.now().astimezone())
    ask(scorer(fresh), asked.requests[:5])

    assert "skew: online_as_offline" in shipped(fresh)
    row = fresh.table("skew").sort("checked_at").row(-1, named=True)
    assert (row["requests"], row["unresolved"]) == (5, 5)
    assert "was not filled by the asset flight_delays/online_features" in row["why"]
