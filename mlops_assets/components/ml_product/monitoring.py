"""Stage 9: performance, when the labels are there, and drift, each as daily rows.

Performance joins predictions with outcomes two partitions later. Drift compares a trailing window
of what was scored with the training set of the model that scored it. Neither decides anything here.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_of
from mlops_assets.components.metadata import picture, table
from mlops_assets.components.ml_product import feature_view, scoring
from mlops_assets.components.ml_product.evaluation import trained_through
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.tables.publish import Table, publish
from mlops_assets.components.tables.quality import Quality
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.drift import Reference, Thresholds, daily_drift
from mlops_assets.ml.drift_report import evidently_report
from mlops_assets.ml.metrics import binary_metrics
from mlops_assets.ml.pictures import drift_picture, line_picture
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

PERFORMANCE = "performance"
DRIFT = "drift"
_DAY = timedelta(days=1)
_FIGURES = (
    "base_rate", "mean_prediction", "auc", "pr_auc", "log_loss", "brier", "accuracy", "precision",
    "recall", "calibration_error",
)  # fmt: skip


def performance(scored: pl.DataFrame, labels: pl.DataFrame, product: Product) -> pl.DataFrame:
    """One row a day: how the predictions did against the outcomes that are known.

    Args:
        scored: predictions, the newest revision of each key.
        labels: keys and `label`.
        product: the declaration.

    Returns:
        `date`, `model_version`, `rows`, `labelled`, and the figures, null where a day has one
        class or no label.
    """
    keys = product.spine.entity_keys
    joined = scored.join(labels.select(*keys, LABEL), on=keys, how="left", maintain_order="left")
    return pl.DataFrame(
        [_day_figures(day, part) for (day,), part in joined.group_by(DAY, maintain_order=True)],
        schema=_PERFORMANCE_SCHEMA,
    ).sort(DAY)


_PERFORMANCE_SCHEMA = {
    DAY: pl.Date, "model_version": pl.Int64, "rows": pl.Int64, "labelled": pl.Int64,
    **dict.fromkeys(_FIGURES, pl.Float64),
}  # fmt: skip


def performance_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: a day's row when its labels are complete."""
    code = product.code_version(performance, product.label)
    own = Table(product.table(PERFORMANCE), None, Quality(), code)
    predictions = product.table(scoring.NAME)

    @product.asset(
        PERFORMANCE,
        code,
        days=product.scored_days,
        description="Daily figures of the predictions, once the labels are known.",
        deps=[
            product.read_from(predictions, 0, 0),
            product.read_from(product.label.table, 0, product.label.known_after_days),
        ],
        automation_condition=content_of(predictions, product.label.table),
    )
    def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
        store, days = lakehouse.store, days_of(context)
        scored = scoring.newest_revision(
            store.scan(predictions, first=days[0], last=days[-1]), product
        ).collect()
        last = days[-1] + timedelta(days=product.label.known_after_days)
        labels = product.module.label(store.scan(product.label.table, first=days[0], last=last))
        frame = performance(scored, labels.collect(), product)
        shown: dict[str, Any] = {}
        if frame.height:
            shown["trend"] = picture(trend(store, product, frame), "log loss by day")
        for event in publish(context, store, own, frame, days):
            yield _with(shown, event) if _is_of(event, days[-1]) else event

    return asset


def trend(store: Lakehouse, product: Product, frame: pl.DataFrame) -> bytes:
    """A PNG of the daily log loss and its mean over seven days, all days through the newest."""
    rows = frame
    if store.exists(product.table(PERFORMANCE)):
        before = store.scan(product.table(PERFORMANCE)).collect()
        rows = pl.concat([before.join(frame, on=DAY, how="anti"), frame])
    lines = rows.sort(DAY).select(
        DAY,
        pl.col("log_loss").alias("day"),
        pl.col("log_loss").rolling_mean(7, min_samples=1).alias("mean of seven days"),
    )
    return line_picture(lines, DAY, ["day", "mean of seven days"], title="Log loss", y_label="nats")


