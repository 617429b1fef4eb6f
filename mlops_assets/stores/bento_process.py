"""The BentoML command as a process of its own: BentoML is never imported here.

A build imports the service from the Bento's own sources, and BentoML configures itself for good
when it is imported; neither belongs in a process that goes on to do other work.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlops_assets.stores.bound_process import bound

_TAIL = 4000


class BentoError(RuntimeError):
    """BentoML could not build or serve; the message ends with the end of its log."""


def bentoml_command(*arguments: str) -> list[str]:
    """Return the command line of BentoML in this Python; it ends with this process."""
    return bound([sys.executable, "-m", "bentoml", *arguments])


def bentoml_environment(home: Path) -> dict[str, str]:
    """Return this process's environment with BentoML at `home`, silent towards its makers.

    No bytecode is written, so that running a Bento's code leaves the Bento as it was built.
    """
    return {
        **os.environ,
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def log_tail(log: bytes) -> str:
    """Return the last lines of `log`, some 4000 characters."""
    return log.decode(errors="replace")[-_TAIL:].strip()
