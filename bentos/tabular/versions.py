"""The models that a server runs: the champion and what runs beside it, loaded and tried.

A server loads only what the lake has on record as promoted, whatever the registry's alias says.
Another champion of the same contract is taken over while requests go on; until it is loaded and
tried, and wherever the registry or the lake cannot be asked, what was there goes on serving.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bentos.tabular.settings import Beside, Settings
from mlops_assets.ml.families import Model, Rows, load_model
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_package import folder_digest
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.model_version import ModelVersion
from mlops_assets.stores.serving_truth import (
    MayNotServe,
    beside_version,
    objections,
    predecessor,
    serving_version,
)

CHAMPION = "champion"
CONTRACT_TAG = "contract"
"""Tag of a version in the registry: the hash of the contract that it was packaged with."""

_logger = logging.getLogger("bentoml.tabular")
_WHOLE = 2**64


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to predict.

    Attributes:
        version, digest: which one.
        threshold: of its decisions; None where it decides nothing.
        model: loaded and tried, on the device that was asked for.
        arm: "champion", or how the settings name it.
        share: part of the keys that it answers in the champion's place; 0 for none.
    """

    version: int
    digest: str
    threshold: float | None
    model: Model
    arm: str = CHAMPION
    share: float = 0.0


@dataclass(frozen=True)
class Serving:
    """What serves at one moment; a request sees one of these from beginning to end."""

    champion: Loaded
    beside: tuple[Loaded, ...] = ()

    @property
    def all(self) -> tuple[Loaded, ...]:
        """Every version that predicts each request."""
        return (self.champion, *self.beside)

    def answering(self, key: Sequence[Any]) -> Loaded:
        """Whose answer a key gets, the same one each time."""
        if not any(each.share for each in self.beside):
            return self.champion
        digest = hashlib.blake2b(repr(tuple(key)).encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / _WHOLE
        for each in self.beside:
            if place < each.share:
                return each
            place -= each.share
        return self.champion


class Versions:
    """Finds, checks and loads versions for one server.

    Args:
        contract: of the Bento.
        packaged: folder of the Bento's own model.
        settings: where lake and registry are.
    """

    def __init__(self, contract: Contract, packaged: Path, settings: Settings) -> None:
        self._contract, self._settings = contract, settings
        self._folder = packaged
        self._lake = Lakehouse(settings.lake_uri) if settings.lake_uri else None
        self._registry: ModelRegistry | None = None
        if settings.tracking_uri:
            # A registry that is down must not hold the thread that waits for it for minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
            self._registry = ModelRegistry(settings.tracking_uri)

    def first(self) -> Serving:
        """What serves when the server starts: the champion, or the packaged version if it may.

        Raises:
            MayNotServe: neither may serve.
            ValueError: the model is not the contract's, or the GPU that it needs is not there.
        """
        if self._registry is not None:
            try:
                return self.asked()
            except Exception as error:
                _logger.warning("the packaged version serves for now: %s", error)
        packaged = self._packaged()
        if not self._settings.trial:
            assert self._lake is not None  # Settings ask for it.
            if against := objections(self._lake, self._contract.product, packaged):
                raise MayNotServe(f"{packaged.label} may not serve: {'; '.join(against)}")
        threshold = self._contract.threshold
        return Serving(self._load(packaged, self._folder, threshold, CHAMPION, 0.0))

    def champion_number(self) -> int | None:
        """Which version the alias names now; asks the registry, and loads nothing."""
        assert self._registry is not None
        version = self._registry.named(self._contract.product, CHAMPION)
        return version.version if version else None

    def asked(self) -> Serving:
        """What the registry and the lake ask for, loaded and tried.

        Raises:
            MayNotServe: the alias names what may not serve, or what needs another Bento.
            ValueError: the model is not the contract's.
        """
        assert self._registry is not None
        assert self._lake is not None
        version = serving_version(self._lake, self._registry, self._contract.product)
        champion = self._of_registry(version, CHAMPION, 0.0)
        beside = (self._beside(each, version) for each in self._settings.beside)
        return Serving(champion, tuple(each for each in beside if each is not None))

    def _beside(self, asked: Beside, champion: ModelVersion) -> Loaded | None:
        """A version beside the champion; None, and a line in the log, where it cannot run."""
        assert self._registry is not None
        assert self._lake is not None
        product = self._contract.product
        try:
            if asked.version == "predecessor":
                before = predecessor(self._lake, self._registry, product, champion)
                if before is None:
                    return None
                number = before.version
            else:
                number = int(asked.version)
            version = beside_version(
                self._lake, self._registry, product, number, answers=asked.share > 0
            )
            if version.digest == champion.digest:
                return None
            return self._of_registry(version, asked.version, asked.share)
        except (LookupError, ValueError) as error:
            _logger.warning("%s does not run beside the champion: %s", asked.version, error)
            return None

    def _of_registry(self, version: ModelVersion, arm: str, share: float) -> Loaded:
        assert self._registry is not None
        if version.tags.get(CONTRACT_TAG) != self._contract.hash:
            raise MayNotServe(
                f"{version.label} has another contract than this Bento; start the Bento"
                f" {version.tags.get('bento', 'that it was packaged in')} beside it"
            )
        folder = self._registry.download(version)
        return self._load(version, folder, version.threshold, arm, share)

    def _packaged(self) -> ModelVersion:
        number, digest = int(self._contract.model_version), folder_digest(self._folder)
        return ModelVersion(self._contract.product, number, "", digest)

    def _load(
        self, version: ModelVersion, folder: Path, threshold: float | None, arm: str, share: float
    ) -> Loaded:
        model = load_model(folder)
        wanted = (self._contract.numeric, self._contract.categorical)
        if (model.columns.numeric, model.columns.categorical) != wanted:
            raise ValueError(f"the model reads {model.columns}, its contract says {wanted}")
        if model.target.task != self._contract.task:
            raise ValueError(
                f"the model is for a {model.target.task} task, its contract says"
                f" {self._contract.task}"
            )
        classes = tuple(model.target.to_json().get("classes", ()))
        # That of an older Bento may name none.
        if self._contract.classes and classes != self._contract.classes:
            raise ValueError(
                f"the model tells {', '.join(classes)} apart, its contract says"
                f" {', '.join(self._contract.classes)}"
            )
        model = model.on(self._settings.device or self._contract.device)
        # The first prediction also initialises the library; a row of nulls is a row.
        model.predict(Rows([dict.fromkeys(self._contract.features)]))
        return Loaded(version.version, version.digest, threshold, model, arm, share)
