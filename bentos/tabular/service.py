"""The Bento of any tabular model: what a caller knows in, a prediction with its origin out.

The model (`model/`), its contract (`contract.json`) and the image's packages (`requirements.txt`)
lie beside this file in a Bento; without them it does not import. The environment says where the
online store, the log, the lake and the registry are, see settings.py.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bentoml
import msgspec

from bentos.tabular.batching import Batcher
from bentos.tabular.document import document
from bentos.tabular.endpoint import Endpoint, Service
from bentos.tabular.image import environment, image
from bentos.tabular.metrics import Metrics
from bentos.tabular.rows import request_types
from bentos.tabular.scoring import Scorer
from bentos.tabular.settings import Settings
from bentos.tabular.versions import Versions
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.online_features import OnlineFeatures, Spine
from mlops_assets.stores.online_store import (
    OnlineStore,
    OnlineStoreError,
    open_store,
    without_password,
)
from mlops_assets.stores.request_log import RequestLog

HERE = Path(__file__).parent
CONTRACT = Contract.read(HERE / "contract.json")
ROW, ROWS = request_types(CONTRACT)
FOLLOW_SECONDS = 1.0
RETRY_AFTER = 5
"""Looks that a version which could not be taken over is left alone, unless another is named."""

_logger = logging.getLogger("bentoml.tabular")
_started: list[Service] = []


@bentoml.service(
    name=CONTRACT.product,
    description=f"Predictions of {CONTRACT.product}.",
    image=image(HERE / "requirements.txt"),
    envs=environment(CONTRACT.device),
    workers=1,
    logging={"access": {"enabled": False}},
    # Its labels are the paths that callers ask for, of which there is no end; metrics.py has ours.
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
class Tabular:
    """One product's model, loaded and tried before the first request is read.

    Raises:
        SettingError, MayNotServe, OnlineStoreError, ValueError: it does not start; the log says
            which setting, version, store or device it lacks.
    """

    def __init__(self) -> None:
        settings = Settings.read()
        self._metrics = Metrics()
        self._versions = Versions(CONTRACT, HERE / "model", settings)
        spine = Spine(CONTRACT.spine_table, CONTRACT.spine_keys, CONTRACT.spine_columns)
        self._online = OnlineFeatures(
            open_store(settings.online_store, read_only=True),
            CONTRACT.product,
            CONTRACT.definitions(),
            spine,
            copy=_copy_of(settings),
        )
        with suppress(OnlineStoreError):  # Readiness says so, until the store is there.
            self._online.keep_copy()
        log = RequestLog(settings.request_log, CONTRACT.product)
        self._scorer = Scorer(CONTRACT, self._online, log, self._versions.first())
        self._metrics.serves(self._scorer.serving.champion)
        self._named: int | None = self._scorer.serving.champion.version
        self._looked_at = self._moved_after = time.monotonic()
        self._left_alone = 0
        self._end = threading.Event()
        self._follows = settings.tracking_uri is not None
        _started[:] = [self._service(settings)]
        threading.Thread(target=self._housekeeping, name="housekeeping", daemon=True).start()
        # What is there now stays; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    @bentoml.on_shutdown
    def close(self) -> None:
        """Close the log's segment, so that it ships at once."""
        self._end.set()
        self._scorer.close()

    def _service(self, settings: Settings) -> Service:
        in_thread = self._scorer.serving.champion.model.lets_go
        described = document(CONTRACT, ROW, ROWS, tokens=bool(settings.tokens))
        return Service(
            contract=CONTRACT,
            settings=settings,
            batcher=Batcher(self._scorer.answer, in_thread=in_thread),
            metrics=self._metrics,
            document=msgspec.json.encode(described),
            row=ROW,
            rows=ROWS,
            not_ready=self._not_ready,
        )

    def _not_ready(self) -> list[str]:
        reasons = []
        if not self._scorer.log_is_writable:
            reasons.append("the request log cannot be written")
        try:
            _ = self._online.snapshot
        except Exception as error:
            reasons.append(f"features cannot be looked up: {error}")
        return reasons

    def _housekeeping(self) -> None:
        """Once a second: roll the log, and take over what the registry's alias names."""
        told: dict[str, str] = {}
        while not self._end.wait(FOLLOW_SECONDS):
            for duty in (self._scorer.roll, self._online.keep_copy, self._follow):
                try:
                    duty()
                    told.pop(duty.__name__, None)
                except Exception as error:
                    # What goes on for hours is in the log once.
                    if told.get(duty.__name__) != str(error):
                        told[duty.__name__] = str(error)
                        _logger.warning("%s: %s", duty.__name__, error)

    def _follow(self) -> None:
        if not self._follows:
            return
        looked_at, named = time.monotonic(), self._versions.champion_number()
        if named != self._named:
            self._moved_after, self._left_alone = self._looked_at, 0
        self._named, self._looked_at = named, looked_at
        if named == self._scorer.serving.champion.version:
            return
        if self._left_alone:
            self._left_alone -= 1
            return
        try:
            serving = self._versions.asked()
        except Exception:
            self._left_alone = RETRY_AFTER
            self._metrics.refused.inc()
            raise
        # Counted first, so that who gets an answer of the new version finds it counted.
        self._metrics.swaps.inc()
        self._metrics.swap_seconds.set(time.monotonic() - self._moved_after)
        self._metrics.serves(serving.champion)
        self._scorer.serving = serving
        _logger.info("version %d serves", serving.champion.version)


def _copy_of(settings: Settings) -> OnlineStore | None:
    """A store beside the log that answers where a remote one does not; None for LMDB.

    It outlives the process, so that one that starts while the remote store is gone has it too.
    """
    uri = settings.online_store
    if uri.startswith("lmdb:"):
        return None
    name = blake2b(without_password(uri).encode(), digest_size=8).hexdigest()
    return open_store(f"lmdb://{settings.request_log.absolute()}/online-copy-{name}")


_service: Any = Tabular
_service.add_asgi_middleware(Endpoint, service=partial(_started.__getitem__, 0))
