"""What one training writes down while it runs: parameters, metrics, trials and files, in MLflow.

One MLflow run a training, and below it one nested run a trial. Calls go through the client and never
through MLflow's "active run", so that trainings in threads do not mix.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
