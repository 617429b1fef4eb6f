"""Stage 18: whether what servers used is what the offline path gives, request by request.

Every logged request goes through the offline path once, on the versions of the tables that its
online store was made of; features must be equal cell by cell, answers to 1e-6 (a row alone and a
row in a batch round differently). It reads the log's table, which nothing of training reads:
the graph has no cycle. The check fails while any request of the newest day of traffic differs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product import requests
from mlops_assets.components.ml_product.answers import (
    answers_again,
    held,
    offline_features,
    used_features,
)
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.serving_gates import differences, tolerance
from mlops_assets.ml.skew import SCHEMA as CELLS_SCHEMA
from mlops_assets.ml.skew import skew
from mlops_assets.ml.targets import Target
from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse, TableNotFound
from mlops_assets.stores.model_registry import DigestMismatch, ModelRegistry, VersionNotFound
from mlops_assets.stores.offline_features import UnknownGeneration
from mlops_assets.stores.request_shipping import BATCH, RECEIVED_ON

NAME = "skew"
CELLS = "skew_cells"
CHECK = "online_as_offline"
SHOWN = 20
_TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {
    BATCH: pl.String, RECEIVED_ON: pl.Date, "first": _TIME, "last": _TIME, "requests": pl.Int64,
    "cells": pl.Int64, "differing": pl.Int64, "unresolved": pl.Int64, "why": pl.String,
    "checked_at": _TIME,
}  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A batch of requests held against the offline path.

    Attributes:
        requests: how many.
        cells: features and answers that were compared.
        differing: rows of `skew_cells`.
        unresolved: requests that cannot be computed again.
        why: of the first of them.
    """

    requests: int
    cells: int
    differing: pl.DataFrame
    unresolved: int
    why: str


def compare(
    store: Lakehouse, models: ModelRegistry, product: Product, rows: pl.DataFrame
) -> Compared:
    """Compute rows of `requests` once more, by the generations and versions that answered them."""
    found: list[pl.DataFrame] = []
    cells, unresolved, why = 0, 0, ""
    for (name, version), part in rows.group_by("generation", "model_version", maintain_order=True):
        try:
            known = held(store, product, str(name))
            columns = models.columns(models.get(product.name, int(version)))
            found += [
                skew(used_features(part, columns), offline_features(store, product, part, known),
                     columns),
                _answers(part, answers_again(models, product, int(version), part), product.target,
                         tolerance(product.serving.device)),
            ]  # fmt: skip
            cells += part.height * (len(columns.names) + 1)
        except (
            UnknownGeneration, KeyError, TableNotFound, VersionNotFound, DigestMismatch, OSError,
        ) as error:  # fmt: skip
            unresolved, why = unresolved + part.height, why or str(error)
    differing = pl.concat(found) if found else pl.DataFrame(schema=CELLS_SCHEMA)
    return Compared(rows.height, cells, differing, unresolved, why)


def unchecked(store: Lakehouse, product: Product) -> list[str]:
    """Batches of `requests` that were not held against the offline path yet, oldest first."""
    log, own = product.table(requests.NAME), product.table(NAME)
    if not store.exists(log):
        return []
    batches = store.scan(log).group_by(BATCH).agg(pl.col("received_at").min()).sort("received_at")
    if store.exists(own):
        batches = batches.join(store.scan(own).select(BATCH), on=BATCH, how="anti")
    return batches.sort("received_at").select(BATCH).collect()[BATCH].to_list()


