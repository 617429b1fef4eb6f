"""Intervals for model figures by resampling whole days.

The rows of one day share weather and knock-on delay, so rows are no independent evidence; days
nearly are. A repetition draws as many days as there are, with replacement, and a figure is
recomputed with each row weighted by how often its day was drawn (block bootstrap, Efron and
Tibshirani 1993, ch. 8). The scores are sorted once; a repetition is one pass over them.
Intervals are percentiles of the repetitions. With few days (under ten or so) they are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from mlops_assets.ml.metrics import (
    Column,
    check_both_classes,
    check_scores,
    inner_product,
    log_losses,
)


@dataclass(frozen=True)
class Interval:
    """A figure on all rows, and the bounds of its interval.

    Attributes:
        value: the figure on the rows as they are.
        low: lower bound.
        high: upper bound.
    """

    value: float
    low: float
    high: float


class RankedScores:
    """Scores sorted once, so that the areas under any weighting of the blocks cost one pass.

    Args:
        label: 0 or 1, shape (rows,).
        probability: scores, shape (rows,); ties count half.
        block: number of each row's block from 0, shape (rows,).
    """

    def __init__(self, label: np.ndarray, probability: np.ndarray, block: np.ndarray) -> None:
        order = np.argsort(-probability, kind="stable")
        ranked = probability[order]
        self._positive = label[order] == 1
        self._block = block[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
        self._cuts = np.append(0, ends)  # rows taken at each step of the curves

    def auc(self, weight: np.ndarray) -> float:
        """Area under the ROC curve with weights of shape (blocks,); NaN if a class has none."""
        hits, taken = self._cumulative(weight)
        alarms = taken - hits
        if not hits[-1] or not alarms[-1]:
            return float("nan")
        area = inner_product(alarms[1:] - alarms[:-1], hits[1:] + hits[:-1]) / 2
        return float(area / (hits[-1] * alarms[-1]))

    def aucs(self, weights: np.ndarray) -> np.ndarray:
        """`auc` under each of several weightings by whole numbers, shape (weightings, blocks)."""
        if weights.shape[1] > 2 * len(weights):
            return np.array([self.auc(weight) for weight in weights])
        weights = weights[:, : self._counts.shape[1]]
        hits, alarms = weights @ self._counts[0], weights @ self._counts[1]
        area = ((weights @ self._won) * weights).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.where(hits * alarms > 0, area / (hits * alarms), np.nan)

    @cached_property
    def _counts(self) -> np.ndarray:
        """Rows of label 1 and of label 0 in each block, shape (2, blocks)."""
        blocks = int(self._block.max()) + 1
        each = [np.bincount(self._block[rows], minlength=blocks) for rows in self._by_label]
        return np.array(each, dtype=np.float64)

    @cached_property
    def _won(self) -> np.ndarray:
        """Pairs of a row of label 1 of one block and a row of label 0 of another in which the first
        is above, ties as half; shape (blocks, blocks). All areas follow from it, exactly."""
        blocks = self._counts.shape[1]
        step = np.repeat(np.arange(self._cuts.size - 1), np.diff(self._cuts))
        ones, others = self._by_label
        found = np.empty((blocks, blocks))
        for block in range(blocks):
            own = np.bincount(step[ones[self._block[ones] == block]], minlength=self._cuts.size - 1)
            above = np.cumsum(own)
            rank = (2 * above - own)[step[others]]
            found[block] = np.bincount(self._block[others], weights=rank, minlength=blocks) / 2
        return found

    @property
    def _by_label(self) -> tuple[np.ndarray, np.ndarray]:
        return np.flatnonzero(self._positive), np.flatnonzero(~self._positive)

    def pr_auc(self, weight: np.ndarray) -> float:
        """Average precision with weights of shape (blocks,); NaN if a class has none."""
        hits, taken = self._cumulative(weight)
        if not hits[-1] or hits[-1] == taken[-1]:
            return float("nan")
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        return float(inner_product(precision[1:], hits[1:] - hits[:-1]) / hits[-1])

    def _cumulative(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of label 1, and of all rows, above each cut; from 0 to all."""
        row_weight = weight.astype(np.float64)[self._block]
        hits, taken = np.zeros(row_weight.size + 1), np.zeros(row_weight.size + 1)
        np.cumsum(row_weight * self._positive, out=hits[1:])
        np.cumsum(row_weight, out=taken[1:])
        return hits[self._cuts], taken[self._cuts]


