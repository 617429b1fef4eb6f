"""Stage 9: how the predictions did, a row a day, once the labels are there.

Joins the newest predictions with outcomes, some partitions later. It decides nothing.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import picture
from mlops_assets.components.ml_product import scoring
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.components.tables.day_events import is_of, with_metadata
from mlops_assets.components.tables.publish import Table, publish
from mlops_assets.components.tables.quality import Quality
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.pictures import line_picture
from mlops_assets.ml.targets import Target
from mlops_assets.stores.lakehouse import Lakehouse

NAME = "performance"


def performance(scored: pl.DataFrame, labels: pl.DataFrame, product: Product) -> pl.DataFrame:
    """One row a day: how the predictions did against the outcomes that are known.

    Args:
        scored: predictions, the newest revision of each key.
        labels: keys and `label`, see `Product.labels`.
        product: the declaration.

    Returns:
        `date`, `model_version`, `rows`, `labelled`, and the target's figures, null where one is
        not defined or no label is known.
    """
    keys = product.spine.entity_keys
    joined = scored.join(labels, on=keys, how="left", maintain_order="left")
    return pl.DataFrame(
        [
            day_figures(day, part, product.target)
            for (day,), part in joined.group_by(DAY, maintain_order=True)
        ],
        schema=schema(product.target, scored.schema[DAY]),
    ).sort(DAY)


def schema(target: Target, period: Any = pl.Date) -> dict[str, Any]:
    """Columns of a day's figures."""
    return {
        DAY: period, "model_version": pl.Int64, "rows": pl.Int64, "labelled": pl.Int64,
        **dict.fromkeys(target.figure_names, pl.Float64),
    }  # fmt: skip


def performance_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: a day's row when its labels are complete."""
    code = product.code_version(performance, product.label, product.module.label, product.target)
    own = Table(product.table(NAME), None, Quality(), code)
    predictions = product.table(scoring.NAME)

    @product.asset(
        NAME,
        code,
        days=product.scored_days,
        description="Daily figures of the predictions, once the labels are known.",
        deps=[
            product.read_from(predictions, 0, 0),
            product.read_from(product.label.table, 0, product.label.known_after_days),
        ],
        automation_condition=content_changed(predictions, product.label.table),
    )
    def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
        store, days = lakehouse.store, days_of(context)
        scored = scoring.newest_revision(
            store.scan(predictions, first=days[0], last=days[-1]), product
        ).collect()
        last = product.labels_known(days[-1])
        labels = product.labels(store.scan(product.label.table, first=days[0], last=last))
        frame = performance(scored, labels.collect(), product)
        shown: dict[str, Any] = {}
        if frame.height and product.has_report(days[-1]):
            name = f"{product.target.metric.replace('_', ' ')} by day"
            shown["trend"] = picture(trend(store, product, frame), name)
        for event in publish(context, store, own, frame, days):
            yield with_metadata(shown, event) if is_of(event, days[-1]) else event

    return asset


def trend(store: Lakehouse, product: Product, frame: pl.DataFrame) -> bytes:
    """A PNG of the daily loss and its mean over seven days, all days through the newest."""
    rows, metric = frame, product.target.metric
    if store.exists(product.table(NAME)):
        before = store.scan(product.table(NAME)).collect()
        rows = pl.concat([before.join(frame, on=DAY, how="anti"), frame])
    lines = rows.sort(DAY).select(
        DAY,
        pl.col(metric).alias("day"),
        pl.col(metric).rolling_mean(7, min_samples=1).alias("mean of seven days"),
    )
    title = metric.replace("_", " ").capitalize()
    return line_picture(lines, DAY, ["day", "mean of seven days"], title=title, y_label=title)


def day_figures(day: Any, part: pl.DataFrame, target: Target) -> dict[str, Any]:
    """A row of `performance`: predictions of a day with their labels, null where not known."""
    known = part.drop_nulls(LABEL)
    row: dict[str, Any] = {
        DAY: day,
        "model_version": part["model_version"].max(),
        "rows": part.height,
        "labelled": known.height,
    }
    if known.is_empty():
        return row
    own = target.of_predictions(known)
    threshold = known["threshold"][0] if "threshold" in known.columns else None
    figures = own.figures(known[LABEL], own.scores_of(known), threshold)
    return row | {name: figures[name] for name in own.figure_names}
