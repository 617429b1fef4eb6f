"""A disk that is full or read-only, a file that is gone: how libraries say it, and what to do.

Delta, SQLite, MLflow and Dagster each say it in words of their own, and none of them says where.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_FULL = ("No space left on device", "disk is full", "Disk quota exceeded")
_READ_ONLY = ("Read-only file system", "readonly database")
# SQLite's words where it cannot enlarge its index, among other troubles.
_PERHAPS_FULL = "disk I/O error"
_NEXT_TO_NOTHING = 1_000_000
_GONE = re.compile(r"No such file.*?(?P<file>[^\s:\"']+/part-[\w.-]+\.parquet)", re.DOTALL)


def advice(message: str, folder: Path) -> str | None:
    """What to do where `message` is of a disk's trouble, given where this environment lies."""
    disk = shutil.disk_usage(_existing(folder))
    perhaps = _PERHAPS_FULL in message and disk.free < _NEXT_TO_NOTHING
    if perhaps or any(words in message for words in _FULL):
        return (
            f"The disk is full: {disk.free / 1e6:,.1f} of {disk.total / 1e6:,.1f} MB are free"
            f" where {folder} lies. Make room there or set MLOPS_HOME to a folder on a larger disk,"
            " and run the command again: what is finished stays, the rest follows."
        )
    if any(words in message for words in _READ_ONLY):
        return (
            f"{folder} lies on a disk that cannot be written. Mount it for writing, or set"
            " MLOPS_HOME to another folder, and run the command again. `mlops tables` and"
            " `mlops sql` read the lake as it is."
        )
    if gone := _GONE.search(message):
        return (
            f"A data file of the lake is gone: {gone['file']}. If somebody vacuumed the table by"
            " force during this read, run the command again: the newest version is whole. If it is"
            " said again, put the file back from a backup, or materialize its partition again."
        )
    return None


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