def bootstrap_metrics(
    label: Column,
    probability: Column,
    block: Column,
    *,
    repetitions: int = 200,
    seed: int,
    level: float = 0.95,
    brief: bool = False,
) -> dict[str, Interval]:
    """Figures of one model with intervals over days.

    Args:
        label: 0 or 1, shape (rows,).
        probability: chance of 1, shape (rows,).
        block: day of each row, shape (rows,), of any type that sorts.
        repetitions: number of resamples.
        seed: of the resampling; the same seed and days give the same draws.
        level: share of the resamples between the two bounds.
        brief: without pr_auc; one day will do, whose intervals have no width.

    Returns:
        Intervals by name: log_loss (nats), brier, and where both classes are present auc and
        pr_auc.

    Raises:
        ValueError: scores as in `metrics.check_scores`, or fewer than two days.
    """
    truth, score = check_scores(label, probability)
    day = block_numbers(block, truth.size, at_least=1 if brief else 2)
    draws = block_draws(day, repetitions, seed)
    found = _figures(truth, score, day, draws, level)
    if "auc" in found and not brief:
        ranked = RankedScores(truth, score, day)
        found["pr_auc"] = _area_interval(
            lambda weights: np.array([ranked.pr_auc(weight) for weight in weights]), draws, level
        )
    return found


