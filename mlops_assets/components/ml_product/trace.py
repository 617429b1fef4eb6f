"""What stands behind one answer: model, training set, gates, features, and the number once more.

Batch and online answers are found by their ids alone. Nothing is written. The answer is computed
again from the very content it was made of, which the lake keeps: see pins.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from mlops_assets.components.ml_product import feature_view, requests
from mlops_assets.components.ml_product.answers import held, offline_features, used_features
from mlops_assets.components.ml_product.incumbent import GATE_RESULTS, PROMOTIONS
from mlops_assets.components.ml_product.origin import set_of
from mlops_assets.components.ml_product.pins import SCORED, intervals
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, made_of
from mlops_assets.ml.contributions import largest
from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.periods import name_of
from mlops_assets.ml.serving_gates import differences, tolerance
from mlops_assets.ml.skew import skew
from mlops_assets.stores.content import content_hash
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion
from mlops_assets.stores.request_shipping import RECEIVED_ON

BATCH, ONLINE = "batch", "online"


class UnknownPrediction(LookupError):
    """No table of answers has this id."""


class ContentGone(LookupError):
    """The features of an answer can no longer be read as they were."""


@dataclass(frozen=True)
class Features:
    """What a model was given.

    Attributes:
        row: one row, the model's columns among others.
        versions: table to the Delta version that it was read from.
        differing: features which the tables at these versions say otherwise: name to
            (as used, as computed again).
        content: hash of the day's feature view, or generation of the online store.
    """

    row: pl.DataFrame
    versions: Mapping[str, int]
    content: str
    differing: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Trace:
    """All that stands behind one answer; `computed_again` is computed anew, `same` says whether
    it and every feature are what the answer was made of (to 1e-6: a row alone and a row in a batch
    may round differently). `contributions` is as `contributions.largest` returns it."""

    prediction_id: str
    product: str
    path: str
    answer: dict[str, Any]
    model: dict[str, Any]
    training_set: dict[str, int]
    gates: list[dict[str, Any]]
    promotions: list[dict[str, Any]]
    features: dict[str, Any]
    features_from: dict[str, int]
    features_content: str
    features_differing: dict[str, tuple[Any, Any]]
    contributions: dict[str, Any] | None
    answered: float | list[float]
    computed_again: float | list[float]
    same: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values; times and days in ISO form."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def trace(store: Lakehouse, models: ModelRegistry, product: Product, prediction_id: str) -> Trace:
    """Resolve an id of one of the product's answers.

    Raises:
        UnknownPrediction: naming the tables that were searched and what an id looks like.
        ContentGone: its features are no longer in the lake.
        UnknownGeneration: the lake has no record of the online store that answered.
        VersionNotFound, DigestMismatch: the registry has not its model as it was.
    """
    path, rows = find(store, product, prediction_id)
    answer = rows.row(0, named=True)
    version = models.get(product.name, answer["model_version"])
    model = models.load(version)
    features = (
        _of_batch(store, product, answer)
        if path == BATCH
        else _of_online(store, product, rows, model.columns)
    )
    again = model.predict(features.row)
    said = model.target.scores_of(rows)
    used = features.row.select(model.columns.names).row(0, named=True)
    near = float(differences(said, again)[0]) <= tolerance(product.serving.device)
    same = near and not features.differing
    return Trace(
        prediction_id, product.name, path, answer, _described(models, version),
        _made_of(store, product, version),
        _rows(store, product.table(GATE_RESULTS), version, "judged_at"),
        _rows(store, product.table(PROMOTIONS), version, "decided_at"),
        used, dict(features.versions), features.content, dict(features.differing),
        largest(model, features.row), said[0].tolist(), again[0].tolist(), same,
    )  # fmt: skip


def _made_of(store: Lakehouse, product: Product, version: ModelVersion) -> dict[str, int]:
    table, pinned = set_of(product, version)
    return made_of(store, product, pinned, table.split("/")[1])


def find(store: Lakehouse, product: Product, prediction_id: str) -> tuple[str, pl.DataFrame]:
    """The path by which an answer was given, and its row; of online answers the one given."""
    asked = pl.col("prediction_id") == prediction_id
    log = product.table(requests.NAME)
    tables = [log, *(product.table(name) for name in SCORED)]
    # What an id says of its day chooses the partition to read.
    received, day = _received_on(prediction_id), _day(product, prediction_id)
    for table in tables:
        if not store.exists(table) or (table == log and received is None):
            continue
        by, when = (RECEIVED_ON, received) if table == log else (DAY, day)
        rows = store.scan(table, first=when, last=when, by=by).filter(asked)
        found = rows.filter(role=requests.ANSWER) if table == log else rows
        if (answer := found.head(1).collect()).height:
            return ONLINE if table == log else BATCH, answer
    raise UnknownPrediction(
        f"no answer has the id {prediction_id!r}; searched were {', '.join(tables)}."
        f" {_example(store, tables)}"
    )


def _of_batch(store: Lakehouse, product: Product, answer: Mapping[str, Any]) -> Features:
    """The row of the feature view as it stood in the content that the prediction names."""
    view, day, content = product.table(feature_view.NAME), answer[DAY], answer["features_version"]
    first, last = intervals(store, view).get((name_of(day), content), (0, -1))
    for version in range(last, first - 1, -1):
        try:
            rows = store.scan(view, version=version, first=day, last=day).collect()
        except (OSError, pl.exceptions.ComputeError):
            continue  # A version between two that are kept may have lost its files to a vacuum.
        if content_hash(rows) == content:
            own = rows.filter(pl.col(k) == answer[k] for k in product.spine.entity_keys)
            return Features(own, {view: version}, content, {})
    raise ContentGone(
        f"{answer['prediction_id']} was made of the content {content} of {view} on {day}, which"
        f" {f'its versions {first} to {last} no longer give' if last >= first else 'its log lacks'}"
    )


def _of_online(
    store: Lakehouse, product: Product, rows: pl.DataFrame, columns: FeatureColumns
) -> Features:
    """The features that a server used, held against the offline path as of its generation."""
    generation = rows["generation"][0]
    known = held(store, product, generation)
    used = used_features(rows, columns)
    found = skew(used, offline_features(store, product, rows, known), columns)
    differing = {
        name: (one, other)
        for name, one, other in found.select("feature", "used", "offline").iter_rows()
    }
    versions = {table: there.delta_version for table, there in known.items()}
    return Features(used.drop("prediction_id"), versions, generation, differing)


def _described(models: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "digest": version.digest,
        "aliases": list(version.aliases),
        "mlflow_run": version.run_id,
        "mlflow": models.link(version.name, version.run_id),
        **version.tags,
    }


def _rows(store: Lakehouse, table: str, version: ModelVersion, order: str) -> list[dict[str, Any]]:
    """Rows of a table about a version, oldest first."""
    if not store.exists(table):
        return []
    rows = store.scan(table).filter(digest=version.digest).sort(order).drop("digest")
    return rows.collect().to_dicts()


def _day(product: Product, prediction_id: str) -> date | None:
    """The day that a batch id names, if it is one."""
    parts = prediction_id.split(":")
    at = product.spine.entity_keys.index(DAY) + 1 if DAY in product.spine.entity_keys else 0
    try:
        if at and product.partitions.every == "hour":
            return datetime.fromisoformat(parts[at]).replace(tzinfo=UTC)
        return date.fromisoformat(parts[at]) if at else None
    except (ValueError, IndexError):
        return None


def _received_on(prediction_id: str) -> date | None:
    """The UTC day on which a server received a request, if it is the id of an answer to one."""
    found = re.fullmatch(r".*:q:([0-9a-f]{14})[0-9a-f]{16}", prediction_id)
    try:
        return datetime.fromtimestamp(int(found[1], 16) / 1e6, UTC).date() if found else None
    except (ValueError, OverflowError):
        return None


def _example(store: Lakehouse, tables: list[str]) -> str:
    for table in tables:
        if store.exists(table) and store.rows(table):
            some = store.scan(table).select("prediction_id").head(1).collect().item()
            return f"An id looks like {some}"
    return "There are no answers yet"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
