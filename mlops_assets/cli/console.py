"""What a person sees in the terminal: progress of runs, tables, errors that say what to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_assets.components.engine import Done
from mlops_assets.disk import advice
from mlops_assets.local import home

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def tell_of_the_disk(message: str) -> bool:
    """Where a message is of a disk or a lost file, say which and what to do; else do nothing."""
    told = advice(message, home())
    if told:
        err.print(f"[red]{escape(told)}[/]", soft_wrap=True)
    return told is not None


class Progress:
    """Prints a line for each run as it ends, and what the running one says of itself."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._status = err.status("…")

    def begin(self, assets: tuple[str, ...], partitions: tuple[str, ...]) -> None:
        """A run begins."""
        self._status.update(f"{_names(assets)} {_span(partitions)}")

    def end(self, done: Done) -> None:
        """A run has ended."""
        elapsed = time.perf_counter() - self._started
        mark = "[red]✗[/]" if done.error else "[green]✓[/]"
        line = f"{elapsed:6.1f} s {mark} {_names(done.assets):<44} {_span(done.partitions):<34}"
        err.print(f"{line} {done.seconds:6.2f} s", soft_wrap=True)
        if done.error:
            err.print(f"         [red]{escape(done.error)}[/]", soft_wrap=True)
            tell_of_the_disk(done.error)

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Show the running line, and pass on the log of long steps, while the block runs."""
        handler = _Lines()
        logger = logging.getLogger("mlops")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            with self._status:
                yield self
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Dagster prefixes what it captures with the run's id and the step; the text is the last.
        text = record.getMessage().rsplit(" - ", 1)[-1]
        err.print(f"           [dim]{escape(text)}[/]", soft_wrap=True)


def show(frame: pl.DataFrame, title: str = "") -> None:
    """Print a small frame as a table."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for index, (name, dtype) in enumerate(frame.schema.items()):
        # In a narrow terminal cells are folded, the first column last: it names the row.
        table.add_column(
            name,
            justify="right" if dtype.is_numeric() else "left",
            overflow="fold",
            no_wrap=index == 0,
        )
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    out.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _names(assets: tuple[str, ...]) -> str:
    return assets[0] if len(assets) == 1 else f"{assets[0]} and {len(assets) - 1} more"


def _span(partitions: tuple[str, ...]) -> str:
    if not partitions:
        return ""
    if len(partitions) == 1:
        return partitions[0]
    return f"{partitions[0]} … {partitions[-1]} ({len(partitions)})"
