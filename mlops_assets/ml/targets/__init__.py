"""What can be predicted: a yes or no, one of several classes, a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_assets.ml.targets.base import Figures, Margins, Target, TaskName
from mlops_assets.ml.targets.binary import BINARY, Binary
from mlops_assets.ml.targets.multiclass import Multiclass
from mlops_assets.ml.targets.regression import Regression

__all__ = [
    "BINARY",
    "TARGETS",
    "Binary",
    "Figures",
    "Margins",
    "Multiclass",
    "Regression",
    "Target",
    "TaskName",
    "target_from_json",
    "target_of",
]

TARGETS: dict[str, type[Target]] = {"binary": Binary, "multiclass": Multiclass,
                                    "regression": Regression}  # fmt: skip
"""Task to its target."""


def target_of(task: str, metric: str = "") -> Target:
    """The target of a task, judged by a metric; without one, by the usual.

    Raises:
        ValueError: no such task, or a metric that it does not have.
    """
    if task not in TARGETS:
        raise ValueError(f"no task {task!r}; there are {', '.join(TARGETS)}")
    return TARGETS[task](metric or TARGETS[task].metrics[0])


def target_from_json(stored: Mapping[str, Any] | None) -> Target:
    """The target that `Target.to_json` wrote."""
    return TARGETS[stored["task"]].from_json(stored) if stored else BINARY
