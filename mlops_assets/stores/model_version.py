"""One version of a registered model, and its files on this machine, checked against its digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlops_assets.stores.model_package import DATA, folder_digest

_DO = (
    "put them back from a backup, or move the alias champion to another version that was promoted,"
    " or retrain"
)


class DigestMismatch(ValueError):
    """The files of a version are not those that were registered, or are gone."""


@dataclass(frozen=True)
class ModelVersion:
    """One registered model; `digest` is the sha256 of its files, `source` where MLflow has them."""

    name: str
    version: int
    run_id: str
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def threshold(self) -> float | None:
        """From which score on its decision is yes; None where it decides nothing."""
        return threshold_of(self.tags["threshold"])

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.name} {self.version}"


def threshold_of(text: str) -> float | None:
    """A threshold as a tag or a parameter keeps it."""
    return None if text in ("", "None") else float(text)


def verified_files(version: ModelVersion, tracking_uri: str, cache: Path) -> Path:
    """Return the folder of the model's files, fetched into `cache` unless they are local.

    Raises:
        DigestMismatch: if they are not the files that were registered, or gone.
    """
    folder = _local_package(version, tracking_uri, cache) / DATA
    try:
        found = folder_digest(folder)
    except FileNotFoundError:
        raise DigestMismatch(f"{version.label}: its files are gone from {folder}; {_DO}") from None
    if found != version.digest:
        raise DigestMismatch(
            f"{version.label}: the files in {folder} have digest {found[:12]}, registered was"
            f" {version.digest[:12]}; do not serve them, but {_DO}"
        )
    return folder


def _local_package(version: ModelVersion, tracking_uri: str, cache: Path) -> Path:
    place = urlparse(version.source)
    if place.scheme in ("", "file"):
        return Path(unquote(place.path))
    target = cache / version.digest
    if not target.exists():
        from mlflow.artifacts import download_artifacts

        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            fetched = download_artifacts(
                artifact_uri=version.source, dst_path=temporary, tracking_uri=tracking_uri
            )
            Path(fetched).rename(target)
    return target
