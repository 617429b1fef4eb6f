"""What may serve, as `stores.serving_truth` says it; where nothing may, a run fails for good."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import dagster as dg

from mlops_assets.stores import serving_truth as truth
from mlops_assets.stores.serving_truth import (
    GATE_RESULTS,
    PROMOTED,
    PROMOTIONS,
    WAITING,
    alias_state,
    last_outcomes,
    objections,
    refusals,
)

__all__ = [
    "ALIAS_CHECK",
    "GATE_RESULTS",
    "PROMOTED",
    "PROMOTIONS",
    "WAITING",
    "alias_state",
    "incumbent",
    "known_version",
    "last_outcomes",
    "objections",
    "refusals",
    "require_known_registry",
    "serving_version",
]

ALIAS_CHECK = "alias_passed_gates"

P = ParamSpec("P")
R = TypeVar("R")


def _failing(ask: Callable[P, R]) -> Callable[P, R]:
    """The question, with `dagster.Failure` for `MayNotServe`: to try again would not help."""

    @wraps(ask)
    def answer(*args: P.args, **options: P.kwargs) -> R:
        try:
            return ask(*args, **options)
        except truth.MayNotServe as refused:
            raise dg.Failure(str(refused), allow_retries=False) from None

    return answer


serving_version = _failing(truth.serving_version)
incumbent = _failing(truth.incumbent)
require_known_registry = _failing(truth.require_known_registry)
known_version = _failing(truth.known_version)
