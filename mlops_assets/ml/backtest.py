"""What a walk through the past is judged by: policies compared, and dates against other dates.

Losses add up over days, so the sum a day of each model that could have served is all that a
schedule's loss takes. A schedule is a choice of models, each serving from its own first day until
the next one's; the first serves from the beginning. Intervals resample whole days, and where there
are several seeds the seeds as well, in pairs: what a hard day costs cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations
from math import comb

import numpy as np

from mlops_assets.ml.bootstrap import Interval, block_draws, percentiles

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Judged:
    """A schedule among all others with as many retrains.

    Attributes:
        retrains: how many.
        schedules: with how many others it was compared.
        percentile: share of those that it beats, from 0 to 1; ties count half.
        regret: loss above the best of them in hindsight, a row's or as a share of the best one's.
        best: numbers of the models of that best schedule, after the first.
    """

    retrains: int
    schedules: int
    percentile: Interval
    regret: Interval
    best: tuple[int, ...]


def month_ends(first: date, last: date) -> list[date]:
    """The last day of each month from `first` on that has a day after it through `last`."""
    days = [first + n * _DAY for n in range((last - first).days)]
    return [day for day in days if (day + _DAY).day == 1]


def grid_days(first: date, last: date, every: int = 7) -> list[date]:
    """Every seventh day, or as `every` says, from `first`, before `last`."""
    return [first + n * _DAY for n in range(0, (last - first).days, every)]


def paired_share(
    frozen: np.ndarray,
    most: np.ndarray,
    policy: np.ndarray,
    *,
    repetitions: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Which share of what retraining most gains over the frozen model a policy keeps.

    Args:
        frozen: sum of the losses of each day, shape (days,), of the model that never changes.
        most: the same of the policy that retrains most.
        policy: the same of the policy in question.
        repetitions: resamples of the days.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Returns:
        1 is all of it, 0 none, below 0 a loss. NaN, bounds included, where retraining most gains
        nothing or loses: a share of a loss is no merit. Where its gain is not surely above 0 the
        share says little, and its interval is wide.

    Raises:
        ValueError: differing shapes, or fewer than two days.
    """
    if not frozen.shape == most.shape == policy.shape or frozen.size < 2:
        raise ValueError(
            f"{frozen.size}, {most.size} and {policy.size} days, expected as many, at least 2"
        )
    whole, kept = frozen - most, frozen - policy
    if not whole.sum() > 0:
        return Interval(*[float("nan")] * 3)
    draws = block_draws(np.arange(frozen.size), repetitions, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (draws @ kept) / (draws @ whole)
    defined = np.where(np.isfinite(drawn), drawn, np.nan)
    return percentiles(float(kept.sum() / whole.sum()), defined, level)


def schedules(models: int, retrains: int, *, most: int = 20_000, seed: int = 0) -> np.ndarray:
    """All increasing choices of `retrains` models of 1 … models - 1, or `most` drawn of them.

    Returns:
        Shape (schedules, retrains); the first model is in each and is left out.

    Raises:
        ValueError: fewer models than that.
    """
    if not 1 <= retrains < models:
        raise ValueError(f"{retrains} retrains of {models - 1} dates, expected 1 to {models - 1}")
    if comb(models - 1, retrains) <= most:
        return np.array(list(combinations(range(1, models), retrains)))
    generator = np.random.default_rng(seed)
    order = generator.random((most, models - 1)).argsort(axis=1)[:, :retrains]
    return np.sort(order + 1, axis=1)


def schedule_losses(losses: np.ndarray, since: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Summed loss of each schedule.

    Args:
        losses: loss of each model on each day, shape (models, days).
        since: number of the day from which each model can serve, shape (models,), ascending; the
            first is 0.
        chosen: as `schedules` returns it.

    Returns:
        Shape (schedules,).
    """
    days = losses.shape[1]
    sums = np.zeros((losses.shape[0], days + 1))
    np.cumsum(losses, axis=1, out=sums[:, 1:])
    served = np.column_stack([np.zeros(len(chosen), dtype=int), chosen])
    begins = since[served]
    ends = np.column_stack([begins[:, 1:], np.full(len(chosen), days)])
    return (sums[served, ends] - sums[served, begins]).sum(axis=1)


def judge(
    losses: np.ndarray,
    since: np.ndarray,
    own: np.ndarray,
    retrains: int,
    rows: np.ndarray,
    *,
    relative: bool = False,
    repetitions: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> Judged:
    """Where a schedule's own loss lies among all schedules with as many retrains.

    Args:
        losses: sums a day, shape (seeds, models, days).
        since: as in `schedule_losses`.
        own: sums a day of the schedule in question, shape (seeds, days).
        retrains: its number of retrains.
        rows: rows of each day, shape (days,).
        relative: the regret as a share of the best schedule's loss; else a row's loss.
        repetitions: resamples of days and seeds.
        seed: of the resampling.
        level: share of the resamples between the two bounds.

    Raises:
        ValueError: as `schedules`.
    """
    chosen = schedules(losses.shape[1], retrains)
    all_of_them = schedule_losses(losses.mean(axis=0), since, chosen)
    best = int(np.argmin(all_of_them))
    value = _beaten(float(own.mean(axis=0).sum()), all_of_them)
    least = all_of_them[best]
    regret = (own.mean(axis=0).sum() - least) / (least if relative else rows.sum())
    days = block_draws(np.arange(losses.shape[2]), repetitions, seed)
    seeds = block_draws(np.arange(losses.shape[0]), repetitions, seed + 1)
    shares, regrets = np.empty(repetitions), np.empty(repetitions)
    for n in range(repetitions):
        weight = seeds[n] / seeds[n].sum()
        drawn = np.tensordot(weight, losses, 1) * days[n]
        mine = float((weight @ own) @ days[n])
        others = schedule_losses(drawn, since, chosen)
        shares[n] = _beaten(mine, others)
        regrets[n] = (mine - others[best]) / (others[best] if relative else rows @ days[n])
    return Judged(
        retrains,
        len(chosen),
        percentiles(value, shares, level),
        percentiles(float(regret), regrets, level),
        tuple(int(model) for model in chosen[best]),
    )


def _beaten(own: float, others: np.ndarray) -> float:
    return float(np.mean(others > own) + np.mean(others == own) / 2)
