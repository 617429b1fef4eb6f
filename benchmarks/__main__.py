"""All comparisons, or those named, as one table.

Every contender runs in a process of its own, with two threads; the contenders of a comparison take
turns, and the best of their runs counts. The CPU ratio is of processor seconds, which a busy
machine moves less. `peak MB` is the greatest resident memory of each process, its data included.
`same` says whether all gave the same result.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Case, Check, Measured, in_own_process, measure

NAMES = ("join", "delta", "training", "scoring", "drift", "serving", "demo", "apply")
COLUMNS = (
    "benchmark", "size", "ours s", "floor", "floor s", "ratio", "CPU ratio", "others", "peak MB",
    "same",
)  # fmt: skip
EXAMPLES = """examples:
  python -m benchmarks                      all of them, some 30 minutes on two cores
  python -m benchmarks join scoring         two of them
  python -m benchmarks --quick              small sizes: does each run, do the results agree
  python -m benchmarks drift --json d.json  every second measured, as JSON, row by row; a row that
                                            stands there is not measured again
  python -m benchmarks --folder /big/disk   where 15 GB of data are made, and kept
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return 1 where results differ."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes; the seconds mean little")
    parser.add_argument(
        "--json", type=Path, metavar="FILE",
        help="write each row here as soon as it is measured, and go on from what is there",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="keep the data here, and use what is there")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    book = Book(asked.json, asked.quick)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve() / ("quick" if asked.quick else "full")
        rows = [row for name in asked.names or NAMES for row in _compare(name, folder, book)]
    _print(rows)
    return 0 if all(_same(found) is not False for _, found in rows) else 1


class Book:
    """The rows measured so far, in a file if one is named; a cut-off costs the row in progress."""

    def __init__(self, file: Path | None, quick: bool) -> None:
        """Begin with what the file holds of the same sizes, quick or full."""
        self.file, self.quick = file, quick
        there = json.loads(file.read_text()) if file and file.exists() else {"quick": quick}
        if there["quick"] != quick:
            sizes = "quick" if there["quick"] else "full"
            raise SystemExit(f"{file} holds rows of {sizes} size: name another file")
        self.rows: list[dict[str, Any]] = there.get("rows", [])

    def get(self, case: Case) -> dict[str, Measured] | None:
        """The row of a case, if it was measured."""
        for row in self.rows:
            if (row["benchmark"], row["size"]) == (case.benchmark, case.size):
                return {n: Measured.from_json(figures) for n, figures in row["figures"].items()}
        return None

    def add(self, case: Case, found: dict[str, Measured]) -> None:
        """Keep a row; the file is replaced as a whole."""
        self.rows.append(
            {
                "benchmark": case.benchmark,
                "size": case.size,
                "at": datetime.now().isoformat("T", "seconds"),
                "same": _same(found),
                "figures": {name: there.as_json() for name, there in found.items()},
            }
        )
        if self.file:
            new = self.file.with_name(f".{self.file.name}.new")
            new.write_text(json.dumps({"quick": self.quick, "rows": self.rows}, indent=1))
            new.replace(self.file)


def _compare(name: str, folder: Path, book: Book) -> list[tuple[Case, dict[str, Measured]]]:
    module = import_module(f"benchmarks.{name}")
    known = [(case, book.get(case)) for case in module.cases(book.quick)]
    if any(found is None for _, found in known):
        _make(module.prepare(book.quick), folder)
    return [(case, found or _measured(case, module, folder, book)) for case, found in known]


def _measured(case: Case, module: ModuleType, folder: Path, book: Book) -> dict[str, Measured]:
    _say(f"{case.benchmark}, {case.size}")
    own = getattr(module, "measure", None)
    where = str(folder)
    found: dict[str, Measured] = own(case, where) if own else measure(case, module.__name__, where)
    book.add(case, found)
    return found


def _make(data: list[tuple[str, dict[str, Any]]], folder: Path) -> None:
    """Make what data.py makes, unless it was made in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for function, wanted in data:
        made = folder / f".{function}-{json.dumps(wanted, sort_keys=True)}".replace("/", "_")
        if not made.exists():
            _say(f"making {function} {wanted}")
            in_own_process("benchmarks.data", function, {"folder": str(folder), **wanted}, 1)
            made.touch()


def _same(found: dict[str, Measured]) -> bool | None:
    """Whether all that ran agree; None where there is nothing to compare."""
    checks = [there.checksum for there in found.values() if there.checksum is not None]
    return all(_agree(checks[0], other) for other in checks[1:]) if len(checks) > 1 else None


def _agree(one: Check, other: Check) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        near = [
            math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in zip(one, other, strict=True)
        ]
        return all(near)
    return one == other


def _print(rows: list[tuple[Case, dict[str, Measured]]]) -> None:
    table = Table(*COLUMNS)
    notes = []
    for case, found in rows:
        (_, ours), (floor_name, floor), *others = found.items()
        ratio = _ratio(ours.best, floor.best)
        cpu = _ratio(min(ours.cpu_seconds, default=None), min(floor.cpu_seconds, default=None))
        rest = ", ".join(f"{name} {_seconds(other)}" for name, other in others)
        peaks = " / ".join(str(there.peak_mb or "-") for there in found.values())
        same = {True: "yes", False: "NO", None: ""}[_same(found)]
        row = (case.benchmark, case.size, _seconds(ours), floor_name, _seconds(floor), ratio, cpu)
        table.add_row(*row, rest, peaks, same)
        notes += [
            f"{case.benchmark}, {case.size}, {n}: {m.note}" for n, m in found.items() if m.note
        ]
        rates = [f"{n} {case.rows / m.best:,.0f}" for n, m in found.items() if case.rows and m.best]
        notes += (
            [f"{case.benchmark}, {case.size}, rows a second: {', '.join(rates)}"] if rates else []
        )
        for stage, seconds in ours.parts.items():
            beside = f" {floor.parts[stage]:7.2f}" if stage in floor.parts else ""
            notes.append(f"{case.benchmark}  {stage:<28}{seconds:7.2f}{beside}")
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    for note in notes:
        print(note)


def _ratio(ours: float | None, floor: float | None) -> str:
    return f"{ours / floor:.2f}" if ours and floor else "-"


def _seconds(found: Measured) -> str:
    return (
        "-"
        if found.best is None
        else f"{found.best:.3f}"
        if found.best < 10
        else f"{found.best:.1f}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
