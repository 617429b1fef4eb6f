"""What goes into a Bento, file by file, and the version that follows from it.

A Bento holds the service of `bentos/tabular`, all code of this repository that it imports, with the
model's family and the domain's expressions, the model, its contract and the pinned packages that
this code imports; nothing else. Equal files give an equal version, whoever builds and whenever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from mlops_assets.ml.families import read_manifest
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.content import combine
from mlops_assets.stores.requirements import imported_modules, imported_packages, pinned

SERVICE = "bentos.tabular.service:Tabular"

_BESIDE_SERVICE = "bentos/tabular"
_FAMILIES = "mlops_assets.ml.families"
_OURS = ("bentos", "mlops_assets")
# What serves and is imported nowhere: an HTTP parser and an event loop come with the extra.
_SERVER = ("uvicorn[standard]",)


def source_files(model_folder: Path, contract: Contract) -> tuple[dict[str, bytes], Contract]:
    """Return the files of a Bento, content by path relative to its source folder, and its contract.

    The contract is the one given with the model's family and classes and the digest of the code.

    Raises:
        ModelFileError: if `model_folder` is not as `save_model` wrote it.
        ModuleNotFoundError: if the contract's on-demand function is in no module.
    """
    manifest = read_manifest(model_folder)
    family, classes = manifest["family"], tuple(manifest["target"].get("classes", ()))
    expressions = contract.on_demand.rpartition(".")[0]
    roots = [f"{_FAMILIES}.{family}", *([expressions] if expressions else [])]
    code = _code(*roots, *_service())
    whole = contract.model_copy(
        update={"family": family, "classes": classes, "code": source_version(code)}
    )
    packages = imported_packages(code.values(), ours=_OURS) | set(_SERVER)
    beside = {
        **{f"model/{path.name}": path.read_bytes() for path in sorted(model_folder.iterdir())},
        "contract.json": whole.model_dump_json(indent=2).encode(),
        "requirements.txt": "".join(f"{pin}\n" for pin in pinned(packages)).encode(),
    }
    return code | {f"{_BESIDE_SERVICE}/{path}": content for path, content in beside.items()}, whole


def model_requirements(model_folder: Path) -> list[str]:
    """Return pins for what a saved model needs to be loaded and to predict.

    Raises:
        ModelFileError: if `model_folder` is not as `save_model` wrote it.
    """
    own = _code(_FAMILIES, f"{_FAMILIES}.{read_manifest(model_folder)['family']}")
    return pinned(imported_packages(own.values(), ours=_OURS))


def source_version(files: Mapping[str, bytes]) -> str:
    """Return the version of a Bento of these files: 32 hex digits."""
    return combine(**{path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def service_version() -> str:
    """Return the version of the service alone, which a change of its code changes."""
    folder = _folder("bentos") / "tabular"
    return source_version({path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))})


def _code(*roots: str) -> dict[str, bytes]:
    """Return these modules and all of ours that they import, with the packages they lie in."""
    found: dict[str, bytes] = {}
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        module = pending.pop()
        if module in seen or module.split(".")[0] not in _OURS:
            continue
        seen.add(module)
        path = _path(module)
        content = (_folder(module.split(".")[0]).parent / path).read_bytes()
        found[path.as_posix()] = content
        pending += [*imported_modules(content), *(p for p in [module.rpartition(".")[0]] if p)]
    return dict(sorted(found.items()))


def _path(module: str) -> PurePosixPath:
    path = PurePosixPath(*module.split("."))
    root = _folder(module.split(".")[0]).parent
    if (root / path / "__init__.py").is_file():
        return path / "__init__.py"
    if not (root / path).with_suffix(".py").is_file():
        raise ModuleNotFoundError(f"{module} is not there, and a Bento needs it")
    return path.with_suffix(".py")


def _service() -> Iterator[str]:
    for path in sorted((_folder("bentos") / "tabular").glob("*.py")):
        yield f"bentos.tabular.{path.stem}".removesuffix(".__init__")


def _folder(package: str) -> Path:
    """Return the folder of `package`, wherever it is installed from; it is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed, and a Bento holds part of it")
    return Path(spec.origin).parent
