"""The model registry: trainings and versions of each product's model, in MLflow.

A product's name is its registered model's name. A version is immutable and known by the digest of
its files, which is checked whenever they are fetched; the alias `champion` says which one serves.
Model files are those of `ml.families`; no pickle is written or read.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlops_assets.stores.mlflow_client import client, exclusive
from mlops_assets.stores.model_package import folder_digest, package
from mlops_assets.stores.model_version import DigestMismatch, ModelVersion, verified_files
from mlops_assets.stores.training_log import RunLog, open_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

    from mlops_assets.ml.families import FeatureColumns, Model

__all__ = [
    "CHAMPION",
    "DigestMismatch",
    "ModelRegistry",
    "ModelVersion",
    "RunLog",
    "VersionNotFound",
]

CHAMPION = "champion"
_DIGEST = "digest"
_NAME = re.compile(r"[a-z0-9_]+")
_MOST_LOADED = 4
_LOADED: dict[str, Model] = {}
"""Models by digest: runs have a registry each, and the process reads a model once."""


class VersionNotFound(LookupError):
    """The product has no such version."""


class ModelRegistry:
    """The models in `tracking_uri`, a database ("sqlite:///…", created if need be) or a server.

    `artifact_uri` is the folder or URI for files of new experiments; without it the server
    chooses. A product's trainings stand in the experiment `prefix` + product. Files of remote
    versions are kept in the folder `cache`, a temporary one if not given. `ui_url` is where people
    look at all this.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_uri: str | Path | None = None,
        prefix: str = "",
        cache: Path | None = None,
        ui_url: str = "http://127.0.0.1:5000",
    ) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_uri = str(artifact_uri).rstrip("/") if artifact_uri else None
        self.prefix = prefix
        self.ui_url = ui_url.rstrip("/")
        self._given_cache = cache

    # --- trainings ---------------------------------------------------------------------------

    def training_run(
        self,
        product: str,
        *,
        tags: Mapping[str, str],
        name: str | None = None,
        parent_run_id: str | None = None,
    ) -> AbstractContextManager[RunLog]:
        """Return a context in which one training of `product` is written down.

        The run is shown as `name`, or as the product. It ends with the block, as failed where the
        block raises.
        """
        return open_run(
            self._client,
            self.experiment_id(product),
            name or product,
            tags=tags,
            parent_run_id=parent_run_id,
        )

    def open(self, product: str, run_id: str) -> RunLog:
        """Return a training that has ended, to add what is learned of its model later."""
        return RunLog(self._client, self.experiment_id(product), run_id)

    def run_tagged(self, product: str, tag: str, value: str) -> str | None:
        """Return the id of the newest training of `product` with this tag, or None."""
        found = self._client.search_runs(
            [self.experiment_id(product)], f"tags.`{tag}` = '{value}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def link(self, product: str, run_id: str, path: str = "") -> str:
        """Return the address of a training in MLflow's UI, or of its file `path`."""
        run = f"{self.ui_url}/#/experiments/{self.experiment_id(product)}/runs/{run_id}"
        return f"{run}/artifacts/{path}" if path else run

    def run_files(self, run_id: str, path: str) -> Path:
        """Return a local folder with the files that a training keeps under `path`; read-only."""
        return Path(self._client.download_artifacts(run_id, path))

    def run_json(self, run_id: str, path: str) -> Any:
        """Return what a training keeps in its JSON file `path`.

        Raises:
            LookupError: if it keeps no such file, or there is no such training.
        """
        from mlflow.exceptions import MlflowException

        try:
            return json.loads(self.run_files(run_id, path).read_text())
        except (MlflowException, OSError) as error:
            raise LookupError(f"training {run_id} keeps no {path}: {error}") from None

    def run_params(self, run_id: str) -> dict[str, str]:
        """Return all parameters of a training, as text."""
        return dict(self._client.get_run(run_id).data.params)

    def run_param(self, run_id: str, name: str) -> str:
        """Return a parameter of a training, as text.

        Raises:
            KeyError: if the training recorded no such parameter.
        """
        return self.run_params(run_id)[name]

    def run_tag(self, run_id: str, name: str) -> str | None:
        """Return a tag of a training, or None where it has none of that name."""
        tag: str | None = self._client.get_run(run_id).data.tags.get(name)
        return tag

    def register(
        self,
        run: RunLog,
        product: str,
        model_folder: Path,
        *,
        inputs: pl.DataFrame,
        outputs: np.ndarray,
        tags: Mapping[str, str],
        pip_requirements: Sequence[str],
    ) -> ModelVersion:
        """Make the files in `model_folder` the newest version of `product`.

        The same files again are the version that they already are, with its tags as they were.
        `inputs` is a sample of features and `outputs` what the model says of it: the signature.

        Raises:
            FileNotFoundError: if the folder is empty.
        """
        digest = folder_digest(model_folder)
        with exclusive(self.tracking_uri, "register"):
            known = [each for each in self.versions(product) if each.digest == digest]
            if known:
                return known[0]
            with tempfile.TemporaryDirectory() as temporary:
                package(
                    model_folder,
                    Path(temporary),
                    inputs=inputs,
                    outputs=outputs,
                    pip_requirements=pip_requirements,
                    run_id=run.run_id,
                )
                return self._add_version(run, product, Path(temporary), {**tags, _DIGEST: digest})

    # --- versions ----------------------------------------------------------------------------

    def versions(self, product: str) -> list[ModelVersion]:
        """Return all versions of `product`, oldest first; none if it was never registered.

        Raises:
            ValueError: if the name is not one of lower-case letters, digits and _.
        """
        if not _NAME.fullmatch(product):
            raise ValueError(f"{product!r} is no product: use lower-case letters, digits and _")
        named = f"name = '{product}'"
        registered = self._client.search_registered_models(named)
        # Search tells the aliases with the model, not with its versions.
        aliases = registered[0].aliases if registered else {}
        found: list[MlflowVersion] = []
        token: str | None = None
        while token != "":
            page = self._client.search_model_versions(named, page_token=token)
            found += page
            token = page.token or ""
        return sorted((_version(each, aliases) for each in found), key=lambda each: each.version)

    def get(self, product: str, version: int) -> ModelVersion:
        """Return one version.

        Raises:
            VersionNotFound: naming the versions there are.
        """
        there = {each.version: each for each in self.versions(product)}
        if version not in there:
            numbers = ", ".join(map(str, there)) or "none yet"
            raise VersionNotFound(f"{product} has no version {version}; versions: {numbers}")
        return there[version]

    def by_alias(self, product: str, alias: str) -> ModelVersion | None:
        """Return the version that `alias` names, or None."""
        return next((each for each in self.versions(product) if alias in each.aliases), None)

    def named(self, product: str, alias: str) -> ModelVersion | None:
        """Return the version that `alias` names now, or None: one small query, to be made often.

        The version's own `aliases` are not asked for.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version_by_alias(product, alias), {})
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def champion(self, product: str) -> ModelVersion | None:
        """Return the version that serves, or None."""
        return self.by_alias(product, CHAMPION)

    def set_alias(self, product: str, alias: str, version: int) -> None:
        """Let `alias` name `version` and no other.

        Raises:
            VersionNotFound: naming the versions there are.
        """
        self.get(product, version)
        self._client.set_registered_model_alias(product, alias, str(version))

    def set_tags(self, product: str, version: int, tags: Mapping[str, str]) -> None:
        """Set or replace tags of `version`.

        Raises:
            ValueError: if one of them is the digest, which is what the version is.
        """
        if _DIGEST in tags:
            raise ValueError(f"{product} {version}: the tag {_DIGEST!r} cannot be changed")
        for name, value in tags.items():
            self._client.set_model_version_tag(product, str(version), name, value)

    # --- files -------------------------------------------------------------------------------

    def download(self, version: ModelVersion) -> Path:
        """Return a local folder with the model's files; treat it as read-only.

        Raises:
            DigestMismatch: if they are not the files that were registered.
        """
        return verified_files(version, self.tracking_uri, self._cache)

    def load(self, version: ModelVersion) -> Model:
        """Return the model, ready to `predict(pl.DataFrame)`. Errors as in `download`."""
        from mlops_assets.ml.families import load_model

        folder = self.download(version)
        model = _LOADED.get(version.digest)
        if model is None:
            for oldest in list(_LOADED)[: 1 - _MOST_LOADED]:
                _LOADED.pop(oldest, None)
            model = _LOADED[version.digest] = load_model(folder)
        return model

    def columns(self, version: ModelVersion) -> FeatureColumns:
        """Return the columns that the model reads. Errors as in `download`."""
        from mlops_assets.ml.families import FeatureColumns, read_manifest

        manifest = read_manifest(self.download(version))
        return FeatureColumns(tuple(manifest["numeric"]), tuple(manifest["categorical"]))

    @cached_property
    def _cache(self) -> Path:
        return self._given_cache or Path(tempfile.mkdtemp(prefix="mlops-models-"))

    # --- MLflow ------------------------------------------------------------------------------

    @property
    def _client(self) -> MlflowClient:
        return client(self.tracking_uri)

    def experiment_id(self, product: str) -> str:
        """Return the experiment of a product's trainings, created at first use."""
        name = self.prefix + product
        with exclusive(self.tracking_uri, "experiment"):
            there = self._client.get_experiment_by_name(name)
            if there:
                return there.experiment_id
            location = f"{self.artifact_uri}/{name}" if self.artifact_uri else None
            return self._client.create_experiment(name, artifact_location=location)

    def _add_version(
        self, run: RunLog, product: str, package_folder: Path, tags: dict[str, str]
    ) -> ModelVersion:
        logged = self._client.create_logged_model(
            run.experiment_id, name=product, source_run_id=run.run_id, tags=tags
        )
        self._client.log_model_artifacts(logged.model_id, str(package_folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        if not self._client.search_registered_models(f"name = '{product}'"):
            self._client.create_registered_model(product)
        made = self._client.create_model_version(
            product,
            logged.artifact_location,
            run_id=run.run_id,
            tags=tags,
            model_id=logged.model_id,
            await_creation_for=0,
        )
        return _version(made, {})


def _version(entity: MlflowVersion, aliases: Mapping[str, str | int]) -> ModelVersion:
    version = int(entity.version)
    return ModelVersion(
        name=entity.name,
        version=version,
        run_id=entity.run_id or "",
        digest=entity.tags.get(_DIGEST, ""),
        tags={name: value for name, value in entity.tags.items() if name != _DIGEST},
        aliases=tuple(sorted(name for name, named in aliases.items() if int(named) == version)),
        source=entity.source or "",
    )
