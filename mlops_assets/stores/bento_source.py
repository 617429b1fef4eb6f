"""What goes into a Bento, file by file, and the version that follows from it.

A Bento holds the service of `bentos/tabular`, the code that it imports from this package, the
model, its contract and the pinned packages of its image; nothing else of the repository. Equal
files give an equal version, whoever builds and whenever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlops_assets.stores.content import combine
from mlops_assets.stores.requirements import pinned

SERVICE = "bentos.tabular.service:Tabular"
_BESIDE_SERVICE = "bentos/tabular"
_CODE = ("bentos/__init__.py", "bentos/tabular/**/*.py", "mlops_assets/__init__.py",
         "mlops_assets/ml/**/*.py")  # fmt: skip
_SERVING = ("bentoml", "numpy", "polars", "uvicorn[standard]")


def source_files(model_folder: Path, contract: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a Bento: content by path relative to its source folder.

    Raises:
        FileNotFoundError: if `model_folder` has no files.
    """
    model = _below(model_folder)
    if not model:
        raise FileNotFoundError(f"{model_folder}: no files; expected a saved model")
    beside = {
        **{f"model/{path}": content for path, content in model.items()},
        "contract.json": json.dumps(contract, indent=2, sort_keys=True).encode(),
        "requirements.txt": "".join(f"{pin}\n" for pin in pinned(_SERVING)).encode(),
    }
    return _code() | {f"{_BESIDE_SERVICE}/{path}": content for path, content in beside.items()}


def source_version(files: Mapping[str, bytes]) -> str:
    """Return the version of a Bento of these files: 32 hex digits."""
    return combine(
        **{path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    )


def _code() -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for root, pattern in ((_root(pattern), pattern) for pattern in _CODE)
        for path in sorted(root.glob(pattern))
    }


def _root(pattern: str) -> Path:
    """Return the folder that holds the package of `pattern`, installed or editable."""
    spec = find_spec(pattern.split("/")[0])
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{pattern}: its package is not installed")
    return Path(spec.origin).parents[1]


def _below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
