"""Which Delta tables stand under a folder or in a bucket, found by their `_delta_log` folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

_LOG = "_delta_log"
_Folders = Callable[[str], list[str]]


def table_names(uri: str, storage_options: Mapping[str, str]) -> list[str]:
    """Return the paths below `uri` that are Delta tables, sorted; tables do not nest."""
    folders = _remote(uri, storage_options) if "://" in uri else _local(Path(uri))
    return sorted(_tables("", folders))


def _tables(path: str, folders: _Folders) -> list[str]:
    names = folders(path)
    if _LOG in names:
        return [path]
    return [
        found for name in names for found in _tables(f"{path}/{name}" if path else name, folders)
    ]


def _local(root: Path) -> _Folders:
    def folders(path: str) -> list[str]:
        folder = root / path
        return [entry.name for entry in folder.iterdir() if entry.is_dir()] if root.is_dir() else []

    return folders


def _remote(uri: str, storage_options: Mapping[str, str]) -> _Folders:
    from deltalake.fs import DeltaStorageHandler
    from pyarrow import fs

    store = fs.PyFileSystem(DeltaStorageHandler(uri, dict(storage_options)))

    def folders(path: str) -> list[str]:
        entries = store.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]

    return folders
