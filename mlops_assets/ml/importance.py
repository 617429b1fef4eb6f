"""What a model leans on, on rows that it was not fitted on: by what is lost, and by what is added.

The rise is permutation importance (Breiman 2001, sec. 10): how much worse the model does, in the
loss of its target, when one column tells it nothing. The contribution is how much a column moves
the answers, whether for better or worse: see contributions.py. Columns that carry the same share
the credit in both: a guide, and no effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from mlops_assets.ml.contributions import to_the_answer
from mlops_assets.ml.families import Model

_MOST_EXPLAINED = 2_000
"""Exact Shapley values take some milliseconds a row, so not all rows have them."""


@dataclass(frozen=True)
class Importance:
    """What a model leans on.

    Attributes:
        table: column, rise (of the loss; below 0 by chance), weight (the rise, not below 0, as a
            share of their sum; equal shares where no column matters), contribution (mean absolute
            contribution; null where the family has none), by falling weight.
        explained: the rows of which there are contributions, with the model's columns in order.
        contributions: to the answers of these rows, shape (rows, columns); None where the family
            has none.
    """

    table: pl.DataFrame
    explained: pl.DataFrame
    contributions: np.ndarray | None


def importance_of(
    model: Model, frame: pl.DataFrame, label: np.ndarray, *, rows: int = 5_000, seed: int = 7
) -> Importance:
    """How much the mean loss rises when a column is shuffled, and how much it moves the answers.

    Args:
        model: any fitted model.
        frame: its feature columns, rows it was not fitted on.
        label: as the target encodes it, shape (rows,).
        rows: greatest number of rows, drawn with the seed; the first 2,000 drawn are explained.
        seed: of the draw and the shuffles.

    Raises:
        ValueError: no rows, or a label that the target cannot have.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(frame.height)[:rows]
    names = list(model.columns.names)
    known, sample = label[drawn], frame.select(names)[drawn]
    rises = _rises(model, sample, known, generator.permutation(sample.height))
    felt = np.clip(rises, 0, None)
    weights = felt / felt.sum() if felt.any() else np.full(len(names), 1 / len(names))
    explained = sample.head(_MOST_EXPLAINED)
    found = to_the_answer(model, explained)
    means = None if found is None else np.abs(found[0]).mean(axis=0)
    table = pl.DataFrame({"column": names, "rise": rises, "weight": weights}).with_columns(
        pl.Series("contribution", means, pl.Float64) if means is not None
        else pl.lit(None, pl.Float64).alias("contribution")
    )  # fmt: skip
    by_weight = table.sort("weight", "column", descending=[True, False])
    return Importance(by_weight, explained, None if found is None else found[0])


def _rises(model: Model, sample: pl.DataFrame, known: np.ndarray, order: np.ndarray) -> list[float]:
    target = model.target

    def loss(shown: pl.DataFrame) -> float:
        return target.loss(*target.check(known, model.predict(shown)))

    usual = loss(sample)
    return [loss(sample.with_columns(sample[name][order])) - usual for name in model.columns.names]
