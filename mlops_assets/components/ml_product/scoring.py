"""Stage 8: predictions, made as of each row's prediction time, append-only.

They begin after the champion's training cut-off: nothing is scored in sample, and a day that it
was trained on and nobody scored before has no rows. Every row says which model and which feature
content made it. A day that is scored again by the same champion on the same features adds nothing;
otherwise it adds a revision. A run is one commit, made block by block.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import once
from mlops_assets.components.ml_product import feature_view
from mlops_assets.components.ml_product.evaluation import trained_through
from mlops_assets.components.ml_product.incumbent import serving_version
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.training_set import DAY
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.tables.day_events import day_event
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.families import Model
from mlops_assets.ml.periods import day_of, name_of
from mlops_assets.stores.content import content_hash, content_hashes, partition_keys
from mlops_assets.stores.dtypes import UTC_TIME
from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelVersion

NAME = "predictions"
BLOCK_ROWS = 131_072
"""Rows in memory at a time, some 250 MB with sixty features; at least one day's."""


def score(
    view: pl.DataFrame, model: Model, version: ModelVersion, product: Product
) -> pl.DataFrame:
    """One prediction a row of the feature view, without its revision and id.

    Columns: the entity keys, `as_of` (UTC), those of the target (`Target.columns`: probability,
    decision and threshold of a binary one), `model_version`, `family`, `features_version` (content
    of the day's feature view).
    """
    answers = model.target.columns(model.predict(view), version.threshold)
    contents = content_hashes(view, by=DAY)
    return view.select(
        *product.spine.entity_keys,
        pl.col("prediction_time").alias("as_of"),
        *answers,
        pl.lit(version.version, pl.Int64).alias("model_version"),
        pl.lit(version.tags["family"]).alias("family"),
        partition_keys(view, DAY).replace_strict(contents).alias("features_version"),
    )


def revise(scored: pl.DataFrame, existing: pl.DataFrame | None, product: Product) -> pl.DataFrame:
    """The rows to append: those of days not yet scored by this model on these features.

    `prediction_id` names the product, the key, the model version and the revision.
    """
    made_by = [DAY, "model_version", "features_version"]
    scored = scored.with_columns(pl.lit(1, pl.Int64).alias("revision"))
    if existing is not None and existing.height:
        newest = existing.group_by(DAY).agg(pl.col("revision").max().alias("newest"))
        scored = (
            scored.join(existing.select(made_by).unique(), on=made_by, how="anti")
            .join(newest, on=DAY, how="left", maintain_order="left")
            .with_columns((pl.col("newest").fill_null(0) + 1).alias("revision"))
            .drop("newest")
        )
    parts = [pl.lit(product.name), *(_named(scored, k) for k in product.spine.entity_keys)]
    name = [*parts, pl.format("v{}", "model_version"), pl.format("r{}", "revision")]
    return scored.select(pl.concat_str(name, separator=":").alias("prediction_id"), pl.all())


def _named(scored: pl.DataFrame, key: str) -> pl.Expr:
    """A key as it stands in an id, whose parts are separated by colons."""
    if key == DAY and scored.schema[DAY] == UTC_TIME:
        return pl.col(DAY).dt.strftime("%Y-%m-%dT%H")
    return pl.col(key).cast(pl.String)


def revisions_of(new: pl.DataFrame) -> dict[str, int]:
    """Each day to the revision that is added to it: of two runs only one may bring it."""
    newest = new.group_by(DAY).agg(pl.col("revision").max())
    return {name_of(day): revision for day, revision in newest.iter_rows()}


@dataclass(frozen=True)
class ScoredDay:
    """What there is of a day after a run: `content` is the hash of its newest predictions."""

    rows: int
    mean_prediction: float
    content: str


def predict_days(
    store: Lakehouse,
    product: Product,
    model: Model,
    version: ModelVersion,
    days: list[date],
    commit: Commit,
) -> dict[date, ScoredDay]:
    """Score days of the feature view, and append what is new in one commit.

    A block of whole days is in memory at a time: a day's features_version is that of all its rows.
    A day without rows is not in the result. Whoever scores a day at the same moment, of two only
    one brings its next revision; the other looks again.
    """
    view = store.scan(product.table(feature_view.NAME))
    if not days and not store.exists(product.table(NAME)):
        # The table is there before any day has rows, so that what follows finds none in it.
        nothing = revise(score(view.head(0).collect(), model, version, product), None, product)
        store.append(product.table(NAME), nothing, commit, by=DAY)
    before = store.scan(product.table(NAME)) if store.exists(product.table(NAME)) else None
    size = _days_a_block(store, product)
    blocks = [days[at : at + size] for at in range(0, len(days), size)]
    found: dict[date, ScoredDay] = {}
    revisions: dict[str, int] = {}

    def added() -> Iterator[pl.DataFrame]:
        for block in blocks:
            scored = score(_of_days(view, block).collect(), model, version, product)
            existing = _existing(before, block)
            new = revise(scored, existing, product)
            # The newest predictions of a day that had none are these: no need to read them again.
            first = new if existing is None else new.join(existing, on=DAY, how="anti")
            found.update(_scored(first, product))
            revisions.update(revisions_of(new))
            yield new

    once_each = replace(commit, transactions=revisions)
    try:
        store.append_frames(product.table(NAME), added(), once_each, by=DAY)
    except AlreadyCommitted:
        return predict_days(store, product, model, version, days, commit)
    if before is not None:
        after = store.scan(product.table(NAME))
        for block in blocks:
            if rest := [day for day in block if day not in found]:
                there = newest_revision(_of_days(after, rest), product)
                found.update(_scored(there.collect(), product))
    return found


