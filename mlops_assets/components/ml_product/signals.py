"""All signals about a champion, from the lake, the registry and the code; see ml/signals.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl

from mlops_assets.components.code_version import difference
from mlops_assets.components.ml_product import drift, performance
from mlops_assets.components.ml_product.evaluation import as_judged, trained_through
from mlops_assets.components.ml_product.importance import weights
from mlops_assets.components.ml_product.origin import evaluated, fitted_rows
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training import fit_version
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.ml import signals
from mlops_assets.ml.signals import Signal, Watch
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion


def look(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    champion: ModelVersion,
    first: date,
    today: date,
) -> list[Signal]:
    """All signals about the champion, of the days from `first` to `today`, fired or not."""
    limits, window = product.retraining, product.retraining.window_days
    watch = Watch(first, today, limits.fired_days, limits.of_days, product.periods)
    known = replace(watch, first=product.labelled_by(first), last=product.labelled_by(today))
    daily = _rows_of(store, product, performance.NAME, champion, known.last)
    moved = _rows_of(store, product, drift.NAME, champion, today)
    trained, level = _training(store, product, champion)
    return [
        signals.calibration_bias(
            daily, known, window=window, level=level, limit=limits.calibration_bias
        ),
        signals.loss(
            daily, known, window=window, limit=limits.loss, metric=product.target.metric,
            evaluated=_evaluated(store, product, evaluated(store, models, product, champion)),
        ),
        signals.label_rate(daily, known, window=window, level=level, limit=limits.label_rate),
        signals.prediction_drift(moved, watch, limit=limits.prediction_drift),
        signals.covariate_drift(
            moved, weights(store, product, champion), watch, limit=limits.covariate_drift
        ),
        signals.growth(
            new_labels(store, product, champion, today), trained, limit=limits.growth
        ),
        signals.age(trained_through(champion), today, limit=limits.schedule_days),
        signals.code_change(_code_changes(models, product, champion)),
    ]  # fmt: skip


def next_cutoff(product: Product, today: date) -> date:
    """The last day of a training set that is cut today: the newest labels stay to be judged on."""
    return product.ended_before(product.labelled_by(today), product.training.holdout_days)


def new_labels(store: Lakehouse, product: Product, champion: ModelVersion, today: date) -> int:
    """Labelled rows that a training set would have more than the champion's."""
    if not store.exists(product.table(performance.NAME)):
        return 0
    after = trained_through(champion) + timedelta(days=1)
    last = next_cutoff(product, today)
    if last < after:
        return 0
    rows = store.scan(product.table(performance.NAME), first=after, last=last)
    return int(rows.select(pl.col("labelled").sum()).collect().item())


def _rows_of(
    store: Lakehouse, product: Product, name: str, champion: ModelVersion, last: date
) -> pl.DataFrame:
    """Daily rows about the champion itself: what its predecessor did is not its fault."""
    table = product.table(name)
    if not store.exists(table):
        schema = _NO_DRIFT if name == drift.NAME else performance.schema(product.target)
        return pl.DataFrame(schema=schema)
    rows = store.scan(table, first=trained_through(champion), last=last)
    rows = rows.filter(pl.col("model_version") == champion.version)
    if product.partitions.every == "hour":
        rows = _newest_of_days(rows) if name == drift.NAME else _means_of_days(rows)
    return rows.collect()


def _means_of_days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Figures of hours as those of days, each hour by its labelled rows."""
    figures = pl.selectors.float()
    known, weight = figures.is_not_null(), pl.col("labelled")
    means = (figures * weight).sum() / (known * weight).sum()
    return (
        rows.group_by(pl.col(DAY).cast(pl.Date))
        .agg(pl.col("model_version").first(), pl.col("rows", "labelled").sum(), means)
        .sort(DAY)
    )


def _newest_of_days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Of each day and column the last hour's, whose window ends with the day."""
    day = pl.col(DAY).cast(pl.Date)
    newest = rows.sort(DAY).group_by(day, "column", "kind", maintain_order=True).last()
    return newest.sort(DAY)


_NO_DRIFT: dict[str, Any] = {
    DAY: pl.Date, "column": pl.String, "kind": pl.String, "value": pl.Float64,
    "drifted": pl.Boolean,
}  # fmt: skip


def _training(
    store: Lakehouse, product: Product, champion: ModelVersion
) -> tuple[int, signals.Level]:
    """Rows of the champion's training set, and what the label's level was in it."""
    target, rows = product.target, fitted_rows(store, product, champion)
    if target.task == "multiclass":
        count = rows.select(pl.len()).collect().item()
        return int(count), signals.Level(target.level, None)
    count, mean = rows.select(pl.len(), pl.col(LABEL).mean().alias("mean")).collect().row(0)
    scale = abs(mean) if target.is_relative and mean else 1.0
    return int(count), signals.Level(target.level, float(mean), scale)


def _evaluated(store: Lakehouse, product: Product, champion: ModelVersion) -> float | None:
    """Upper bound of the champion's loss when it was evaluated, from that evaluation."""
    judged = as_judged(store, product, champion)
    if judged.is_empty():
        return None
    return float(judged.filter(model="candidate")[f"{product.target.metric}_high"][0])


def _code_changes(models: ModelRegistry, product: Product, champion: ModelVersion) -> list[str]:
    family = champion.tags["family"]
    if family not in product.fits:
        return [f"{family} is no longer declared"]
    fitted = models.run_tag(champion.run_id, "code_version")
    return difference(fitted, fit_version(product, family)) if fitted else []
