"""Whether a training set has labels enough to choose a model by; where not, the baseline stands in.

The limits are the product's: `min_rows`, `min_class_rows` and `min_days` of its training, and the
days that the search's folds and the validation need in any case.
"""

from __future__ import annotations

import polars as pl

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import LABEL, days_of_rows

_SHARE = 4
"""Of a set that is too small, the last quarter of its days is the validation."""


def shortage(product: Product, rows: pl.DataFrame) -> str:
    """Why a training set is too small to search a family on; empty where it is not.

    Args:
        product: the declaration.
        rows: the training set, with `date` and `label`.
    """
    settings, needed_days = product.training, days_needed(product)
    rarest = product.target.rarest(rows[LABEL])
    found = [
        f"{there:,} {what} of {needed:,}"
        for what, there, needed in (
            ("rows", rows.height, settings.min_rows),
            ("rows of the rarer class", rarest, settings.min_class_rows),
            (str(product.periods), days_of_rows(rows).n_unique(), needed_days),
        )
        if there is not None and there < needed
    ]
    return f"too few labels: {', '.join(found)}" if found else ""


def days_needed(product: Product) -> int:
    """Days (or weeks, or months) that a family can be searched on: the declared ones, at least
    what the folds take."""
    settings, budget, within = product.training, product.training.search, product.periods.within
    folds = budget.folds * within(budget.fold_days) + 1
    return max(within(settings.min_days), within(settings.validation_days) + folds)


def validation_days(product: Product, rows: pl.DataFrame) -> int:
    """Last days of a training set that are not fitted on."""
    declared = product.training.validation_days
    if not shortage(product, rows):
        return declared
    known = days_of_rows(rows)
    days: int = (known.max() - known.min()).days + 1  # type: ignore[operator, union-attr]
    return min(declared, max(1, days // _SHARE))
