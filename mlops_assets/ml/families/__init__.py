"""The model families: ways to turn labelled rows into a model that gives scores.

A new family is one new file in this folder with an object `FAMILY` (see `base.Family`); its name
is the file's name. Importing this package, or listing the families, imports no model library.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from mlops_assets.ml.families.artifact import ModelFileError, read_manifest, write_model
from mlops_assets.ml.families.base import (
    Explained,
    Family,
    FeatureColumns,
    FeatureError,
    FitOptions,
    Labelled,
    Model,
    Rows,
    of_seen_classes,
)

__all__ = [
    "Explained",
    "Family",
    "FeatureColumns",
    "FeatureError",
    "FitOptions",
    "Labelled",
    "Model",
    "ModelFileError",
    "Rows",
    "families",
    "family",
    "load_model",
    "of_seen_classes",
    "save_model",
]

_NOT_FAMILIES = frozenset(
    {
        "artifact",
        "base",
        "encoded",
        "encoders",
        "linear",
        "skops_archive",
        "torch_fit",
        "torch_heads",
        "tree_paths",
    }
)


def families() -> tuple[str, ...]:
    """Names of the families, sorted."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(found - _NOT_FAMILIES))


def family(name: str) -> Family:
    """The family of this name.

    Raises:
        ValueError: no such family.
    """
    if name not in families():
        raise ValueError(f"no model family {name!r}; there are {', '.join(families())}")
    return import_module(f"{__name__}.{name}").FAMILY


def save_model(model: Model, folder: Path) -> None:
    """Write a model to a folder that is new or empty, hashed file by file.

    Raises:
        FileExistsError: the folder holds files already.
    """
    write_model(model, folder)


def load_model(folder: Path) -> Model:
    """Read a model that `save_model` wrote; it predicts exactly what the saved one did.

    Raises:
        ModelFileError: the folder is not as it was written.
        ValueError: its family is not known here.
    """
    return family(read_manifest(folder)["family"]).load(folder)
