"""From requests to answers: look up, compute, predict, log; several requests at a time.

The on-demand expressions and the look-ups are those of training. Every version that runs predicts
each request; all their records are in the log, in one write, before any answer is given.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from bentos.tabular.rows import answer_types, utc
from bentos.tabular.versions import Loaded, Serving
from mlops_assets.ml.families import Rows
from mlops_assets.ml.online import microseconds
from mlops_assets.ml.point_in_time import PREDICTION_TIME
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.online_features import OnlineFeatures
from mlops_assets.stores.request_log import Record, RequestLog

_TYPES = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "datetime": pl.Datetime("us", "UTC"),
    "boolean": pl.Boolean(),
}
_MOST_KNOWN = 50_000
"""Rows whose on-demand features are kept, some 50 MB."""
_EPOCH_DAY = 719_163
"""1970-01-01 as Python counts days."""
ANSWER, SHADOW = "answer", "shadow"


@dataclass(frozen=True)
class Asked:
    """One row of a request, as the caller gave it, and when (UTC microseconds, and a counter)."""

    given: dict[str, Any]
    received_at: int
    begun_ns: int

    @classmethod
    def now(cls, given: dict[str, Any]) -> Asked:
        """A row that has come this moment."""
        return cls(given, time.time_ns() // 1000, time.perf_counter_ns())


@dataclass(frozen=True)
class Row:
    """A request's row with all that a model reads.

    Attributes:
        features: by name, in the contract's order.
        key: the entity keys.
        as_of: its own prediction time.
        missing, stale: see `Record`.
        generation: of the online store.
    """

    features: dict[str, Any]
    key: dict[str, Any]
    as_of: datetime
    missing: list[str]
    stale: list[str]
    generation: str


class Scorer:
    """Answers rows with what serves at the moment; safe to use from several threads."""

    def __init__(
        self, contract: Contract, online: OnlineFeatures, log: RequestLog, serving: Serving
    ) -> None:
        self._contract, self._online = contract, online
        self._prediction, _ = answer_types(contract)
        # A record has the time as a number.
        self._answers = [n for n in self._prediction.__struct_fields__ if n != "as_of"]
        self._hash = contract.hash
        self._expressions = contract.expressions()
        read = {name for each in self._expressions for name in each.meta.root_names()}
        fields = {field.name: _TYPES[field.type] for field in contract.request}
        # Expressions that read nothing still need the rows.
        self._roots = {name: fields[name] for name in fields if name in read} or fields
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._log, self._lock = log, threading.Lock()
        self.serving = serving

    def answer(self, asked: Sequence[Asked]) -> list[Any]:
        """The answers to some rows, which are in the log when this returns.

        Raises:
            OnlineStoreError: features cannot be looked up.
            OSError: the log cannot be written.
        """
        serving = self.serving
        rows = self.rows([each.given for each in asked])
        given = Rows([row.features for row in rows])
        scores = [loaded.model.predict(given) for loaded in serving.all]
        answers, records = [], []
        for at, (one, row) in enumerate(zip(asked, rows, strict=True)):
            chosen = serving.answering(tuple(row.key.values()))
            made = _prediction_id(self._contract.product, one.received_at)
            for loaded, score in zip(serving.all, scores, strict=True):
                record = self._record(made, one, row, loaded, score[at], loaded is chosen)
                records.append(record)
                if loaded is chosen:
                    answers.append(self._answer(record, row))
        with self._lock:
            self._log.append(*records)
        return answers

    def rows(self, given: Sequence[dict[str, Any]]) -> list[Row]:
        """The rows with their features, as the endpoint knows them now."""
        asked = [{name: utc(value) for name, value in each.items()} for each in given]
        derived = self._derived(self._online.complete(asked))
        looked_up = self._online.look_up(derived)
        names, keys = self._contract.features, self._contract.entity_keys
        rows = []
        for row, looked in zip(derived, looked_up, strict=True):
            row.update(looked.values)
            features = {name: row[name] for name in names}
            missing = [name for name, value in features.items() if value is None]
            key = {name: row[name] for name in keys}
            rows.append(
                Row(features, key, row[PREDICTION_TIME], missing, looked.stale, looked.generation)
            )
        return rows

    def _derived(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with what the on-demand expressions give.

        They follow from a few of a row's columns and cost a tenth of a millisecond, so that what
        was computed is kept: the same rows are asked for again and again.
        """
        names = [tuple([row[name] for name in self._roots]) for row in rows]
        lacking = list(dict.fromkeys(name for name in names if name not in self._known))
        if lacking:
            if len(self._known) > _MOST_KNOWN:
                self._known = {}
            given = [dict(zip(self._roots, name, strict=True)) for name in lacking]
            frame = pl.DataFrame(given, schema=self._roots)
            derived = frame.with_columns_seq(self._expressions).to_dicts()
            self._known |= zip(lacking, derived, strict=True)
        return [row | self._known[name] for row, name in zip(rows, names, strict=True)]

    def roll(self) -> None:
        """Close the log's segment where it is old; every second or so, from any thread."""
        with self._lock:
            self._log.roll()

    def close(self) -> None:
        """Close the log's segment."""
        with self._lock:
            self._log.close()

    @property
    def log_is_writable(self) -> bool:
        """Whether the last write of the log worked."""
        return self._log.writable

    def _answer(self, record: Record, row: Row) -> Any:
        said = {name: getattr(record, name) for name in self._answers}
        if record.classes is not None and record.probabilities is not None:
            said["probabilities"] = dict(zip(record.classes, record.probabilities, strict=True))
        return self._prediction(as_of=row.as_of, **said)

    def _record(
        self, made: str, asked: Asked, row: Row, loaded: Loaded, score: Any, answers: bool
    ) -> Record:
        return Record(
            prediction_id=made,
            received_at=asked.received_at,
            product=self._contract.product,
            request=asked.given,
            key=row.key,
            date=row.key["date"].toordinal() - _EPOCH_DAY,
            as_of=microseconds(row.as_of),
            features=row.features,
            missing=row.missing,
            stale=row.stale,
            **loaded.model.target.answer_row(score, loaded.threshold),
            model_version=loaded.version,
            digest=loaded.digest,
            generation=row.generation,
            contract_hash=self._hash,
            role=ANSWER if answers else SHADOW,
            arm=loaded.arm,
            duration_us=(time.perf_counter_ns() - asked.begun_ns) // 1000,
        )


def _prediction_id(product: str, received_at: int) -> str:
    """Sorts by time within a product; 64 random bits tell those of one microsecond apart."""
    return f"{product}:q:{received_at:014x}{os.urandom(8).hex()}"
