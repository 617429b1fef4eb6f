"""All files of a product's folder, or none: written aside, then named by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.components.scaffold.wanted import Unusable

_ASIDE = ".new_"


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        folder: of the product.
        files: all files, below the project's root.
        lines: lines in the folder that are a person's to edit: YAML and Python together, without
            blanks, comments and docstrings.
    """

    folder: Path
    files: list[str]
    lines: int


def test_path(root: Path, folder: Path) -> Path:
    """Where the product's test goes: with the project's tests, or else beside it."""
    tests = root / "mlops_assets_tests" / "defs"
    return (tests if tests.is_dir() else folder) / f"test_{folder.name}.py"


def require_free(folder: Path) -> None:
    """Refuse a folder that is there.

    Raises:
        Unusable: naming it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Unusable(f"{folder} is there already and stays as it is; take another name")


def write(root: Path, folder: Path, files: Mapping[str, str]) -> Made:
    """Write a folder and the test. What a killed process left aside is removed.

    Args:
        root: of the project.
        folder: the product's, which is not there or is empty.
        files: name in the folder to text; the key "test" is the test.

    Raises:
        Unusable: something is in the folder.
    """
    require_free(folder)
    test = test_path(root, folder)
    # Beside defs/ and not in it: what loads the graph must not see half of a folder.
    aside = folder.parent.parent / f"{_ASIDE}{folder.name}_{os.getpid()}"
    for stale in folder.parent.parent.glob(f"{_ASIDE}{folder.name}_*"):
        shutil.rmtree(stale)
    aside.mkdir(parents=True)
    try:
        for name, text in files.items():
            (aside / (test.name if name == "test" else name)).write_text(text, encoding="utf-8")
        if test.parent != folder:
            # A test without its folder is one that a killed process left; it is written anew.
            (aside / test.name).replace(test)
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    written = [folder / n for n in sorted(files) if n != "test"] + [test]
    return Made(folder, [str(p.relative_to(root)) for p in written], _lines(written[:-1]))


def _lines(files: list[Path]) -> int:
    texts = [f.read_text(encoding="utf-8") for f in files if f.suffix in (".py", ".yaml")]
    # A docstring of what is written is one line.
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return sum(bool(line) and not line.startswith(("#", '"""')) for line in lines)
