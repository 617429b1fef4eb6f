"""A skops archive whose bytes follow from the model alone.

skops names the parts of a model by their addresses in memory and dates the files inside, so that
the same model gives other bytes in each process. A model is known by the digest of its files: one
that is fitted again on the same rows must be the version that it already is.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

_SCHEMA = "schema.json"
_ID = re.compile(r'(?<="__id__": )\d+')
_FILE = re.compile(r'(?<="file": ")\d+(?=\.)')
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_archive(model: Any, path: Path) -> None:
    """Write `model` in skops' format, its parts numbered in their order and undated."""
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as made:
        schema = made.read(_SCHEMA).decode()
        numbers: dict[str, str] = {}
        for found in _ID.findall(schema):
            numbers.setdefault(found, str(len(numbers)))
        schema = _ID.sub(lambda m: numbers[m[0]], schema)
        schema = _FILE.sub(lambda m: numbers[m[0]], schema)
        parts = {_SCHEMA: schema.encode()}
        for name in made.namelist():
            if name != _SCHEMA:
                address, _, ending = name.partition(".")
                parts[f"{numbers[address]}.{ending}"] = made.read(name)
    with zipfile.ZipFile(path, "w") as kept:
        for name in sorted(parts):
            kept.writestr(zipfile.ZipInfo(name, _EPOCH), parts[name])
