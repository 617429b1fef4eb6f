"""A server as the processes that it is made of, and what they have cost."""

from __future__ import annotations

from contextlib import suppress

import psutil


def tree(process: psutil.Process) -> list[psutil.Process]:
    """It and all that it has started; none where it is gone."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(process: psutil.Process) -> float:
    """Seconds of CPU of a server and all its processes so far."""
    return sum(sum(each.cpu_times()[:2]) for each in tree(process))
