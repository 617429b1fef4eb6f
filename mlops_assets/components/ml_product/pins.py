"""Which versions of which tables must stay: those that models, gate results, predictions refer to.

A model refers to its training set, and by it to every table that the set was made of; a gate
result to those tables as they were when it was judged; a prediction to its model, and to the
content of the feature view that it was made from; an answer of a server to its model, and to what
its generation of the online store was made of. What cannot be resolved keeps all that it might
mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from json import loads
from typing import Any

import polars as pl

from mlops_assets.components.ml_product import (
    feature_view,
    online_features,
    requests,
    scoring,
    shadow,
    training_set,
)
from mlops_assets.components.ml_product.evaluation import GATE_RESULTS, SEGMENTS
from mlops_assets.components.ml_product.evaluation import NAME as EVALUATION
from mlops_assets.components.ml_product.origin import REFIT_SET, set_of
from mlops_assets.components.ml_product.product import Product
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

Found = dict[str, dict[int, list[str]]]
"""Table to version to reasons."""
SCORED = (scoring.NAME, shadow.NAME)
"""Tables of predictions: the champion's, and the predecessor's beside it."""
SERVED_GENERATIONS = 2
"""Generations that an online store holds: the present one, and the one before it."""
_Interval = tuple[int, int]


def pins(store: Lakehouse, models: ModelRegistry, products: Iterable[Product]) -> Found:
    """All versions that something refers to, with who it is.

    Raises:
        LookupError: if a model refers to a version that the lake does not have.
    """
    found: Found = defaultdict(lambda: defaultdict(list))
    for product in products:
        if store.exists(product.table(training_set.NAME)):
            _Pins(store, models, product, found).collect()
    return {table: dict(versions) for table, versions in found.items()}


class _Pins:
    """Those of one product, added to `found`."""

    def __init__(
        self, store: Lakehouse, models: ModelRegistry, product: Product, found: Found
    ) -> None:
        self._store, self._product, self._found = store, product, found
        self._sets = _training_sets(store, product)
        self._of_model = {v.version: set_of(product, v) for v in models.versions(product.name)}

    def collect(self) -> None:
        for model, read in self._of_model.items():
            self._pin_set(read, f"{self._product.name} model {model} was trained on it")
        self._gates()
        self._reports()
        self._predictions()
        self._answers()

    def _reports(self) -> None:
        """What an evaluation wrote; a champion's report is read as long as it serves."""
        runs = dict(self._rows(GATE_RESULTS, "run_id", "model_version"))
        for name in (EVALUATION, SEGMENTS):
            table = self._product.table(name)
            if self._store.exists(table):
                written = self._store.history(table).select("version", "run_id")
                for version, run in written.iter_rows():
                    if run in runs:
                        why = f"the report on {self._product.name} model {runs[run]}"
                        self._pin(table, version, why)

    def _gates(self) -> None:
        judged = self._rows(GATE_RESULTS, "model_version", "judged_at")
        for model, when in judged:
            self._pin_model(model, f"a gate judged {self._product.name} model {model}")
            for table in self._made_of(model):
                version = _version_at(self._store, table, when)
                self._pin(table, version, f"gates judged {self._product.name} model {model} on it")

    def _predictions(self) -> None:
        made_by = ("model_version", "date", "features_version")
        rows = [row for name in SCORED for row in self._rows(name, *made_by)]
        for model in sorted({model for model, _, _ in rows}):
            self._pin_model(model, f"{self._product.name} model {model} made predictions")
        view = self._product.table(feature_view.NAME)
        where = intervals(self._store, view)
        newest = self._store.version(view)
        wanted: dict[_Interval, list[str]] = defaultdict(list)
        for _, day, content in rows:
            span = where.get((str(day), content))
            if span is None:
                self._pin_all(view, f"predictions of {day} were made from content not in its log")
            elif span[1] < newest:
                wanted[span].append(str(day))
        # Fewest versions: in order of their ends, each interval without one takes its end.
        for first, last in sorted(wanted, key=lambda span: span[1]):
            there = sorted(self._found[view])
            at = bisect_left(there, first)
            version = there[at] if at < len(there) and there[at] <= last else last
            days = sorted(set(wanted[first, last]))
            named = days[0] if len(days) == 1 else f"{days[0]} and {len(days) - 1} more days"
            self._pin(view, version, f"{self._product.name} predictions of {named} were made of it")

    def _answers(self) -> None:
        """What answered, or will: the newest generations are those that servers have now."""
        name = self._product.name
        for (model,) in self._rows(requests.NAME, "model_version"):
            self._pin_model(model, f"{name} model {model} answered requests")
        answered = {generation for (generation,) in self._rows(requests.NAME, "generation")}
        held = ("published_at", "generation", "table", "delta_version")
        rows = self._rows(online_features.NAME, *held)
        published = sorted({(at, generation) for at, generation, *_ in rows})
        served = {generation for _, generation in published[-SERVED_GENERATIONS:]}
        for _, generation, table, version in rows:
            what = f"generation {generation[:12]} of {name}'s online store"
            if generation in answered:
                self._pin(table, version, f"requests were answered from {what}")
            elif generation in served:
                self._pin(table, version, f"{what} is served")

    def _rows(self, name: str, *columns: str) -> list[tuple[Any, ...]]:
        table = self._product.table(name)
        if not self._store.exists(table):
            return []
        return self._store.scan(table).select(columns).unique().sort(columns).collect().rows()

    def _made_of(self, model: int) -> Iterable[str]:
        read = self._of_model.get(model)
        return self._sets.get(read, {}) if read is not None else ()

    def _pin_model(self, model: int, why: str) -> None:
        if model in self._of_model:
            return
        for read in self._sets:
            self._pin_set(read, f"{why}, and the registry does not have it")

    def _pin_set(self, read: tuple[str, int], why: str) -> None:
        table, version = read
        if read not in self._sets:
            raise LookupError(
                f"{why}, but {table} has no such version {version} in {self._store.uri}; do the"
                " lake and the registry belong together?"
            )
        self._pin(table, version, why)
        for source, at in self._sets[read].items():
            self._pin(source, at, why)

    def _pin_all(self, table: str, why: str) -> None:
        for version in range(self._store.version(table) + 1):
            self._pin(table, version, why)

    def _pin(self, table: str, version: int, why: str) -> None:
        reasons = self._found[table][version]
        if why not in reasons:
            reasons.append(why)