def skew_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with its blocking check."""
    key = product.key(NAME)

    @product.asset(
        NAME,
        product.code_version(
            compare, product.definitions, product.module.spine, product.request, product.target
        ),
        description="Logged requests computed again by the offline path, compared cell by cell;"
        " one row a batch that was shipped.",
        deps=[product.key(requests.NAME)],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                blocking=True,
                description="What servers used is what the offline path gives, cell by cell.",
            )
        ],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, log = lakehouse.store, product.table(requests.NAME)
        cells = 0
        for batch in unchecked(store, product):
            rows = store.scan(log).filter(pl.col(BATCH) == batch).collect()
            done = compare(store, registry.store, product, rows)
            _write(store, product, batch, rows, done, context.run.run_id)
            cells += done.cells
        newest, differing = newest_day(store, product)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(f"delta-{_version(store, product.table(NAME))}"),
            metadata={
                "cells": cells,
                "requests_of_newest_day": int(newest["requests"].sum()),
                "unresolved": int(newest["unresolved"].sum()),
                "differing": table(differing.head(SHOWN)),
            },
        )
        yield verdict(key, newest, differing)

    return asset


def newest_day(store: Lakehouse, product: Product) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `skew` of the newest day of traffic, and of `skew_cells` that belong to them."""
    if not store.exists(product.table(NAME)):
        return pl.DataFrame(schema=SCHEMA), pl.DataFrame(schema=CELLS_SCHEMA)
    rows = store.scan(product.table(NAME))
    newest = rows.filter(pl.col(RECEIVED_ON) == pl.col(RECEIVED_ON).max()).collect()
    if not store.exists(product.table(CELLS)):
        return newest, pl.DataFrame(schema=CELLS_SCHEMA)
    cells = store.scan(product.table(CELLS)).filter(pl.col(BATCH).is_in(newest[BATCH].implode()))
    return newest, cells.drop(BATCH).sort("differing", "feature", descending=True).collect()


def verdict(key: dg.AssetKey, newest: pl.DataFrame, differing: pl.DataFrame) -> dg.AssetCheckResult:
    """Whether all of the newest day's requests were computed again, and equal."""
    asked, unresolved = int(newest["requests"].sum()), int(newest["unresolved"].sum())
    wrong = int(newest["differing"].sum())
    said = f"{asked} requests, {int(newest['cells'].sum())} cells compared, {wrong} differ"
    if differing.height:
        worst = differing.row(0, named=True)
        said += (
            f", most of {worst['feature']}: {worst['prediction_id']} used {worst['used']}, the"
            f" offline path gives {worst['offline']}"
        )
    if unresolved:
        why = newest.filter(pl.col("unresolved") > 0)["why"][0]
        said += f"; {unresolved} requests cannot be computed again: {why}"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not wrong and not unresolved,
        description=said,
        metadata={"requests": asked, "differing": wrong, "unresolved": unresolved},
    )


def _answers(rows: pl.DataFrame, again: np.ndarray, target: Target, limit: float) -> pl.DataFrame:
    """The row of `skew_cells` of the answers themselves, if any of them does not come out again."""
    said = target.of_predictions(rows).scores_of(rows)
    apart = differences(said, again)
    wrong = apart > limit
    if not wrong.any():
        return pl.DataFrame(schema=CELLS_SCHEMA)
    at = int(np.argmax(wrong))
    row = (
        target.answer, rows.height, int(wrong.sum()), float(apart.max()),
        rows["prediction_id"][at], str(said[at]), str(again[at]),
    )  # fmt: skip
    return pl.DataFrame([row], schema=CELLS_SCHEMA, orient="row")


def _write(
    store: Lakehouse, product: Product, batch: str, rows: pl.DataFrame, done: Compared, run_id: str
) -> None:
    """The cells that differ first: what a kill leaves between the two is not written twice."""
    commits = [Commit(run_id=run_id, note=note, transactions={batch: 0}) for note in (CELLS, NAME)]
    differing = done.differing.select(pl.lit(batch).alias(BATCH), pl.all())
    row = {
        BATCH: batch, RECEIVED_ON: rows[RECEIVED_ON].max(), "first": rows["received_at"].min(),
        "last": rows["received_at"].max(), "requests": done.requests, "cells": done.cells,
        "differing": int(done.differing["differing"].sum()), "unresolved": done.unresolved,
        "why": done.why, "checked_at": datetime.now(UTC),
    }  # fmt: skip
    frames = [(CELLS, differing), (NAME, pl.DataFrame([row], schema=SCHEMA))]
    for (name, frame), commit in zip(frames, commits, strict=True):
        try:
            if frame.height:
                store.append(product.table(name), frame, commit)
        except AlreadyCommitted:
            continue


def _version(store: Lakehouse, table: str) -> int:
    return store.version(table) if store.exists(table) else -1
