"""Stage 2: the labelled rows through a cut-off day, with the versions of what they were made of.

A new day does not cut a new set: the first is cut when its labels are there, later ones by a
retrain decision, which names the cut-off. The set is one Delta version; its commit and its metadata
pin the versions of every table that it was made of.
"""

import json
from datetime import date
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.components.automation import missing_or_code_changed
from mlops_assets.components.metadata import preview, table_schema
from mlops_assets.components.ml_product import feature_view
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables.table_asset import table_periods
from mlops_assets.ml.families import Labelled, of_seen_classes
from mlops_assets.ml.periods import name_of
from mlops_assets.ml.targets import Target
from mlops_assets.stores.content import content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse

NAME = "training_set"
LABEL = "label"
DAY = "date"
NEWEST = "newest"
DECISION = "decision"
"""Metadata of a training set: the retrain decision that it was cut for."""


class CutOff(dg.Config):
    """What a retrain decision says."""

    cutoff: str = Field(
        default="",
        description=(
            "Last local day to train on, YYYY-MM-DD; `newest` for the newest labelled day less the"
            " holdout; empty keeps the present set's."
        ),
    )
    decision: str = Field(
        default="", description="The row of retrain_decisions that asks for it; a sensor says so."
    )


def labelled_rows(
    store: Lakehouse, product: Product, first: date | None, last: date
) -> pl.DataFrame:
    """Rows of the feature view from `first` to `last` whose label is known, with the label."""
    known_by = product.labels_known(last)
    view = store.scan(product.table(feature_view.NAME), first=first, last=last)
    labels = product.labels(store.scan(product.label.table, first=first, last=known_by))
    keys = product.spine.entity_keys
    return view.join(labels, on=keys, how="inner", maintain_order="left").collect().sort(keys)


def days_of_rows(rows: pl.DataFrame) -> pl.Series:
    """What rows are split and drawn by: their period, of those that come in hours their day."""
    return rows[DAY].cast(pl.Date)


def newest_labelled_day(store: Lakehouse, product: Product) -> date:
    """The newest local day whose labels are complete; the spine is the clock."""
    return product.labelled_by(product.today(store.partitions(product.spine.table)[-1]))


def training_set(product: Product) -> dg.AssetsDefinition:
    """The asset."""
    known_by, label = product.labels_known(product.training.first_cutoff), product.label.table
    come = product.partitions.at_end(known_by), table_periods(label).at_end(known_by)
    view_there, labels_there = (
        dg.SpecificPartitionsPartitionMapping([name_of(each)]) for each in come
    )

    version = product.code_version(
        labelled_rows,
        product.label,
        product.training.first_cutoff,
        product.module.label,
        product.task,
    )

    @product.asset(
        NAME,
        version,
        description="Labelled rows through the cut-off day; pins the versions it was made of.",
        deps=[
            dg.AssetDep(product.key(feature_view.NAME), partition_mapping=view_there),
            dg.AssetDep(dg.AssetKey(label.split("/")), partition_mapping=labels_there),
        ],
        automation_condition=missing_or_code_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext, config: CutOff, lakehouse: LakehouseResource
    ) -> dg.MaterializeResult[Any]:
        store = lakehouse.store
        cutoff = asked_cutoff(store, product, config.cutoff)
        rows = labelled_rows(store, product, None, cutoff)
        _require_labels(rows, product, cutoff)
        data_version, pinned = content_hash(rows), pinned_versions(store, product)
        version = keep_rows(store, product, NAME, rows, cutoff, context.run.run_id)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                "rows": rows.height,
                "days": days_of_rows(rows).n_unique(),
                "cutoff": cutoff.isoformat(),
                DECISION: config.decision,
                "labels": label_summary(rows[LABEL]),
                "delta_version": version,
                "made_of": dg.MetadataValue.json(pinned),
                **preview(rows),
                **table_schema(rows),
            },
        )

    return asset


