"""A model as a folder: the family's own files, and `model.json` that names and hashes them.

`model.json` says which family can load the folder. A file that was changed, cut short or lost
since is an error before any of it is read; a file it does not name is ignored. No pickles.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mlops_assets.ml.families.base import Model

MANIFEST = "model.json"
FORMAT_VERSION = 1


class ModelFileError(ValueError):
    """A model's folder is not as `save_model` wrote it."""


def write_model(model: Model, folder: Path) -> None:
    """Write the model and its manifest to a folder that is new or empty.

    Raises:
        FileExistsError: the folder holds files already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; save a model to a folder of its own")
    model.save(folder)
    manifest = {
        "format_version": FORMAT_VERSION,
        "family": model.family,
        "numeric": list(model.columns.numeric),
        "categorical": list(model.columns.categorical),
        "target": model.target.to_json(),
        "description": model.description(),
        "sha256": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `model.json` and verify every file it names.

    Raises:
        ModelFileError: no manifest, another format, or a file that is missing or was changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFileError(f"{folder} holds no {MANIFEST}; was it written by save_model?")
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ModelFileError(f"{path} is not JSON: {error}") from error
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {version}, this code reads {FORMAT_VERSION}; fit the model again"
        )
    for name, expected in manifest["sha256"].items():
        _verify(folder, name, expected)
    return manifest


def _verify(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ModelFileError(f"{path} is missing; copy the model's folder again")
    if (found := _sha256(path)) != expected:
        raise ModelFileError(
            f"{path} was changed since the model was saved: sha256 {found[:12]}…, "
            f"expected {expected[:12]}…; fetch the model again and do not use this copy"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
