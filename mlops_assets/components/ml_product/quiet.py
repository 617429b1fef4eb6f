"""Until when the loop's sensors can ask for nothing, whatever the days bring.

A cool-down follows each decision and promotion, and a predecessor is compared on enough days only.
Days that lie within may arrive together: nobody would have looked in between.
"""

from __future__ import annotations

from datetime import date, timedelta

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.retrain_case import decisions, to_launch
from mlops_assets.components.ml_product.shadow import first_scored, serving
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

_DAY = timedelta(days=1)


def quiet_through(
    store: Lakehouse, models: ModelRegistry, product: Product, today: date, done: set[str]
) -> date:
    """The last day on which neither a case nor a rollback can be due; `today` where none is sure.

    Args:
        store: the lake.
        models: the registry.
        product: the declaration.
        today: the newest day of the data, on which everything has followed.
        done: decisions that were carried out, see `retrain_case.carried_out`.
    """
    champion, scored = models.champion(product.name), first_scored(store, product)
    found = serving(scored, today, product.periods) if scored.height else None
    rows = decisions(store, product)
    if champion is None or found is None or to_launch(rows, champion.version, done):
        return today
    new = found.version != champion.version
    since = today + _DAY if new else found.since
    limits, labels = product.retraining, product.label.known_after_days
    looks = [max([since, *rows["day"].tail(1)]) + limits.cool_down_days * _DAY]
    compared = since + (limits.shadow_days - 1 + labels) * _DAY
    if (new or found.predecessor is not None) and today < compared:
        looks.append(since + (limits.shadow_min_days - 1 + labels) * _DAY)
    return max(today, min(looks) - _DAY)