def predictions_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, one partition a local day after the first cut-off."""
    code = product.code_version(score, product.columns, product.target)

    @product.asset(
        NAME,
        code,
        days=product.scored_days,
        description="One row a prediction, made as of its own prediction time; append-only.",
        deps=[product.read_from(product.table(feature_view.NAME), 0, 0), product.key(CHAMPION)],
        automation_condition=once(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        version = serving_version(store, models, product.name)
        seen, days = _in_sample(store, product, days_of(context), version)
        commit = Commit(run_id=context.run.run_id, note=f"model version {version.version}")
        scored = predict_days(store, product, models.load(version), version, days, commit)
        yield from _events(context, store, product, scored, version, code)
        yield from _left_out(context, store, product, seen, version, code)

    return asset


def newest_revision(predictions: pl.LazyFrame, product: Product) -> pl.LazyFrame:
    """Of each key, the newest prediction."""
    newest = pl.col("revision") == pl.col("revision").max().over(product.spine.entity_keys)
    return predictions.filter(newest)


def _days_a_block(store: Lakehouse, product: Product) -> int:
    """How many days have some BLOCK_ROWS rows."""
    view = product.table(feature_view.NAME)
    days = len(store.partitions(view, DAY))
    return max(1, BLOCK_ROWS * days // max(store.rows(view), 1))


def _of_days(table: pl.LazyFrame, days: Sequence[date]) -> pl.LazyFrame:
    # The bounds choose the partitions to read, the rest the days between them.
    return table.filter(pl.col(DAY).is_between(days[0], days[-1]), pl.col(DAY).is_in(days))


def _existing(before: pl.LazyFrame | None, days: Sequence[date]) -> pl.DataFrame | None:
    if before is None:
        return None
    columns = [DAY, "model_version", "features_version", "revision"]
    return _of_days(before, days).select(columns).unique().collect()


def _scored(newest: pl.DataFrame, product: Product) -> dict[date, ScoredDay]:
    contents = content_hashes(newest, by=DAY)
    means = newest.group_by(DAY).agg(pl.len(), pl.col(product.target.answer).mean())
    return {
        day: ScoredDay(rows, mean, contents[name_of(day)]) for day, rows, mean in means.iter_rows()
    }


def _in_sample(
    store: Lakehouse, product: Product, days: list[date], version: ModelVersion
) -> tuple[list[date], list[date]]:
    """The days that the champion was trained on, and the others.

    Raises:
        dagster.Failure: some of the first were scored before, by a model that did not know them.
    """
    through = trained_through(version)
    seen = [day for day in days if day_of(day) <= through]
    there = set(store.partitions(product.table(NAME))) if store.exists(product.table(NAME)) else ()
    if again := [day for day in seen if name_of(day) in there]:
        raise dg.Failure(
            f"{product.name}: {again[0]} to {again[-1]} lie in the champion's training set, which"
            f" reaches through {through}; predictions begin the day after.",
            allow_retries=False,
        )
    return seen, [day for day in days if day_of(day) > through]


def _left_out(
    context: dg.AssetExecutionContext,
    store: Lakehouse,
    product: Product,
    days: list[date],
    version: ModelVersion,
    code_version: str,
) -> Iterator[Any]:
    """Days without predictions, for ever: what comes after the champion was trained on them too."""
    if not days:
        return
    nothing = content_hash(store.scan(product.table(NAME)).head(0).collect())
    why = f"version {version.version} was trained on it, through {trained_through(version)}"
    for day in days:
        metadata = {"rows": 0, "not_scored": why, "model_version": version.version}
        yield day_event(context, name_of(day), nothing, metadata, code_version)


def _events(
    context: dg.AssetExecutionContext,
    store: Lakehouse,
    product: Product,
    scored: Mapping[date, ScoredDay],
    version: ModelVersion,
    code_version: str,
) -> Iterator[Any]:
    delta_version = store.version(product.table(NAME)) if scored else None
    for day, there in sorted(scored.items()):
        metadata = {
            "rows": there.rows,
            "mean_prediction": there.mean_prediction,
            "model_version": version.version,
            "delta_version": delta_version,
        }
        yield day_event(context, name_of(day), there.content, metadata, code_version)
