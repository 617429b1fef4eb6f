"""Stage 10: how far what is scored has moved from what the model was trained on, daily rows.

Compares a trailing window with the training set of the model that scored it. It decides nothing.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.metadata import picture, table
from mlops_assets.components.ml_product import feature_view, scoring
from mlops_assets.components.ml_product.evaluation import trained_through
from mlops_assets.components.ml_product.origin import fitted_rows
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.tables.day_events import is_of, with_metadata
from mlops_assets.components.tables.publish import Table, publish
from mlops_assets.components.tables.quality import Quality
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.drift import Reference, Thresholds, daily_drift, daily_schema
from mlops_assets.ml.drift_report import evidently_report
from mlops_assets.ml.periods import name_of
from mlops_assets.ml.pictures import drift_picture
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "drift"
_MOST_KEPT = 4
_KEPT: dict[Any, Reference] = {}
"""References by the lake, product and model whose training set they are."""


def drift_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: for each day, each column of a trailing window against the training set."""
    target = product.target
    code = product.code_version(
        drift, product.monitoring, product.columns, target.answer, type(target).columns
    )
    own = Table(product.table(NAME), None, Quality(), code)
    every, window = product.partitions, product.monitoring.drift_window_days
    # So many days before a day are one less than a window's; before an hour they are all of them.
    back = window if every.every == "hour" else window - 1
    view, predictions = product.table(feature_view.NAME), product.table(scoring.NAME)

    @product.asset(
        NAME,
        code,
        days=product.scored_days,
        description="Daily distance of each feature, and of the prediction, from the training set"
        " of the model that scored the day, over a trailing window.",
        deps=[
            product.read_from(view, -back, 0),
            product.read_from(predictions, -back, 0),
        ],
        automation_condition=content_changed(view, predictions),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models, days = lakehouse.store, registry.store, days_of(context)
        parts, pictures = [], {}
        # The report takes longer than all else; of days before the newest, nobody looks at it.
        newest = store.partitions(predictions)[-1:]
        for number, its_days in scored_by(store, product, days).items():
            version = models.get(product.name, number)
            unseen = every.of(product.periods.step(trained_through(version)))
            first = max(every.opens(its_days[0], window), unseen)
            current = scored_rows(store, product, first, its_days[-1])
            known = reference(store, models, product, version)
            parts.append(drift(known, current, its_days, product, version))
            if newest == [name_of(its_days[-1])]:
                pictures = evidence(
                    store, models, product, version, current, parts[-1], its_days[-1]
                )
        # On days that the champion was trained on nothing is scored, and nothing has drifted.
        schema = daily_schema(every.dtype) | {"model_version": pl.Int64}
        rows = pl.concat([pl.DataFrame(schema=schema), *parts]).sort(DAY)
        for event in publish(context, store, own, rows, days):
            yield with_metadata(pictures, event) if is_of(event, days[-1]) else event

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
    known: Reference,
    current: pl.DataFrame,
    days: list[date],
    product: Product,
    version: ModelVersion,
) -> pl.DataFrame:
    """Rows of `daily_drift` with the version whose training set is the reference."""
    window = product.monitoring.drift_window_days
    rows = daily_drift(known, current, days, window, _thresholds(product))
    return rows.with_columns(pl.lit(version.version, pl.Int64).alias("model_version"))


def reference(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> Reference:
    """A version's training set, counted; kept while a process scores day after day with it."""
    what = (store.uri, product.name, version.digest, version.version, product.columns)
    if what not in _KEPT:
        rows = reference_rows(store, models, product, version)
        columns = product.columns
        watched = product.target.answer
        counted = Reference.of(rows, columns.numeric, columns.categorical, prediction=watched)
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[what] = counted
    return _KEPT[what]


def reference_rows(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion
) -> pl.DataFrame:
    """A version's training set as it was pinned, with what the model says of it."""
    rows, model = fitted_rows(store, product, version).collect(), models.load(version)
    said = model.target.columns(model.predict(rows), version.threshold)
    return rows.with_columns(next(s for s in said if s.name == model.target.answer))


def scored_rows(store: Lakehouse, product: Product, first: date, last: date) -> pl.DataFrame:
    """The feature view of the days, with the newest prediction of each row where there is one."""
    keys = product.spine.entity_keys
    view = store.scan(product.table(feature_view.NAME), first=first, last=last)
    scored = scoring.newest_revision(
        store.scan(product.table(scoring.NAME), first=first, last=last), product
    )
    return view.join(scored.select(*keys, product.target.answer), on=keys, how="left").collect()


def _thresholds(product: Product) -> Thresholds:
    limit = product.monitoring.drift_threshold
    return Thresholds(numeric=limit, categorical=limit, prediction=limit)


def report(product: Product, reference: pl.DataFrame, current: pl.DataFrame, last: date) -> str:
    """Evidently's page on the window that ends on `last`, with our methods and thresholds."""
    first = product.partitions.opens(last, product.monitoring.drift_window_days)
    recent = current.filter(pl.col(DAY).is_between(first, last))
    html, _ = evidently_report(
        reference,
        recent,
        product.columns.numeric,
        product.columns.categorical,
        thresholds=_thresholds(product),
        max_rows=product.monitoring.report_rows,
    )
    return html


def evidence(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    current: pl.DataFrame,
    rows: pl.DataFrame,
    last: date,
) -> dict[str, Any]:
    """What the newest day shows beside its rows: worst columns; heat map and Evidently's page."""
    newest = rows.filter(pl.col(DAY) == last).sort("value", descending=True, nulls_last=True)
    shown = ["column", "statistic", "value", "threshold", "drifted", "missing_current"]
    found: dict[str, Any] = {
        "drifted_columns": int(newest["drifted"].sum()),
        "worst": table(newest.select(shown).head(10).with_columns(pl.selectors.float().round(4))),
        "mlflow_run": dg.MetadataValue.url(models.link(product.name, version.run_id)),
    }
    if product.has_report(last):
        html = report(product, reference_rows(store, models, product, version), current, last)
        path = f"monitoring/drift-{name_of(last).replace(':', '')}.html"
        models.open(product.name, version.run_id).log_text(path, html)
        address = models.link(product.name, version.run_id, path)
        found["heat_map"] = picture(drift_picture(rows), "drift")
        found["evidently_report"] = dg.MetadataValue.url(address)
    return found