def keep_rows(
    store: Lakehouse, product: Product, name: str, rows: pl.DataFrame, cutoff: date, run_id: str
) -> int:
    """Write the rows that a model is fitted on, with what they were made of; the Delta version."""
    made_of = pinned_versions(store, product)
    note = json.dumps({"cutoff": cutoff.isoformat(), "made_of": made_of})
    commit = Commit(run_id=run_id, data_versions={"": content_hash(rows)}, note=note)
    return store.overwrite(product.table(name), rows, commit)


def pinned_versions(store: Lakehouse, product: Product) -> dict[str, int]:
    """The present Delta version of each table that a training set is made of."""
    tables = [
        product.table(feature_view.NAME),
        product.spine.table,
        product.label.table,
        *product.features.tables,
    ]
    return {table: store.version(table) for table in tables}


def present_cutoff(store: Lakehouse, product: Product) -> date | None:
    """The cut-off of the present training set, None where there is no set yet."""
    name = product.table(NAME)
    if not store.exists(name):
        return None
    return date.fromisoformat(_note(store, name, store.version(name))["cutoff"])


def made_of(store: Lakehouse, product: Product, version: int, name: str = NAME) -> dict[str, int]:
    """Table to Delta version: what a version of a training set was made of, and itself."""
    table = product.table(name)
    return {table: version} | _note(store, table, version)["made_of"]


def _note(store: Lakehouse, table: str, version: int) -> dict[str, Any]:
    written = store.history(table).filter(pl.col("version") == version)
    note: dict[str, Any] = json.loads(written["note"][0])
    return note


def asked_cutoff(store: Lakehouse, product: Product, asked: str) -> date:
    """The cut-off that is asked for: a day, `newest`, or nothing for the present one.

    Raises:
        dagster.Failure: no day, or one whose labels are not known yet.
    """
    if not asked:
        return present_cutoff(store, product) or product.training.first_cutoff
    newest = newest_labelled_day(store, product)
    if asked == NEWEST:
        return product.ended_before(newest, product.training.holdout_days)
    try:
        cutoff = date.fromisoformat(asked)
    except ValueError:
        raise dg.Failure(
            f"{product.name}: cutoff {asked!r} is not a day; write it as {newest}, or {NEWEST!r}.",
            allow_retries=False,
        ) from None
    if (period := product.periods.of(cutoff)) != cutoff:
        raise dg.Failure(
            f"{product.name}: cutoff {cutoff} is within the {product.periods.every} of {period};"
            " write that day.",
            allow_retries=False,
        )
    if cutoff > newest:
        raise dg.Failure(
            f"{product.name}: cutoff {cutoff} is after {newest}, the newest day whose labels are"
            " known; choose that day or an earlier one.",
            allow_retries=False,
        )
    return cutoff


def label_summary(label: pl.Series) -> str:
    """The labels in a few words: the mean of numbers, the shares of the commonest classes."""
    if label.dtype.is_numeric():
        return f"mean {float(label.mean()):.4g}"  # type: ignore[arg-type]
    shares = label.value_counts(normalize=True, sort=True).head(5)
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.iter_rows())


def labelled(target: Target, rows: pl.DataFrame) -> Labelled:
    """Rows with their labels, as families take them."""
    return Labelled(rows, target.encode(rows[LABEL]), target)


def to_fit_on(
    target: Target, train: pl.DataFrame, valid: pl.DataFrame
) -> tuple[Labelled, Labelled]:
    """Rows to fit and to validate on, see `of_seen_classes`."""
    own = target.of(train[LABEL])
    return of_seen_classes(labelled(own, train), labelled(own, valid))


def _require_labels(rows: pl.DataFrame, product: Product, cutoff: date) -> None:
    said = f"{product.name}: the {rows.height} labelled rows through {cutoff}"
    if fault := product.target.fault(rows[LABEL]):
        raise dg.Failure(f"{said} {fault}. Is the cut-off too early?", allow_retries=False)
    try:
        product.target.of(rows[LABEL]).encode(rows[LABEL])
    except ValueError as error:
        raise dg.Failure(
            f"{said} do not fit the task {product.task}: {error}", allow_retries=False
        ) from None
