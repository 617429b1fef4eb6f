"""What a walk shows: the loop beside a champion that never changes and one of each month.

One of each month is there twice: as the platform trains it, which leaves the newest labelled days
to the evaluation, and fitted on all labels that were known, which nobody could have judged first.
All are judged on the same labelled rows, paired by days, by the figures that the product's target
compares models by. The first half of the months is what
rules may be chosen on, the second half the test. Tables stand in the walk's lake.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.components.backtest import Walked
from mlops_assets.components.backtest_models import Models
from mlops_assets.components.ml_product import scoring
from mlops_assets.components.ml_product.retrain_case import RETRAIN, decisions
from mlops_assets.components.ml_product.shadow import first_scored
from mlops_assets.components.ml_product.signals import next_cutoff
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.ml.backtest import Judged, grid_days, judge, month_ends, paired_share
from mlops_assets.ml.bootstrap import Interval, block_numbers
from mlops_assets.ml.targets import Target
from mlops_assets.stores.lakehouse import Commit

FROZEN, MONTHLY, FRESH, LOOP = "frozen", "monthly", "fresh", "loop"
POLICIES = (FROZEN, MONTHLY, FRESH, LOOP)
FIGURES, GAINS = "backtest", "backtest_gains"
_COMPARED = ((MONTHLY, FROZEN), (LOOP, FROZEN), (LOOP, MONTHLY), (FRESH, MONTHLY))
SHARE = "share of monthly that the loop keeps"
CHOSEN_ON, TEST, ALL = "chosen on", "test", "all"
SEED = 7
"""Of the resampling of a single figure."""
REPETITIONS, OF_AN_AREA = 2_000, {"auc": 200}
"""Resamples of a comparison; an area takes a pass over all rows for each."""
_ENDS = ("", "_low", "_high")
_PLACE = "_place"
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Served:
    """A model that served: its cut-off, and the first day that it scored."""

    cutoff: date
    since: date


class Shown:
    """The policies of a walk that has ended, on its labelled rows."""

    def __init__(self, walked: Walked, models: Models) -> None:
        self.walked, self.models = walked, models

    @cached_property
    def schedules(self) -> dict[str, list[Served]]:
        """Which model served since when, of each policy, the first from the first day on."""
        first, last = self.walked.walk.first, self.walked.walk.last
        cutoff = self.walked.product.training.first_cutoff
        begin = [Served(cutoff, first)]
        monthly, fresh = list(begin), list(begin)
        for day in month_ends(first, last):
            labelled = day - self.walked.product.label.known_after_days * _DAY
            for policy, new in (
                (monthly, next_cutoff(self.walked.product, day)),
                (fresh, labelled),
            ):
                if new > policy[-1].cutoff:
                    policy.append(Served(new, day + _DAY))
        return {FROZEN: begin, MONTHLY: monthly, FRESH: fresh, LOOP: self._of_the_loop()}

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Keys and label of the labelled rows of which the loop said something."""
        return self._of_loop.select(self.models.judged.columns)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """What each policy said of `rows`."""
        there = self._of_loop[_PLACE].to_numpy()
        made = {p: self._said(self.schedules[p])[there] for p in POLICIES if p != LOOP}
        return made | {LOOP: self.target.scores_of(self._of_loop)}

    @property
    def target(self) -> Target:
        """What is predicted, with all classes."""
        return self.models.target

    @property
    def left_out(self) -> int:
        """Labelled rows of which the loop said nothing, and which no policy is judged on."""
        return self.models.judged.height - self.rows.height

    @cached_property
    def periods(self) -> dict[str, np.ndarray]:
        """The rows of each month, of the half that rules are chosen on, of the test, and all."""
        month = self.rows[DAY].dt.strftime("%Y-%m")
        months = month.unique().sort().to_list()
        found = {name: (month == name).to_numpy() for name in months}
        if len(months) > 1:
            test = (month >= months[len(months) // 2]).to_numpy()
            found |= {CHOSEN_ON: ~test, TEST: test}
        return found | {ALL: np.full(self.rows.height, True)}

    def figures(self) -> pl.DataFrame:
        """The target's compared figures with intervals, one row a period and policy."""
        rows, shown = [], self.target.compared
        for period, within in self.periods.items():
            part = self.rows.filter(within)
            days = part[DAY].n_unique()
            for policy in POLICIES:
                found = self.target.intervals(
                    part[LABEL], self.scores[policy][within], part[DAY], brief=True, seed=SEED
                )
                row = {
                    "period": period,
                    "policy": policy,
                    "retrains": self._retrains(policy, part),
                    "rows": part.height,
                    "days": days,
                }
                for name in shown:
                    row |= _with_bounds(name, found.get(name), days)
                rows.append(row)
        floats = {f"{name}{end}": pl.Float64 for name in shown for end in _ENDS}
        return pl.DataFrame(rows, schema_overrides=floats).fill_nan(None)

    def gains(self) -> pl.DataFrame:
        """What a policy gains over another, paired, and the share of it that the loop keeps."""
        rows, target = [], self.target
        for period in (p for p in (CHOSEN_ON, TEST, ALL) if p in self.periods):
            within = self.periods[period]
            part = self.rows.filter(within)
            for new, old in _COMPARED:
                for figure in target.compared:
                    gain = target.gain_in(
                        figure, part[LABEL], self.scores[new][within], self.scores[old][within],
                        part[DAY], repetitions=OF_AN_AREA.get(figure, REPETITIONS),
                    )  # fmt: skip
                    unit = target.gain_unit(figure)
                    rows.append(_gain(period, f"{new} over {old}", figure, unit, gain))
            shared = paired_share(*(self._losses(within, p) for p in (FROZEN, MONTHLY, LOOP)))
            rows.append(_gain(period, SHARE, target.metric, "", shared))
        return pl.DataFrame(rows).fill_nan(None)

    def cases(self) -> pl.DataFrame:
        """One row a decision through the last day: why, what a probe found, the verdict."""
        rows = decisions(self.walked.lakehouse, self.walked.product)
        shown = ["day", "case_id", "champion", "fired", "new_labels", "probe_gain", "probe_low",
                 "probe_high", "verdict", "cutoff", "reason"]  # fmt: skip
        return rows.filter(pl.col("day") <= self.walked.walk.last).select(shown)

    def judge(self, every: int, seeds: int) -> dict[str, Judged]:
        """The loop's dates among others, as many, of the test and of all; none without a retrain.

        Args:
            every: days from one of the other dates to the next.
            seeds: fits of each model, whose losses are averaged.
        """
        found = {}
        for period in (TEST, ALL):
            if period in self.periods and (judged := self._judge(period, every, seeds)):
                found[period] = judged
        return found

    def write(self) -> dict[str, Any]:
        """Put the tables into the walk's lake; return them."""
        product, commit = self.walked.product, Commit(run_id="backtest")
        tables = {FIGURES: self.figures(), GAINS: self.gains()}
        for name, frame in tables.items():
            self.walked.lakehouse.overwrite(product.table(name), frame, commit)
        return tables

    def _judge(self, period: str, every: int, fits: int) -> Judged | None:
        product, walk = self.walked.product, self.walked.walk
        begins: Any = self.rows.filter(self.periods[period])[DAY].min()
        within = np.array([period == ALL or day >= begins for day in self.models.days])
        first, last = self.models.days[int(np.argmax(within))], walk.last
        own = [s for s in self.schedules[LOOP] if s.since <= last]
        before = [s for s in own if s.since <= first][-1]
        own = [before, *(s for s in own if s.since > first)]
        if len(own) < 2:
            return None
        grid = [Served(before.cutoff, first)]
        for day in grid_days(self.walked.opening + _DAY, last, every):
            if day >= first and (cutoff := next_cutoff(product, day)) > grid[-1].cutoff:
                grid.append(Served(cutoff, day + _DAY))
        seeds = [product.training.seed + n for n in range(fits)]
        losses = np.array([[self._daily(s, [s], seed)[within] for s in grid] for seed in seeds])
        mine = np.array([self._daily(own[0], own, seed)[within] for seed in seeds])
        days = [day for day, kept in zip(self.models.days, within, strict=True) if kept]
        since = np.searchsorted(np.array(days), np.array([s.since for s in grid]))
        return judge(
            np.nan_to_num(losses), since, mine, len(own) - 1, self.models.rows_a_day[within],
            relative=self.target.is_relative,
        )  # fmt: skip

    def _daily(self, first: Served, schedule: list[Served], seed: int) -> np.ndarray:
        return self.models.losses(self._said(schedule, seed))

    def _said(self, schedule: list[Served], seed: int | None = None) -> np.ndarray:
        """What the models of a schedule say, each from its first day on."""
        days = self.models.judged[DAY]
        said = self.models.scores(schedule[0].cutoff, seed)
        for served in schedule[1:]:
            later = (days >= served.since).to_numpy()
            said[later] = self.models.scores(served.cutoff, seed)[later]
        return said

    def _of_the_loop(self) -> list[Served]:
        scored = first_scored(self.walked.lakehouse, self.walked.product)
        found: list[Served] = []
        for day, version in scored.iter_rows():
            tags = self.walked.registry.get(self.walked.product.name, version).tags
            cutoff = date.fromisoformat(tags["cutoff"])
            if day <= self.walked.walk.last and (not found or found[-1].cutoff != cutoff):
                found.append(Served(cutoff, max(day, self.walked.walk.first)))
        return found

    def _retrains(self, policy: str, part: pl.DataFrame) -> int:
        first, last = min(part[DAY]), max(part[DAY])
        return sum(first <= served.since <= last for served in self.schedules[policy][1:])

    def _losses(self, within: np.ndarray, policy: str) -> np.ndarray:
        """The sum of each day, in order."""
        label = self.target.encode(self.rows[LABEL])[within]
        day = block_numbers(self.rows[DAY].filter(within), label.size)
        return np.bincount(day, weights=self.target.losses(label, self.scores[policy][within]))

    @cached_property
    def _of_loop(self) -> pl.DataFrame:
        """The rows of `judged` of which the loop said something, each with its place, and what."""
        keys, table = self.walked.product.spine.entity_keys, self.walked.product.table(scoring.NAME)
        first = self.walked.lakehouse.scan(table).filter(pl.col("revision") == 1)
        said = first.select(*keys, *self.target.column_names).collect()
        judged = self.models.judged.with_row_index(_PLACE)
        return judged.join(said, on=keys, how="inner", maintain_order="left")


def retrain_days(cases: pl.DataFrame) -> list[date]:
    """Days on which it was decided to retrain."""
    return cases.filter(pl.col("verdict") == RETRAIN)["day"].to_list()


def _with_bounds(name: str, found: Interval | None, days: int) -> dict[str, float | None]:
    """A figure as columns; without bounds of one day, which has none."""
    if found is None:
        return {}
    bounds = (found.low, found.high) if days > 1 else (None, None)
    return dict(zip((f"{name}{end}" for end in _ENDS), (found.value, *bounds), strict=True))


def _gain(period: str, what: str, metric: str, unit: str, found: Interval) -> dict[str, Any]:
    return {
        "period": period, "what": what, "metric": metric, "unit": unit, "value": found.value,
        "low": found.low, "high": found.high,
    }  # fmt: skip
