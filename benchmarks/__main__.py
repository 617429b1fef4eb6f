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
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Case, Check, Measured, in_own_process, measure

NAMES = ("join", "delta", "training", "scoring", "drift", "serving", "demo")
COLUMNS = (
    "benchmark", "size", "ours s", "floor", "floor s", "ratio", "CPU ratio", "others", "peak MB",
    "same",
)  # fmt: skip
EXAMPLES = """examples:
  python -m benchmarks                      all of them, some 25 minutes on two cores
  python -m benchmarks join scoring         two of them
  python -m benchmarks --quick              small sizes: does each run, do the results agree
  python -m benchmarks drift --json d.json  every second measured, as JSON
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    parser.add_argument("--folder", type=Path, help="keep the data here, and use what is there")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(
            (asked.folder or Path(temporary)).resolve() / ("quick" if asked.quick else "full")
        )
        rows = [row for name in asked.names or NAMES for row in _compare(name, folder, asked.quick)]
    _print(rows)
    if asked.json:
        found = {"quick": asked.quick, "at": datetime.now().isoformat("T", "seconds")}
        asked.json.write_text(
            json.dumps(found | {"rows": [_as_json(*row) for row in rows]}, indent=1)
        )
    return 0 if all(_same(found) is not False for _, found in rows) else 1


def _compare(name: str, folder: str, quick: bool) -> list[tuple[Case, dict[str, Measured]]]:
    module = import_module(f"benchmarks.{name}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for function, wanted in module.prepare(quick):
        made = Path(folder) / f".{function}-{json.dumps(wanted, sort_keys=True)}".replace("/", "_")
        if not made.exists():
            _say(f"making {function} {wanted}")
            in_own_process("benchmarks.data", function, {"folder": folder, **wanted}, 1)
            made.touch()
    found = []
    for case in module.cases(quick):
        _say(f"{case.benchmark}, {case.size}")
        own = getattr(module, "measure", None)
        measured = own(case, folder) if own else measure(case, module.__name__, folder)
        found.append((case, measured))
    return found


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


def _as_json(case: Case, found: dict[str, Measured]) -> dict[str, Any]:
    figures = {name: there.as_json() for name, there in found.items()}
    return {
        "benchmark": case.benchmark,
        "size": case.size,
        "same": _same(found),
        "figures": figures,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
