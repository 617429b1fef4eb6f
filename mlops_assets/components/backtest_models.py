"""Models of a walk that other dates would have made, each fitted once and kept in its lake.

A model is known by its cut-off and its seed. It is fitted as a training of the walk does it: the
one family with its usual parameters, early stopping on the newest days before the cut-off. What it
says of each labelled row after the cut-off stands in `<product>/backtest_models`, in the columns of
a prediction, a partition a model, so that a walk that is killed fits none twice; `row` counts its
rows in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.components.backtest import FAMILY, Walked
from mlops_assets.components.ml_product.enough_labels import validation_days
from mlops_assets.components.ml_product.training import fit_version
from mlops_assets.components.ml_product.training_set import DAY, LABEL, labelled_rows, to_fit_on
from mlops_assets.ml.families import FitOptions, family
from mlops_assets.ml.splits import split_by_day
from mlops_assets.ml.targets import Target
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit

NAME = "backtest_models"
_KEY = "model"
Tell = Callable[[str], None]


class Models:
    """What models of any cut-off and seed say of the days of a walk.

    Scores are those of `judged`, the labelled rows of the walk in the order of their keys; NaN on
    days through the model's cut-off.
    """

    def __init__(self, walked: Walked, tell: Tell = lambda line: None) -> None:
        self._walked = walked
        self._tell = tell

    @cached_property
    def rows(self) -> pl.DataFrame:
        """All labelled rows through the last day of the walk."""
        walked = self._walked
        return labelled_rows(walked.lakehouse, walked.product, None, walked.walk.last)

    @cached_property
    def target(self) -> Target:
        """The product's, with every class that a label of the walk has."""
        return self._walked.product.target.of(self.rows[LABEL])

    @cached_property
    def judged(self) -> pl.DataFrame:
        """Keys and label of the rows of the walk."""
        columns = [*self._walked.product.spine.entity_keys, LABEL]
        return self.rows.filter(pl.col(DAY) >= self._walked.walk.first).select(columns)

    @cached_property
    def days(self) -> list[date]:
        """The days of the walk that have labelled rows, in order."""
        return self.judged[DAY].unique().sort().to_list()

    @cached_property
    def rows_a_day(self) -> np.ndarray:
        """Labelled rows of each of `days`."""
        return np.bincount(self._day)

    def scores(self, cutoff: date, seed: int | None = None) -> np.ndarray:
        """What the model says of each row of `judged`; by default with the product's seed."""
        training = self._walked.product.training
        seed = training.seed if seed is None else seed
        table = self._walked.product.table(NAME)
        name = f"{cutoff}.{seed}.{self._made_of}"
        store = self._walked.lakehouse
        if not store.exists(table) or name not in store.partitions(table, _KEY):
            self._fit(name, cutoff, seed)
        kept = store.scan(table).filter(pl.col(_KEY) == name).collect()
        after = (self.judged[DAY] > cutoff).to_numpy()
        said = self.target.scores_of(kept.sort("row"))
        found = np.full((after.size, *said.shape[1:]), np.nan)
        found[after] = said
        return found

    def losses(self, scores: np.ndarray) -> np.ndarray:
        """Sum of the losses of each of `days`, NaN where the model was trained on the day."""
        label = self.target.encode(self.judged[LABEL])
        known = np.isfinite(scores).reshape(label.size, -1).all(axis=1)
        each = np.full(label.size, np.nan)
        each[known] = self.target.losses(label[known], scores[known])
        return np.bincount(self._day, weights=each)

    @cached_property
    def _day(self) -> np.ndarray:
        return np.unique(self.judged[DAY].to_numpy(), return_inverse=True)[1]

    @cached_property
    def _made_of(self) -> str:
        code = fit_version(self._walked.product, FAMILY)
        return combine(code=code, rows=content_hash(self.rows))[:12]

    def _fit(self, name: str, cutoff: date, seed: int) -> None:
        self._tell(f"fitting a model of {cutoff}, seed {seed}")
        product, chosen = self._walked.product, family(FAMILY)
        training = product.training
        known = self.rows.filter(pl.col(DAY) <= cutoff)
        parts = split_by_day(known[DAY].to_numpy(), cutoff, validation_days(product, known))
        before, newest = (known.filter(part) for part in parts)
        train, valid = to_fit_on(product.target, before, newest)
        target = train.target
        params = chosen.defaults() | training.params.get(FAMILY, {})
        options = FitOptions(seed, training.threads, training.device)
        model = chosen.fit(train, valid, product.columns, params, options)
        after = self.rows.filter(pl.col(DAY) > max(cutoff, self._before))
        frame = after.select(
            pl.lit(name).alias(_KEY), pl.lit(cutoff).alias("cutoff"),
            pl.lit(seed, pl.Int64).alias("seed"), DAY, pl.int_range(pl.len()).alias("row"),
            *target.columns(model.predict(after), None),
        )  # fmt: skip
        self._walked.lakehouse.overwrite_partitions(
            product.table(NAME), frame, by=_KEY, partitions=[name],
            commit=Commit(run_id="backtest", note=name),
        )  # fmt: skip

    @property
    def _before(self) -> date:
        first: Any = self.judged[DAY].min()
        return date.fromordinal(first.toordinal() - 1)