def _training_sets(store: Lakehouse, product: Product) -> dict[tuple[str, int], dict[str, int]]:
    """Table and version of a training set to the tables, and versions, that it was made of."""
    found = {}
    for table in map(product.table, (training_set.NAME, REFIT_SET)):
        if store.exists(table):
            history = store.history(table).filter(pl.col("note").str.starts_with("{"))
            for version, note in history.select("version", "note").iter_rows():
                found[table, version] = loads(note)["made_of"]
    return found


def _version_at(store: Lakehouse, table: str, when: datetime) -> int:
    """The newest version of a table at a moment; the first where it came later."""
    history = store.history(table).sort("version")
    earlier = history.filter(pl.col("timestamp") <= when)["version"]
    return int(earlier[-1]) if len(earlier) else int(history["version"][0])


def intervals(store: Lakehouse, table: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(Partition, content) to the versions, first to last, in which it last stood so."""
    written: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry in reversed(store.delta(table).history()):
        for partition, content in loads(entry.get("data_versions", "{}")).items():
            written[partition].append((entry["version"], content))
    newest = store.version(table)
    found = {}
    for partition, commits in written.items():
        for (version, content), (following, _) in pairwise([*commits, (newest + 1, "")]):
            found[partition, content] = (version, following - 1)
    return found
