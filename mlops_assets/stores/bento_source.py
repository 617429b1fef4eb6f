"""What goes into a Bento, file by file, and the version that follows from it.

A Bento holds the service of `bentos/tabular`, the code of the model's family, the model, its
contract and the pinned packages that this code imports; nothing else of the repository. Equal
files give an equal version, whoever builds and whenever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlops_assets.ml.families import read_manifest
from mlops_assets.stores.content import combine
from mlops_assets.stores.requirements import imported_modules, imported_packages, pinned

SERVICE = "bentos.tabular.service:Tabular"

_BESIDE_SERVICE = "bentos/tabular"
_FAMILIES = Path("mlops_assets/ml/families")
_CODE = {
    "bentos": ("__init__.py", "tabular/*.py"),
    "mlops_assets": ("__init__.py", "ml/__init__.py", "ml/families/*.py"),
}
# What serves and is imported nowhere: an HTTP parser and an event loop come with the extra.
_SERVER = ("uvicorn[standard]",)


def source_files(model_folder: Path, contract: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a Bento: content by path relative to its source folder.

    Raises:
        ModelFileError: if `model_folder` is not as `save_model` wrote it.
    """
    code = _code(read_manifest(model_folder)["family"])
    packages = imported_packages(code.values(), ours=_CODE) | set(_SERVER)
    beside = {
        **{f"model/{path.name}": path.read_bytes() for path in sorted(model_folder.iterdir())},
        "contract.json": json.dumps(contract, indent=2, sort_keys=True).encode(),
        "requirements.txt": "".join(f"{pin}\n" for pin in pinned(packages)).encode(),
    }
    return code | {f"{_BESIDE_SERVICE}/{path}": content for path, content in beside.items()}


def model_requirements(model_folder: Path) -> list[str]:
    """Return pins for what a saved model needs to be loaded and to predict.

    Raises:
        ModelFileError: if `model_folder` is not as `save_model` wrote it.
    """
    code = _code(read_manifest(model_folder)["family"])
    own = {path: text for path, text in code.items() if path.startswith("mlops_assets/")}
    return pinned(imported_packages(own.values(), ours=_CODE))


def source_version(files: Mapping[str, bytes]) -> str:
    """Return the version of a Bento of these files: 32 hex digits."""
    return combine(**{path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def _code(family: str) -> dict[str, bytes]:
    """Return the modules that serve a model of `family`; other families stay out."""
    modules = {name: path.read_bytes() for name, path in _modules()}
    needed: set[str] = set()
    pending = [f"{_FAMILIES}/{name}.py" for name in ("__init__", family)]
    while pending:
        name = pending.pop()
        if name in modules and name not in needed:
            needed.add(name)
            pending += [f"{m.replace('.', '/')}.py" for m in imported_modules(modules[name])]
    return {n: text for n, text in modules.items() if n in needed or Path(n).parent != _FAMILIES}


def _modules() -> Iterator[tuple[str, Path]]:
    for package, patterns in _CODE.items():
        root = _folder(package)
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                yield f"{package}/{path.relative_to(root).as_posix()}", path


def _folder(package: str) -> Path:
    """Return the folder of `package`, wherever it is installed from; it is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed, and a Bento holds part of it")
    return Path(spec.origin).parent
