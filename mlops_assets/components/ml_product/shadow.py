"""Stage 12: the predecessor of a new champion goes on scoring beside it, for a declared while.

Its predictions stand in a table of their own and serve nobody. Who served since when, and after
whom, follows from the predictions alone, so that it is on the data's clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import once
from mlops_assets.components.ml_product import feature_view, scoring
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import (
    DAY,
    LABEL,
    days_of_rows,
    newest_labelled_day,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.tables.day_events import day_event
from mlops_assets.components.tables.table_asset import days_of
from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.periods import DAYS, Periods, day_of, name_of
from mlops_assets.ml.targets import Target
from mlops_assets.stores.content import content_hash, content_hashes
from mlops_assets.stores.lakehouse import AlreadyCommitted, Commit, Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

NAME = "shadow_predictions"


@dataclass(frozen=True)
class Serving:
    """Which version scores, from which local day on, and which one did before it.

    There is no predecessor where the version is the first, or is one that came back.
    """

    version: int
    since: date
    predecessor: int | None


def first_scored(store: Lakehouse, product: Product) -> pl.DataFrame:
    """`date` and the `model_version` that scored it first, in order; no rows without predictions.

    A later revision says nothing of who served on that day.
    """
    if not store.exists(product.table(scoring.NAME)):
        return pl.DataFrame(schema={DAY: pl.Date, "model_version": pl.Int64})
    rows = store.scan(product.table(scoring.NAME)).filter(pl.col("revision") == 1)
    first = rows.group_by(DAY).agg(pl.col("model_version").first()).sort(DAY)
    # Of hours, a day is the champion's that scored its first one.
    day = pl.col(DAY).cast(pl.Date)
    return first.group_by(day, maintain_order=True).agg(pl.col("model_version").first()).collect()


def serving(scored: pl.DataFrame, through: date, periods: Periods = DAYS) -> Serving | None:
    """Who served on a day, by `first_scored`; None where nobody did yet."""
    known = scored.filter(pl.col(DAY) <= through)
    if known.is_empty():
        return None
    version = known["model_version"][-1]
    others = known.filter(pl.col("model_version") != version)
    if others.is_empty():
        return Serving(version, known[DAY][0], None)
    before = others["model_version"][-1]
    # A late day before the handover, which the new one scored, does not move it.
    since = periods.step(others[DAY][-1])
    return Serving(version, since, before if before < version else None)


def in_shadow(found: Serving | None, day: date, product: Product) -> int | None:
    """The version that scores a day beside the champion, or None."""
    if found is None or found.predecessor is None:
        return None
    on = (day_of(day) - found.since).days < product.retraining.shadow_days
    return found.predecessor if on else None


def gain_over_shadow(store: Lakehouse, product: Product, found: Serving) -> Interval | None:
    """What the champion gains over its predecessor since it serves (`Target.gain`), by days.

    None where there are fewer labelled days than `shadow_min_days`.
    """
    last = newest_labelled_day(store, product)
    needed, on = product.retraining.shadow_min_days, product.retraining.shadow_days
    days = min((product.periods.last_day(last) - found.since).days + 1, on)
    if found.predecessor is None or days < needed:
        return None
    rows = paired(store, product, found, last)
    if days_of_rows(rows).n_unique() < max(2, product.periods.within(needed)):
        return None
    return product.target.gain_of(
        rows["champion"].to_numpy(), rows["shadow"].to_numpy(), days_of_rows(rows), repetitions=500
    )


def paired(store: Lakehouse, product: Product, found: Serving, last: date) -> pl.DataFrame:
    """Labelled rows that both scored: date, label, and the losses of champion and shadow."""
    if not store.exists(product.table(NAME)):
        return pl.DataFrame(schema={DAY: pl.Date})
    keys = product.spine.entity_keys
    known_by = product.labels_known(last)
    labels = product.labels(store.scan(product.label.table, first=found.since, last=known_by))
    joined = labels.drop_nulls(LABEL).collect()
    for name, version, shown in (
        (scoring.NAME, found.version, "champion"),
        (NAME, found.predecessor, "shadow"),
    ):
        scanned = store.scan(product.table(name), first=found.since, last=last)
        of_it = scoring.newest_revision(scanned, product).filter(model_version=version)
        said = of_it.select(*keys, *product.target.column_names).collect()
        both = joined.join(said, on=keys)
        lost = losses(product.target, both)
        joined = both.drop(product.target.column_names).with_columns(pl.Series(shown, lost))
    return joined.sort(keys)


def losses(target: Target, rows: pl.DataFrame) -> np.ndarray:
    """The loss of each row, by its label and what one version said of it."""
    own = target.of_predictions(rows)
    if rows.is_empty():
        return np.empty(0)
    return own.losses(*own.check(rows[LABEL], own.scores_of(rows)))


def shadow_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, one partition a scored day; empty where no predecessor is in the shadow."""
    code = product.code_version(
        scoring.score, product.columns, product.target, product.retraining.shadow_days
    )

    @product.asset(
        NAME,
        code,
        days=product.scored_days,
        description="What the champion's predecessor says of the same rows, for a while after it"
        " was replaced; it serves nobody.",
        deps=[
            product.read_from(product.table(feature_view.NAME), 0, 0),
            product.read_from(product.table(scoring.NAME), 0, 0),
        ],
        automation_condition=once(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models, days = lakehouse.store, registry.store, days_of(context)
        if not store.exists(product.table(NAME)):
            # The table is there before any day needs it, so that its days are found in it.
            empty = store.scan(product.table(scoring.NAME)).head(0).collect()
            store.append(product.table(NAME), empty, Commit(run_id=context.run.run_id), by=DAY)
        scored = first_scored(store, product)
        versions = {
            day: in_shadow(serving(scored, day_of(day), product.periods), day, product)
            for day in days
        }
        for version in sorted({v for v in versions.values() if v is not None}):
            its_days = [day for day, scored_by in versions.items() if scored_by == version]
            _append(context.run.run_id, store, models, product, its_days, version)
        yield from _events(context, store, product, versions, code)

    return asset


def _append(
    run_id: str,
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    days: list[date],
    number: int,
) -> None:
    version = models.get(product.name, number)
    view = store.scan(product.table(feature_view.NAME), first=days[0], last=days[-1])
    rows = scoring.score(
        view.filter(pl.col(DAY).is_in(days)).collect(), models.load(version), version, product
    )
    there = store.scan(product.table(NAME), first=days[0], last=days[-1]).collect()
    added = scoring.revise(rows, there, product)
    if added.height:
        once_each = scoring.revisions_of(added)
        commit = Commit(run_id=run_id, note=f"model version {number}", transactions=once_each)
        try:
            store.append(product.table(NAME), added, commit, by=DAY)
        except AlreadyCommitted:  # another run scored one of the days meanwhile
            _append(run_id, store, models, product, days, number)


def _events(
    context: dg.AssetExecutionContext,
    store: Lakehouse,
    product: Product,
    versions: dict[date, int | None],
    code: str,
) -> Iterator[Any]:
    there = store.scan(product.table(NAME), first=min(versions), last=max(versions))
    newest = scoring.newest_revision(there, product).collect()
    contents, nothing = content_hashes(newest, by=DAY), content_hash(newest.clear())
    rows = dict(newest[DAY].value_counts().iter_rows())
    for day, version in versions.items():
        metadata: dict[str, Any] = {"rows": rows.get(day, 0)}
        if version is not None:
            metadata["model_version"] = version
        content = contents.get(name_of(day), nothing)
        yield day_event(context, name_of(day), content, metadata, code)
