"""What a served model may cost: time to answer, size of its files, memory of its server.

Pure: measurements in, outcomes out. Each gate has two numbers; its outcome's value and limit are
those of the one that used the larger share of its budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlops_assets.ml.gates import GateOutcome, outcome


@dataclass(frozen=True)
class Spent:
    """One cost, its budget, and what it is."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        """Part of the budget that is used."""
        return self.value / self.limit if np.isfinite(self.value) else float("inf")

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} {self.unit} of {self.limit:g}"


def quietest_p95(rounds: Sequence[Sequence[float]]) -> float:
    """The 95th percentile of the round in which it is least; infinite without a measurement.

    A busy machine slows some rounds; what the model itself costs is in all of them.
    """
    return min((float(np.quantile(times, 0.95)) for times in rounds if times), default=float("inf"))


def fast_enough(
    single: Sequence[Sequence[float]], bulk: Sequence[float], rows: int,
    *, single_ms: float, bulk_row_ms: float,
) -> GateOutcome:  # fmt: skip
    """Pass where one row, and each of many in one request, are answered within the budget.

    Args:
        single: rounds of times of requests of one row, in seconds.
        bulk: times of requests of `rows` rows, in seconds.
        rows: rows of a bulk request.
        single_ms: greatest 95th percentile of a request of one row.
        bulk_row_ms: greatest time a row of a bulk request.
    """
    each = min(bulk, default=float("inf")) / max(rows, 1)
    return _within(
        "fast_enough",
        [
            Spent("a request of one row (p95)", quietest_p95(single) * 1e3, single_ms, "ms"),
            Spent(f"each row of {rows}", each * 1e3, bulk_row_ms, "ms"),
        ],
        sum(map(len, single)) + rows * len(bulk),
    )


def small_enough(
    model_bytes: int, server_bytes: int, *, model_mb: float, server_mb: float
) -> GateOutcome:
    """Pass where the model's files and the server's resident memory are within the budget (MB)."""
    return _within(
        "small_enough",
        [
            Spent("the model's files", model_bytes / 1e6, model_mb, "MB"),
            Spent("the server's memory", server_bytes / 1e6, server_mb, "MB"),
        ],
        0,
    )


def _within(name: str, costs: Sequence[Spent], rows: int) -> GateOutcome:
    worst = max(costs, key=lambda cost: cost.share)
    passed = worst.value <= worst.limit
    detail = ", ".join(map(str, costs))
    return outcome(name, passed, worst.value, worst.limit, worst.limit - worst.value, rows, detail)
