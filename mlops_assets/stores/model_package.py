"""A model folder, its digest, and the same folder in MLflow's model format.

The package is an MLmodel file, pinned requirements and the model's own files under data/model. It
is written file by file rather than by `mlflow.pyfunc.save_model`, which would want pandas examples
and guess requirements by importing.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

DATA = "data/model"
_LOADER = "mlops_assets.stores.pyfunc_loader"
_ENVIRONMENT = "python_env.yaml"
_REQUIREMENTS = "requirements.txt"


def folder_digest(folder: Path) -> str:
    """Return the sha256 (64 hex digits) of the names and contents of all files in `folder`.

    Raises:
        FileNotFoundError: if there is no file.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    if not files:
        raise FileNotFoundError(f"{folder} holds no files; save a model there first")
    digest = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded + content)
    return digest.hexdigest()


def package(
    model_folder: Path,
    target: Path,
    *,
    inputs: pl.DataFrame,
    outputs: np.ndarray,
    pip_requirements: Sequence[str],
    run_id: str,
) -> None:
    """Write `model_folder` to the folder `target` as an MLflow model.

    `inputs` is a sample of the features and `outputs` the model's answer to it; both give the
    signature, and no row of them is kept.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    shutil.copytree(model_folder, target / DATA)
    (target / _REQUIREMENTS).write_text("".join(f"{line}\n" for line in pip_requirements))
    (target / _ENVIRONMENT).write_text(
        f"python: {platform.python_version()}\n"
        "build_dependencies: []\n"
        f"dependencies:\n- -r {_REQUIREMENTS}\n"
    )
    model = Model(run_id=run_id, signature=_signature(inputs, outputs))
    add_to_model(model, loader_module=_LOADER, data=DATA, python_env=_ENVIRONMENT)
    model.save(target / "MLmodel")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _signature(inputs: pl.DataFrame, outputs: np.ndarray) -> object:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(_mlflow_type(column), column.name) for column in inputs
    ]
    answer = TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]))
    return ModelSignature(Schema(columns), Schema([answer]))


def _mlflow_type(column: pl.Series) -> str:
    dtype = column.dtype
    if dtype.is_integer():
        # pandas, which MLflow checks a signature on, keeps whole numbers with gaps as floats.
        return "double" if column.null_count() else "long"
    if dtype.is_numeric():
        return "float" if dtype == pl.Float32 else "double"
    if dtype == pl.Boolean:
        return "boolean"
    return "datetime" if dtype in (pl.Date, pl.Datetime) else "string"
