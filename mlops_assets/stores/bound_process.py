"""A command that ends with the process which starts it, also when that one is killed with -9.

This file is run as a script: `python bound_process.py PARENT COMMAND…`. It asks Linux for SIGTERM
when the thread that started it ends, and becomes the command. On other systems it only becomes the
command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def bound(command: Sequence[str]) -> list[str]:
    """Return the command line that binds `command`, a program's path and its arguments, to us."""
    return [sys.executable, "-IS", __file__, str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        # What the starter ignores or blocks, a program that it starts would go on ignoring.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # A parent that ended before the request sends nothing.
        if os.getppid() != parent:
            sys.exit(f"process {parent}, which asked for {command[0]}, has ended")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
