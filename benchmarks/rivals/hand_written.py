"""The floor: a bare ASGI app that does the work of ours by hand, for this product alone.

msgspec decodes and encodes; what follows from the schedule is written out in plain Python; look-up,
model and log are the project's, in the order in which ours uses them. No OpenAPI document, no
metrics, no limits, no message that says what is wrong with a request, no other model than this one.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from benchmarks.rivals import settings
from mlops_assets.ml.families import Rows, load_model
from mlops_assets.ml.online import microseconds
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.online_features import OnlineFeatures, Spine
from mlops_assets.stores.online_store import open_store
from mlops_assets.stores.request_log import Record, RequestLog

SAID = settings()
CONTRACT = Contract.read(Path(SAID["contract"]))
MODEL = load_model(Path(SAID["model"]))
LOG = RequestLog(Path(SAID["log"]), CONTRACT.product)
REQUIRED = tuple(f.name for f in CONTRACT.request if f.required)
OPTIONAL = tuple(f.name for f in CONTRACT.request if not f.required)
ONLINE = OnlineFeatures(
    open_store(SAID["store"], read_only=True),
    CONTRACT.product,
    CONTRACT.definitions(),
    Spine(CONTRACT.spine_table, REQUIRED, OPTIONAL),
)
HASH, NAMES = CONTRACT.hash, CONTRACT.features
LEAD, HOUR, NEW_YORK = timedelta(hours=2), timedelta(hours=1), ZoneInfo("America/New_York")
EPOCH_DAY = 719_163
HEADERS = [(b"content-type", b"application/json")]


class Flight(msgspec.Struct):
    """What a caller gives."""

    carrier: str
    flight: int
    origin: str
    dest: str
    scheduled_departure: datetime


class Answer(msgspec.Struct):
    """What a caller gets."""

    prediction_id: str
    probability: float
    decision: bool
    threshold: float
    model_version: int
    as_of: datetime
    missing: list[str]
    stale: list[str]


decode = msgspec.json.Decoder(Flight).decode
encode = msgspec.json.Encoder().encode


def answer(flight: Flight) -> Answer:
    """Look up, compute, predict, log."""
    received_at, begun = time.time_ns() // 1000, time.perf_counter_ns()
    given = msgspec.structs.asdict(flight)
    given["scheduled_departure"] = flight.scheduled_departure.astimezone(UTC)
    (row,) = ONLINE.complete([given])
    local = row["scheduled_departure"].astimezone(NEW_YORK)
    as_of = row["prediction_time"] = row["scheduled_departure"] - LEAD
    row["departure_hour"] = row["scheduled_departure"].replace(minute=0, second=0, microsecond=0)
    row["scheduled_hour"] = local.hour + local.minute / 60
    row["weekday"] = local.isoweekday()
    arrival = row["scheduled_arrival"]
    row["scheduled_minutes"] = arrival and (arrival - row["scheduled_departure"]).seconds // 60
    (looked,) = ONLINE.look_up([row])
    row.update(looked.values)
    features = {name: row[name] for name in NAMES}
    missing = [name for name, value in features.items() if value is None]
    probability = float(MODEL.predict(Rows([features]))[0])
    decision = probability >= CONTRACT.threshold
    made = f"{CONTRACT.product}:q:{received_at:014x}{os.urandom(8).hex()}"
    day = local.date()
    key = {"date": day, "carrier": flight.carrier, "flight": flight.flight, "origin": flight.origin}
    version = int(CONTRACT.model_version)
    LOG.append(
        Record(
            prediction_id=made, received_at=received_at, product=CONTRACT.product, request=given,
            key=key, date=day.toordinal() - EPOCH_DAY, as_of=microseconds(as_of),
            features=features, missing=missing, stale=looked.stale, probability=probability,
            decision=decision, threshold=CONTRACT.threshold, model_version=version, digest="",
            generation=looked.generation, contract_hash=HASH, role="answer", arm="champion",
            duration_us=(time.perf_counter_ns() - begun) // 1000,
        )
    )  # fmt: skip
    return Answer(made, probability, decision, CONTRACT.threshold, version, as_of, missing,
                  looked.stale)  # fmt: skip


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`POST /predict`; anything else is answered with 404, but for readiness."""
    if scope["type"] != "http":
        return
    if scope["path"] != "/predict":
        status = 200 if scope["path"] == "/readyz" else 404
        await send({"type": "http.response.start", "status": status, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"{}"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        status, text = 200, encode(answer(decode(body)))
    except msgspec.MsgspecError as error:
        status, text = 400, encode({"error": str(error)})
    headers = [*HEADERS, (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