def paired_gain(
    label: Column,
    p_new: Column,
    p_old: Column,
    block: Column,
    metric: Literal["log_loss", "auc"] = "log_loss",
    *,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """How much better the new scores are than the old on the same rows; positive is better.

    Both are judged on the same resampled days, so what a hard day costs both cancels.

    Returns:
        The gain in log loss (nats a row, old minus new) or in AUC (new minus old).

    Raises:
        ValueError: scores as in `metrics.check_scores`, fewer than two days, an unknown metric,
            or one class alone for the AUC.
    """
    truth, new = check_scores(label, p_new)
    _, old = check_scores(label, p_old)
    if metric == "log_loss":
        return gain_in_loss(
            log_losses(truth, new), log_losses(truth, old), block,
            repetitions=repetitions, seed=seed, level=level,
        )  # fmt: skip
    day = block_numbers(block, truth.size)
    draws = block_draws(day, repetitions, seed)
    if metric != "auc":
        raise ValueError(f"metric is {metric!r}, expected log_loss or auc")
    check_both_classes(truth, new)
    ranked_new, ranked_old = RankedScores(truth, new, day), RankedScores(truth, old, day)
    return _area_interval(lambda w: ranked_new.aucs(w) - ranked_old.aucs(w), draws, level)


def gain_in_loss(
    new: np.ndarray,
    old: np.ndarray,
    block: Column,
    *,
    relative: bool = False,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """How much less the new model loses than the old, on the same rows; positive is better.

    Args:
        new: its loss on each row, shape (rows,).
        old: that of the other, shape (rows,).
        block: day of each row, shape (rows,).
        relative: as a share of the old one's mean loss; else in the loss's own unit.
        repetitions: number of resamples of the days.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Raises:
        ValueError: fewer than two days.
    """
    day = block_numbers(block, new.size)
    draws = block_draws(day, repetitions, seed)
    if not relative:
        return _mean_interval(old - new, day, draws, level)
    return _ratio(old - new, old, day, draws, level)


def mean_interval(
    row_value: np.ndarray,
    block: Column,
    *,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a mean over rows, shape (rows,), over their days."""
    day = block_numbers(block, row_value.size, at_least=1)
    return _mean_interval(row_value, day, block_draws(day, repetitions, seed), level)


def ratio_of_sums(
    above: np.ndarray,
    below: np.ndarray,
    block: Column,
    *,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a ratio of two sums over rows, each of shape (rows,), over their days."""
    day = block_numbers(block, above.size)
    return _ratio(above, below, day, block_draws(day, repetitions, seed), level)


def block_mean(
    sums: np.ndarray,
    rows: np.ndarray,
    *,
    repetitions: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a mean over rows of which only the sums a block are known.

    Args:
        sums: sum of the figure over the rows of each block, shape (blocks,).
        rows: number of rows of each block, above 0, shape (blocks,).
        repetitions: number of resamples of the blocks.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Raises:
        ValueError: fewer than two blocks, or differing shapes.
    """
    if sums.shape != rows.shape or sums.size < 2:
        raise ValueError(f"{sums.size} sums of {rows.size} blocks, expected as many, at least 2")
    draws = block_draws(np.arange(sums.size), repetitions, seed)
    return percentiles(float(sums.sum() / rows.sum()), (draws @ sums) / (draws @ rows), level)


def block_numbers(block: Column, rows: int, at_least: int = 2) -> np.ndarray:
    """Each row's block as a number from 0, shape (rows,).

    Raises:
        ValueError: another number of rows, a missing block, or fewer blocks than `at_least`.
    """
    column = np.asarray(block)
    if column.shape != (rows,):
        raise ValueError(f"block has shape {column.shape}, expected the day of each of {rows} rows")
    if missing := pl.Series(column, nan_to_null=True).null_count():
        raise ValueError(f"block: {missing} of {rows} rows have no day")
    values, number = np.unique(column, return_inverse=True)
    if values.size < at_least:
        raise ValueError(f"an interval over days needs at least 2 days, got {values.size}")
    return number


def block_draws(block: np.ndarray, repetitions: int, seed: int) -> np.ndarray:
    """How often each block is drawn, shape (repetitions, blocks)."""
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}, expected at least 1")
    blocks = int(block.max()) + 1
    chance = np.full(blocks, 1 / blocks)
    return np.random.default_rng(seed).multinomial(blocks, chance, size=repetitions)


def _figures(
    truth: np.ndarray, score: np.ndarray, day: np.ndarray, draws: np.ndarray, level: float
) -> dict[str, Interval]:
    found = {
        "log_loss": _mean_interval(log_losses(truth, score), day, draws, level),
        "brier": _mean_interval(np.square(score - truth), day, draws, level),
    }
    if truth.min() < truth.max():
        found["auc"] = _area_interval(RankedScores(truth, score, day).aucs, draws, level)
    return found


def _mean_interval(
    row_value: np.ndarray, day: np.ndarray, draws: np.ndarray, level: float
) -> Interval:
    """Interval of a mean over rows: sums a day are all that a repetition needs."""
    sums, rows = np.bincount(day, weights=row_value), np.bincount(day)
    return percentiles(float(row_value.mean()), (draws @ sums) / (draws @ rows), level)


def _ratio(
    above: np.ndarray, below: np.ndarray, day: np.ndarray, draws: np.ndarray, level: float
) -> Interval:
    sums, bases = np.bincount(day, weights=above), np.bincount(day, weights=below)
    if not bases.sum():
        return Interval(0.0, 0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (draws @ sums) / (draws @ bases)
    return percentiles(float(sums.sum() / bases.sum()), resampled, level)


def _area_interval(
    areas: Callable[[np.ndarray], np.ndarray], draws: np.ndarray, level: float
) -> Interval:
    found = areas(np.vstack([np.ones(draws.shape[1]), draws]))
    return percentiles(float(found[0]), found[1:], level)


def percentiles(value: float, resampled: np.ndarray, level: float) -> Interval:
    """Percentile interval; resamples without both classes say nothing and are left out."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected between 0 and 1, say 0.95")
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
