"""What a server counts, for Prometheus; labels are of bounded variety, whatever callers send."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from bentos.tabular.versions import Loaded

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """The metrics of one server process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mlops_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mlops_request_seconds",
            "Time to answer (seconds).",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Counter(
            "mlops_predictions", "Rows answered.", ["model_version"], registry=registry
        )
        self._missing = Counter(
            "mlops_rows_with_missing", "Rows with a missing feature.", registry=registry
        )
        self._stale = Counter("mlops_rows_with_stale", "Rows with a stale one.", registry=registry)
        self._version = Gauge(
            "mlops_model_version", "Version of the champion that serves.", registry=registry
        )
        self._on_gpu = Gauge(
            "mlops_on_gpu", "1 where the champion predicts on a GPU.", registry=registry
        )
        self.ready = Gauge("mlops_ready", "1 where requests are answered.", registry=registry)
        self.swaps = Counter("mlops_swaps", "Champions taken over.", registry=registry)
        self.swap_seconds = Gauge(
            "mlops_swap_seconds",
            "The last champion served at most so long after the alias named it.",
            registry=registry,
        )
        self.refused = Counter(
            "mlops_swaps_refused", "Attempts to take over that failed.", registry=registry
        )
        # Children are looked up once each: that costs more than to count.
        self._request = cache(self._requests.labels)
        self._timed = cache(self._seconds.labels)
        self._answered = cache(self._rows.labels)

    def serves(self, champion: Loaded) -> None:
        """Say which version serves, and where."""
        self._version.set(champion.version)
        self._on_gpu.set(champion.model.device != "cpu")

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one of the document's."""
        self._request(path, status).inc()
        self._timed(path).observe(seconds)

    def answered(self, predictions: Sequence[Any]) -> None:
        """Count rows that were answered."""
        for prediction in predictions:
            self._answered(prediction.model_version).inc()
            if prediction.missing:
                self._missing.inc()
            if prediction.stale:
                self._stale.inc()

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)
