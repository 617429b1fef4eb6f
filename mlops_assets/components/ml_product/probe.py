"""The evidence on a retrain case: a probe against the champion, new labels, the cost.

The probe is the champion's family with its parameters as they are, fitted on what is labelled but
the newest days, and compared with the champion on just those. No search, no other family: seconds,
not minutes. Neither model has seen a day that is judged.
"""

from __future__ import annotations

import ast
from datetime import date, timedelta
from typing import Any

import polars as pl

from mlops_assets.components.ml_product.evaluation import trained_through
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.selection import LEADERBOARD
from mlops_assets.components.ml_product.signals import new_labels, next_cutoff
from mlops_assets.components.ml_product.training_set import (
    LABEL,
    days_of_rows,
    labelled_rows,
    to_fit_on,
)
from mlops_assets.ml.bootstrap import Interval
from mlops_assets.ml.families import Family, FitOptions, Model, family
from mlops_assets.ml.splits import split_by_day
from mlops_assets.ml.verdict import Evidence
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

_DAY = timedelta(days=1)
_Compared = tuple[Interval | None, int, int, str]
"""The gain, the rows, the days, and how they came about or why there are none."""


def evidence(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    champion: ModelVersion,
    today: date,
    *,
    asked: str = "",
) -> Evidence:
    """What can be found out on `today` of the data.

    Args:
        store: the lake.
        models: the registry.
        product: the declaration.
        champion: the model that the case is about.
        today: the data's own day.
        asked: why no probe is needed; it is left out then, and this stands as the note.
    """
    cutoff = next_cutoff(product, today)
    compared: _Compared = (None, 0, 0, asked)
    new = new_labels(store, product, champion, today)
    if not asked:
        compared = _probe(store, models, product, champion, today, new)
    gain, rows, days, note = compared
    return Evidence(
        new_labels=new,
        cutoff=cutoff if cutoff > trained_through(champion) else None,
        probe=gain,
        probe_rows=rows,
        probe_days=days,
        note=note,
        cost_seconds=_cost(store, product),
    )


def _probe(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    champion: ModelVersion,
    today: date,
    new: int,
) -> _Compared:
    settings, through = product.retraining, trained_through(champion)
    if new < settings.min_new_labels:
        return None, 0, 0, "too few new labels for a probe"
    last = product.labelled_by(today)
    first = max(last - (settings.probe_days - 1) * _DAY, through + _DAY)
    rows = labelled_rows(store, product, None, last)
    known = days_of_rows(rows)
    before, judged = rows.filter(known < first), rows.filter(known >= first)
    days = days_of_rows(judged).n_unique()
    if days < max(2, product.periods.within(settings.probe_days) // 2):
        return None, 0, days, f"{days} labelled days since the champion's cut-off are too few"
    if days_of_rows(before).max() <= through:  # type: ignore[operator]
        return None, 0, days, f"a probe without the days from {first} on sees nothing new"
    both = models.load(champion), _fitted(models, product, champion, before)
    target = both[0].target.joined(both[1].target)
    theirs, scores = (target.aligned(model.predict(judged), model.target) for model in both)
    gain = target.gain(judged[LABEL], scores, theirs, days_of_rows(judged), repetitions=500)
    note = (
        f"{champion.tags['family']} on {before.height:,} rows through {first - _DAY}, judged on"
        f" {first} to {last}"
    )
    return gain, judged.height, days, note


def _fitted(
    models: ModelRegistry, product: Product, champion: ModelVersion, rows: pl.DataFrame
) -> Model:
    """The champion's family with its parameters, fitted as a training does it."""
    settings, chosen = product.training, family(champion.tags["family"])
    days = days_of_rows(rows)
    last: Any = days.max()
    parts = split_by_day(days.to_numpy(), last, settings.validation_days)
    train, valid = to_fit_on(product.target, *(rows.filter(mask) for mask in parts))
    options = FitOptions(settings.seed, settings.threads, settings.device)
    params = frozen_params(models, champion, chosen)
    return chosen.fit(train, valid, product.columns, params, options)


def frozen_params(models: ModelRegistry, version: ModelVersion, chosen: Family) -> dict[str, Any]:
    """The parameters that a version was fitted with, which MLflow keeps as text."""
    kept = models.run_params(version.run_id)
    return {name: _value(kept[name]) for name in chosen.defaults() if name in kept}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _cost(store: Lakehouse, product: Product) -> float | None:
    board = product.table(LEADERBOARD)
    if not store.exists(board):
        return None
    return float(store.scan(board).select(pl.col("seconds").sum()).collect().item())
