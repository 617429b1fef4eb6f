"""What stage 5 looks up before it believes a score: what was trained on what, and known when.

A version's tags are what somebody wrote. Here they are held against the training set itself, a
pinned version of a Delta table, and the features against the feature tables, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta

import numpy as np
import polars as pl

from mlops_assets.components.ml_product.origin import FITTED_ON, REFIT_SET
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training import INPUTS, MODEL_FOLDER
from mlops_assets.components.ml_product.training_set import DAY, days_of_rows, made_of
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.components.tables.table_asset import table_periods
from mlops_assets.ml.brute_force import features_known
from mlops_assets.ml.point_in_time import PREDICTION_TIME
from mlops_assets.ml.row_gates import Recomputed, Trained, differing
from mlops_assets.stores.lakehouse import Lakehouse, TableNotFound
from mlops_assets.stores.model_package import folder_digest
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

SAMPLED_DAYS, SAMPLED_ROWS = 4, 25
"""Days of the training rows and of the judged rows that are recomputed, and rows of each."""


class Unknown(LookupError):
    """It cannot be known for sure what a model was trained on."""


def set_read(models: ModelRegistry, product: Product, run_id: str) -> tuple[str, int]:
    """Name and version of the set that a training read, as it wrote down itself.

    Raises:
        Unknown: it kept no such record.
    """
    try:
        inputs = models.run_json(run_id, INPUTS)
        name = REFIT_SET if product.table(REFIT_SET) in inputs else TRAINING_SET
        return name, int(inputs[product.table(name)])
    except LookupError as error:
        raise Unknown(f"has no record of its training set ({error})") from None


def trained(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    rows: pl.DataFrame,
) -> Trained:
    """What a registered version was trained on, by its training set and by its tags."""
    claimed = date.fromisoformat(version.tags["cutoff"])
    try:
        name, pinned = set_read(models, product, version.run_id)
        said = version.tags.get("training_set_version")
        if (name, str(pinned)) != (version.tags.get(FITTED_ON, TRAINING_SET), said):
            raise Unknown(
                f"has the tag training_set_version {said}, while its training read version"
                f" {pinned} of {name}"
            )
        if folder_digest(models.run_files(version.run_id, MODEL_FOLDER)) != version.digest:
            raise Unknown(f"is not the model that its training {version.run_id} kept")
        return _seen(store, product, (name, pinned), claimed, rows)
    except (Unknown, FileNotFoundError) as error:
        return Trained(claimed, None, rows.height, str(error))


def baseline_trained(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    run_id: str,
    cutoff: date,
    rows: pl.DataFrame,
) -> Trained:
    """What the baseline was trained on, which must reach through the candidate's `cutoff`."""
    try:
        return _seen(store, product, set_read(models, product, run_id), cutoff, rows)
    except Unknown as error:
        return Trained(cutoff, None, rows.height, str(error))


def recompute(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    judged: pl.DataFrame,
) -> Recomputed:
    """Compare features of some judged and some training rows with what was known in time.

    Training rows are held against the versions of the tables that their set pins; where it is not
    known which set that was, which is a gate of its own, they are left out.
    """
    found = [_compared(store, product, judged, {})]
    with suppress(Unknown):
        name, pinned = set_read(models, product, version.run_id)
        rows = store.scan(product.table(name), version=pinned).collect()
        found.append(_compared(store, product, rows, made_of(store, product, pinned, name)))
    columns = dict.fromkeys(column for part in found for column in part.differing)
    return Recomputed(
        sum(part.cells for part in found),
        {c: sum(part.differing.get(c, 0) for part in found) for c in columns},
    )


def _seen(
    store: Lakehouse, product: Product, read: tuple[str, int], claimed: date, rows: pl.DataFrame
) -> Trained:
    keys, (name, pinned) = product.spine.entity_keys, read
    wanted = list(dict.fromkeys([*keys, DAY]))
    try:
        set_ = store.scan(product.table(name), version=pinned).select(wanted).collect()
    except (TableNotFound, OSError) as error:
        raise Unknown(f"has a training set that cannot be read: {error}") from None
    through = days_of_rows(set_).max()
    assert isinstance(through, date)
    seen = rows.join(set_, on=keys, how="semi").height
    return Trained(claimed, through, seen)


def _compared(
    store: Lakehouse, product: Product, rows: pl.DataFrame, versions: Mapping[str, int]
) -> Recomputed:
    if rows.is_empty():
        return Recomputed(0, {})
    sample = _sample(rows, product.spine.entity_keys)
    days = sample[DAY].unique().sort().to_list()
    expected = _known(store, product, sample, days, versions)
    columns = [PREDICTION_TIME, *product.columns.names]
    wrong = differing(sample.select(columns), expected.select(columns))
    return Recomputed(sample.height * len(columns), wrong)


def _sample(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Some rows of some days, the same ones for the same rows."""
    random = np.random.default_rng(7)
    days = rows[DAY].unique().sort()
    chosen = days.gather(np.sort(random.permutation(days.len())[:SAMPLED_DAYS]))
    there = rows.filter(pl.col(DAY).is_in(chosen.implode())).sort(keys)
    shuffled = there[random.permutation(there.height)]
    return shuffled.group_by(DAY, maintain_order=True).head(SAMPLED_ROWS)


def _known(
    store: Lakehouse,
    product: Product,
    sample: pl.DataFrame,
    days: list[date],
    versions: Mapping[str, int],
) -> pl.DataFrame:
    """The sample's spine columns and features, from the tables they are made of."""
    keys = product.spine.entity_keys
    raw = _days(store, product, product.spine.table, days, 0, versions)
    spine = product.module.spine(raw.lazy()).with_columns(
        pl.col(product.columns.categorical).cast(pl.String)
    )
    rows = sample.select(keys).join(
        spine.collect().unique(keys, keep="first", maintain_order=True),
        on=keys, how="left", maintain_order="left",
    )  # fmt: skip
    looked_up = [
        features_known(
            rows, _days(store, product, table, days, product.days_back(table), versions), definition
        )
        for table, definition in product.definitions.items()
    ]
    return rows.hstack([column for part in looked_up for column in part])


def _days(
    store: Lakehouse,
    product: Product,
    table: str,
    days: list[date],
    back: int,
    versions: Mapping[str, int],
) -> pl.DataFrame:
    """A table's rows of the product's periods and of so many days before each; all of a table
    without days."""
    rows = store.scan(table, version=versions.get(table))
    if DAY not in rows.collect_schema():
        return rows.collect()
    its, wanted = table_periods(table), set[date]()
    for day in days:
        first = its.of(day - timedelta(days=back))
        wanted |= {*its.between(first, its.at_end(product.partitions.read_through(day)))}
    return rows.filter(pl.col(DAY).is_in(sorted(wanted))).collect()
