"""The Bento store: promoted models as Bentos, built once for equal content, and tried by serving.

A Bento's tag is "name:version", and the version follows from its files alone (bento_source.py):
the same model, contract and code have the same tag, and building it again does nothing. A Bento
appears in the store by one rename when it is whole; a build that is killed leaves nothing there.

The folder is a BENTOML_HOME, so that `bentoml list` and `bentoml containerize` work on it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.bento_process import (
    BentoError,
    bentoml_command,
    bentoml_environment,
    log_tail,
)
from mlops_assets.stores.bento_server import RunningBento, running
from mlops_assets.stores.bento_source import SERVICE, source_files, source_version

__all__ = ["BentoBuild", "BentoError", "BentoStore", "RunningBento"]

_BUILD_LIMIT = 300.0


@dataclass(frozen=True)
class BentoBuild:
    """A Bento in the store with its contract, and whether this build made it."""

    tag: str
    path: Path
    contract: Contract
    created: bool
    seconds: float


class BentoStore:
    """The Bentos under `home`, a local folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    def path(self, tag: str) -> Path:
        """Return the folder of the Bento `tag` ("name:version"), whether or not it is there."""
        name, _, version = tag.partition(":")
        return self.home / "bentos" / name / version

    def build(
        self,
        *,
        name: str,
        model_folder: Path,
        contract: Contract,
        labels: Mapping[str, str],
    ) -> BentoBuild:
        """Build the Bento of a saved model, unless it is there already.

        Args:
            name: name of the Bento: lower-case words, as in a product's name.
            model_folder: the model as `mlops_assets.ml.families.save_model` wrote it.
            contract: what it promises; family and code are filled in.
            labels: provenance to keep with the Bento; a Bento that is there keeps its own.

        Raises:
            ModelFileError: if `model_folder` is not as `save_model` wrote it.
            BentoError: if BentoML cannot build it.
        """
        started = time.perf_counter()
        files, whole = source_files(model_folder, contract)
        tag = f"{name}:{source_version(files)}"
        path = self.path(tag)
        created = not path.is_dir() and self._build(tag, files, labels)
        return BentoBuild(tag, path, whole, created, time.perf_counter() - started)

    def contract(self, tag: str) -> Contract:
        """Return the contract of the Bento `tag`.

        Raises:
            LookupError: if there is no such Bento.
        """
        return Contract.read(self._there(tag) / "src/bentos/tabular/contract.json")

    def serve(
        self, tag: str, environment: Mapping[str, str], *, ready_within: float = 180.0
    ) -> AbstractContextManager[RunningBento]:
        """Serve the Bento `tag` in a process of its own, for as long as the context is open.

        `environment` has the variables that `bentos.tabular.settings` reads.

        Raises:
            LookupError: if there is no such Bento.
            BentoError: on entry, if it is not ready within `ready_within` seconds.
        """
        return running(self._there(tag), environment, ready_within=ready_within)

    def _there(self, tag: str) -> Path:
        path = self.path(tag)
        if not path.is_dir():
            raise LookupError(f"no Bento {tag} in {self.home}; build it first")
        return path

    def _build(self, tag: str, files: Mapping[str, bytes], labels: Mapping[str, str]) -> bool:
        """Build beside the store, then move the Bento in; False if another build was first."""
        workshop = self.home / "building"
        workshop.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(workshop)
        with tempfile.TemporaryDirectory(dir=workshop) as folder:
            source, scratch = Path(folder, "source"), BentoStore(Path(folder, "home"))
            _write(source, files, labels)
            _run_build(source, tag, scratch.home)
            return _move(scratch.path(tag), self.path(tag))


def _write(source: Path, files: Mapping[str, bytes], labels: Mapping[str, str]) -> None:
    # JSON is YAML; BentoML reads its build options from this file alone.
    options = {"service": SERVICE, "labels": dict(labels), "include": sorted(files)}
    for path, content in {**files, "bentofile.yaml": json.dumps(options).encode()}.items():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _run_build(source: Path, tag: str, home: Path) -> None:
    name, _, version = tag.partition(":")
    home.mkdir()
    done = subprocess.run(  # noqa: S603
        bentoml_command("build", "--name", name, "--version", version, str(source)),
        cwd=source,
        env=bentoml_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_BUILD_LIMIT,
        check=False,
    )
    if done.returncode:
        raise BentoError(f"{tag}: the build failed\n{log_tail(done.stdout)}")


def _move(built: Path, target: Path) -> bool:
    """Move a whole Bento into the store; False if another build of the same tag was first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        built.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    latest = built.parent / "latest"
    latest.replace(target.parent / "latest")
    return True


def _remove_abandoned(workshop: Path) -> None:
    """Remove what killed builds left: no build lives for twice its time limit."""
    for folder in workshop.iterdir():
        if time.time() - folder.stat().st_mtime > 2 * _BUILD_LIMIT:
            shutil.rmtree(folder, ignore_errors=True)
