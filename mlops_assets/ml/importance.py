"""What a model leans on: how much worse it does when one column tells it nothing.

Permutation importance (Breiman 2001, sec. 10) in the loss of the model's target, on rows that it
was not fitted on. Columns that carry the same share the credit: a weight is a guide, no effect.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from mlops_assets.ml.families import Model


def permutation_importance(
    model: Model, frame: pl.DataFrame, label: np.ndarray, *, rows: int = 5_000, seed: int = 7
) -> pl.DataFrame:
    """How much the mean loss rises when a column is shuffled among the rows.

    Args:
        model: any fitted model.
        frame: its feature columns, rows it was not fitted on.
        label: as the target encodes it, shape (rows,).
        rows: greatest number of rows, drawn with the seed.
        seed: of the draw and the shuffles.

    Returns:
        column, rise (of the loss; below 0 by chance), weight (the rise, not below 0, as a share
        of their sum; equal shares where no column matters), by falling weight.

    Raises:
        ValueError: no rows, or a label that the target cannot have.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(frame.height)[:rows]
    names = list(model.columns.names)
    known, sample = label[drawn], frame.select(names)[drawn]
    target = model.target

    def loss(shown: pl.DataFrame) -> float:
        return target.loss(*target.check(known, model.predict(shown)))

    usual = loss(sample)
    order = generator.permutation(sample.height)
    rises = [loss(sample.with_columns(sample[name][order])) - usual for name in names]
    felt = np.clip(rises, 0, None)
    weights = felt / felt.sum() if felt.any() else np.full(len(names), 1 / len(names))
    found = pl.DataFrame({"column": names, "rise": rises, "weight": weights})
    return found.sort("weight", "column", descending=[True, False])
