"""What one would serve the same model with instead, each an app of its own.

`RIVAL` in the environment is a JSON object: the folder of the model, and for the one that does all
the work of ours, the online store, the log and the contract.
"""

from __future__ import annotations

import json
import os
from typing import Any


def settings() -> dict[str, Any]:
    """What the benchmark says."""
    found: dict[str, Any] = json.loads(os.environ["RIVAL"])
    return found
