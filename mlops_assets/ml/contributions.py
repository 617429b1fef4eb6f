"""What columns add to the answer of a row, of models that can say so (`families.Explained`).

A guide to what the model does, and to nothing else: columns that carry the same share the credit
as the trees happened to split by them, and no contribution says what would follow if a value were
changed in the world.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ml.families import Explained, Model, Rows
from mlops_assets.ml.targets import Target


def to_the_answer(model: Model, frame: pl.DataFrame | Rows) -> tuple[np.ndarray, np.ndarray] | None:
    """What each column adds to what is said of a row; None of a family that cannot say so.

    Of several classes it is the class with the greatest chance, over the mean of all classes: what
    adds the same to each of them changes no chance.

    Returns:
        contributions, shape (rows, columns), in the order of the model's columns, and the base of
        each row, shape (rows,), in the unit that `unit` names.

    Raises:
        ValueError: no rows.
        FeatureError: see `Model.predict`.
    """
    if not isinstance(model, Explained):
        return None
    shares, base = model.contributions(frame)
    if shares.ndim == 2:
        return shares, np.full(len(shares), base)
    rows, said = np.arange(len(shares)), (shares.sum(axis=1) + base).argmax(axis=1)
    centred = shares - shares.mean(axis=2, keepdims=True)
    return centred[rows, :, said], (base - base.mean())[said]


def unit(target: Target) -> str:
    """What contributions of a model with this target are measured in."""
    if target.task == "regression":
        return "log of the mean" if target.metric == "poisson_deviance" else "the label's unit"
    return "log-odds" if target.task == "binary" else "log-odds of the class over the mean class"


def largest(model: Model, row: pl.DataFrame, count: int = 10) -> dict[str, Any] | None:
    """The contributions of one row that matter most; None of a family that cannot say so.

    Returns:
        unit, base, largest (feature, value and contribution of each, by falling size), others (sum
        of the rest) and margin: base, all of largest and others sum to it.
    """
    found = to_the_answer(model, row)
    if found is None:
        return None
    (shares,), (base,) = found
    values = row.row(0, named=True)
    order = np.argsort(-np.abs(shares), kind="stable")
    named = [(model.columns.names[place], float(shares[place])) for place in order]
    return {
        "unit": unit(model.target),
        "base": float(base),
        "largest": [
            {"feature": name, "value": values[name], "contribution": share}
            for name, share in named[:count]
        ],
        "others": float(sum(share for _, share in named[count:])),
        "margin": float(base + shares.sum()),
    }