def drift_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: for each day, each column of a trailing window against the training set."""
    code = product.code_version(drift, product.monitoring, product.columns)
    own = Table(product.table(DRIFT), None, Quality(), code)
    back = product.monitoring.drift_window_days - 1
    view, predictions = product.table(feature_view.NAME), product.table(scoring.NAME)

    @product.asset(
        DRIFT,
        code,
        days=product.scored_days,
        description="Daily distance of each feature, and of the prediction, from the training set"
        " of the model that scored the day, over a trailing window.",
        deps=[
            product.read_from(view, -back, 0),
            product.read_from(predictions, -back, 0),
        ],
        automation_condition=content_of(view, predictions),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models, days = lakehouse.store, registry.store, days_of(context)
        parts, pictures = [], {}
        for number, its_days in scored_by(store, product, days).items():
            version = models.get(product.name, number)
            reference = reference_rows(store, models, product, version)
            first = max(its_days[0] - timedelta(days=back), trained_through(version) + _DAY)
            current = scored_rows(store, product, first, its_days[-1])
            parts.append(drift(reference, current, its_days, product, version))
            if days[-1] in its_days:
                pictures = evidence(
                    models, product, version, reference, current, parts[-1], days[-1]
                )
        for event in publish(context, store, own, pl.concat(parts).sort(DAY), days):
            yield _with(pictures, event) if _is_of(event, days[-1]) else event

    return asset


def scored_by(store: Lakehouse, product: Product, days: list[date]) -> dict[int, list[date]]:
    """Model version to those of the days that it scored, both in order."""
    rows = (
        store.scan(product.table(scoring.NAME), first=days[0], last=days[-1])
        .group_by(DAY)
        .agg(pl.col("model_version").sort_by("revision").last())
        .sort("model_version", DAY)
        .collect()
    )
    return {
        number: part[DAY].to_list()
        for (number,), part in rows.group_by("model_version", maintain_order=True)
    }


def drift(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    days: list[date],
    product: Product,
    version: ModelVersion,
) -> pl.DataFrame:
    """Rows of `daily_drift` with the version whose training set is the reference."""
    known = Reference.of(
        reference,
        product.columns.numeric,
        product.columns.categorical,
        prediction="probability",
    )
    window = product.monitoring.drift_window_days
    rows = daily_drift(known, current, days, window, _thresholds(product))
    return rows.with_columns(pl.lit(version.version, pl.Int64).alias("model_version"))


def reference_rows(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> pl.DataFrame:
    """A version's training set as it was pinned, with what the model says of it."""
    pinned = int(version.tags["training_set_version"])
    rows = store.scan(product.table(TRAINING_SET), version=pinned).collect()
    return rows.with_columns(pl.Series("probability", models.load(version).predict(rows)))


def scored_rows(store: Lakehouse, product: Product, first: date, last: date) -> pl.DataFrame:
    """The feature view of the days, with the newest prediction of each row where there is one."""
    keys = product.spine.entity_keys
    view = store.scan(product.table(feature_view.NAME), first=first, last=last)
    scored = scoring.newest_revision(
        store.scan(product.table(scoring.NAME), first=first, last=last), product
    )
    return view.join(scored.select(*keys, "probability"), on=keys, how="left").collect()


def _thresholds(product: Product) -> Thresholds:
    limit = product.monitoring.drift_threshold
    return Thresholds(numeric=limit, categorical=limit, prediction=limit)


def _day_figures(day: Any, part: pl.DataFrame) -> dict[str, Any]:
    known = part.drop_nulls(LABEL)
    row: dict[str, Any] = {
        DAY: day,
        "model_version": part["model_version"].max(),
        "rows": part.height,
        "labelled": known.height,
    }
    if known.is_empty():
        return row
    metrics = binary_metrics(
        known[LABEL].to_numpy(), known["probability"].to_numpy(), known["threshold"][0]
    )
    return row | {name: getattr(metrics, name) for name in _FIGURES}


def _is_of(event: Any, day: date) -> bool:
    if isinstance(event, dg.MaterializeResult):
        return True
    return isinstance(event, dg.AssetMaterialization) and event.partition == day.isoformat()


def report(product: Product, reference: pl.DataFrame, current: pl.DataFrame, last: date) -> str:
    """Evidently's page on the window that ends on `last`, with our methods and thresholds."""
    window = product.monitoring.drift_window_days
    recent = current.filter(pl.col(DAY).is_between(last - (window - 1) * _DAY, last))
    html, _ = evidently_report(
        reference,
        recent,
        product.columns.numeric,
        product.columns.categorical,
        thresholds=_thresholds(product),
        max_rows=product.monitoring.report_rows,
    )
    return html


def _with(metadata: dict[str, Any], event: Any) -> Any:
    if isinstance(event, dg.MaterializeResult):
        return event._replace(metadata={**(event.metadata or {}), **metadata})
    return event.with_metadata({**event.metadata, **metadata})


def evidence(
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    reference: pl.DataFrame,
    current: pl.DataFrame,
    rows: pl.DataFrame,
    last: date,
) -> dict[str, Any]:
    """What the newest day shows beside its rows: heat map, worst columns, an Evidently report."""
    newest = rows.filter(pl.col(DAY) == last).sort("value", descending=True, nulls_last=True)
    html = report(product, reference, current, last)
    path = f"monitoring/drift-{last}.html"
    models.open(product.name, version.run_id).log_text(path, html)
    shown = ["column", "statistic", "value", "threshold", "drifted", "missing_current"]
    return {
        "drifted_columns": int(newest["drifted"].sum()),
        "worst": table(newest.select(shown).head(10).with_columns(pl.selectors.float().round(4))),
        "heat_map": picture(drift_picture(rows), "drift"),
        "evidently_report": dg.MetadataValue.url(models.link(product.name, version.run_id, path)),
        "mlflow_run": dg.MetadataValue.url(models.link(product.name, version.run_id)),
    }
