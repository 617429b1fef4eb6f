"""Signals that a model may need retraining: figures in, value, limit and whether it fired out.

A daily signal counts when it fired on at least m of n days that follow each other. A day is left
out, and named in the detail, where its figures cannot be read; one bad row silences neither the
other days nor the other signals. No signal decides anything: seasons always drift (verdict.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import polars as pl

from mlops_assets.ml.bootstrap import Interval, block_mean
from mlops_assets.ml.periods import DAYS, Periods

_DAILY = {"date": pl.Date, "value": pl.Float64, "fired": pl.Boolean}


@dataclass(frozen=True)
class Signal:
    """One signal.

    Attributes:
        name: which one.
        value: what was found; None where there was nothing to judge.
        limit: from which on it fires; None where that is no number.
        fired: whether it did.
        detail: the same in words, with what could not be read.
    """

    name: str
    value: float | None
    limit: float | None
    fired: bool
    detail: str


@dataclass(frozen=True)
class Watch:
    """Which days are looked at, and how often a daily signal must fire among them.

    It counts when it fired on at least `fired` of the `of` calendar days that end on any day from
    `first` to `last`: a watch that slept for a while misses none. Of weeks and months it takes as
    many as make so many days.

    Raises:
        ValueError: m of n that cannot be.
    """

    first: date
    last: date
    fired: int
    of: int
    periods: Periods = DAYS

    def __post_init__(self) -> None:
        if not 1 <= self.fired <= self.of:
            raise ValueError(f"{self.fired} of {self.of} days: expected 1 <= m <= n")

    @property
    def needed(self) -> int:
        """Periods on which it must fire."""
        return self.periods.within(self.fired)

    def among(self, end: date) -> list[date]:
        """The periods among which it must, up to one of them, newest first."""
        return [self.periods.step(end, -n) for n in range(self.periods.within(self.of))]

    def ends(self) -> Iterator[date]:
        """The periods that are asked for, newest first."""
        end = self.periods.of(self.last)
        while end >= self.first:
            yield end
            end = self.periods.step(end, -1)


@dataclass(frozen=True)
class Level:
    """What the label's mean is called in daily rows, and what it was in the training set.

    Attributes:
        name: base_rate, mean_label, or accuracy, which the mean chance of the class said must meet.
        trained: in the training set; None where that says nothing.
        scale: what a difference is divided by: 1 for shares, the training mean of numbers.
    """

    name: str
    trained: float | None
    scale: float = 1.0

    @property
    def highest(self) -> float:
        """Greatest value that it can have."""
        return float("inf") if self.name == "mean_label" else 1.0

    @property
    def least(self) -> float:
        """Least value."""
        return float("-inf") if self.name == "mean_label" else 0.0


BASE_RATE = Level("base_rate", None)


def calibration_bias(
    rows: pl.DataFrame, watch: Watch, *, window: int, limit: float, level: Level = BASE_RATE
) -> Signal:
    """Mean prediction minus the label's over a trailing window is off by the limit, beyond chance.

    Args:
        rows: one a day: date, labelled (rows), mean_prediction, and the level of labelled rows.
        watch: the days that are asked for.
        window: calendar days of the trailing window; half of them must be there.
        limit: greatest bias either way, as a share.
        level: the label's.
    """
    sound, notes = _readable(rows, ["mean_prediction", level.name], level.least, level.highest)
    off = (pl.col("mean_prediction") - pl.col(level.name)) / level.scale
    gap = sound.with_columns(figure=off)
    daily = _trailing(gap, watch, window, _off(limit))
    return _persisted("calibration_bias", daily, limit, watch, notes)


def label_rate(
    rows: pl.DataFrame, watch: Watch, *, window: int, level: Level, limit: float
) -> Signal:
    """The label's mean over a trailing window is off the training set's, beyond chance.

    Args:
        rows: one a day: date, labelled, and the level.
        watch: the days that are asked for.
        window: calendar days of the trailing window; half of them must be there.
        level: the label's, here and in the training set.
        limit: greatest difference either way, as a share.
    """
    if level.trained is None:
        detail = "not judged: a label of several classes has no mean"
        return Signal("label_rate", None, limit, False, detail)
    sound, notes = _readable(rows, [level.name], level.least, level.highest)
    gap = sound.with_columns(figure=(pl.col(level.name) - level.trained) / level.scale)
    daily = _trailing(gap, watch, window, _off(limit))
    return _persisted("label_rate", daily, limit, watch, notes)


def loss(
    rows: pl.DataFrame,
    watch: Watch,
    *,
    window: int,
    evaluated: float | None,
    limit: float,
    metric: str = "log_loss",
) -> Signal:
    """The loss over a trailing window is above the model's own interval at its evaluation.

    Args:
        rows: one a day: date, labelled, and the loss.
        watch: the days that are asked for.
        window: calendar days of the trailing window; half of them must be there.
        evaluated: upper bound of the loss at the evaluation; None where it had none.
        limit: by how much the bound must be passed.
        metric: name of the loss.
    """
    if evaluated is None:
        return Signal("loss", None, limit, False, "not judged: the model has no evaluation")
    sound, notes = _readable(rows, [metric])
    above = sound.with_columns(figure=pl.col(metric) - evaluated)
    daily = _trailing(above, watch, window, lambda value, interval: value > limit)
    return _persisted("loss", daily, limit, watch, notes)


def prediction_drift(rows: pl.DataFrame, watch: Watch, *, limit: float) -> Signal:
    """The predictions have moved from those on the training set.

    Args:
        rows: drift rows (drift.daily_drift) with their date.
        watch: the days that are asked for.
        limit: from which value on, in standard deviations of the reference.
    """
    sound, notes = _drift_rows(rows.filter(pl.col("kind") == "prediction"))
    daily = sound.select("date", "value", fired=(pl.col("value") >= limit).fill_null(False))
    return _persisted("prediction_drift", daily, limit, watch, notes)


def covariate_drift(
    rows: pl.DataFrame, weights: Mapping[str, float], watch: Watch, *, limit: float
) -> Signal:
    """What the model leans on has drifted, each column by its weight.

    Args:
        rows: drift rows (drift.daily_drift) with their date.
        weights: column to its share of the model's importance; none where that is not known.
        watch: the days that are asked for.
        limit: share of the importance that stands in drifted columns.
    """
    if not weights:
        detail = "not judged: what the model leans on is not known yet"
        return Signal("covariate_drift", None, limit, False, detail)
    sound, notes = _drift_rows(rows.filter(pl.col("kind") != "prediction"), known=list(weights))
    leaned = pl.col("column").replace_strict(dict(weights), default=0.0, return_dtype=pl.Float64)
    share = (
        sound.group_by("date")
        .agg(value=(leaned * pl.col("drifted").cast(pl.Float64)).sum())
        .sort("date")
    )
    daily = share.select("date", "value", fired=pl.col("value") >= limit)
    return _persisted("covariate_drift", daily, limit, watch, notes)


def growth(new: int, trained: int, *, limit: float) -> Signal:
    """There are many more labelled rows to train on than the model had."""
    value = new / trained if trained else None
    fired = value is not None and value >= limit
    detail = f"{new:,} labelled rows more than the {trained:,} it was trained on"
    return Signal("growth", value, limit, fired, detail)


def age(cutoff: date, today: date, *, limit: int) -> Signal:
    """The model's last training day lies far back on the data's own clock."""
    days = (today - cutoff).days
    return Signal("age", days, limit, days >= limit, f"{days} days since its cut-off {cutoff}")


def code_change(changes: Sequence[str]) -> Signal:
    """A fit would run other code, settings or libraries than the model was fitted with."""
    detail = f"changed since its fit: {', '.join(changes)}" if changes else "the same as at its fit"
    return Signal("code_change", len(changes), 1, bool(changes), detail)


def person(by: str, reason: str = "") -> Signal:
    """Somebody asks."""
    return Signal("person", None, None, True, f"{by}: {reason}" if reason else by)


Judge = Callable[[float, Callable[[], Interval]], bool]
"""Whether a value fires; its interval is made only where it is asked for."""


def _off(limit: float) -> Judge:
    def judge(value: float, interval: Callable[[], Interval]) -> bool:
        return abs(value) >= limit and (found := interval()).low * found.high > 0

    return judge


def _trailing(rows: pl.DataFrame, watch: Watch, window: int, judge: Judge) -> pl.DataFrame:
    """Mean of `figure` over the labelled rows of the window that ends on each day."""
    first = watch.among(watch.first)[-1]
    least = max(2, watch.periods.within(window) // 2)
    ordered = rows.sort("date")
    days, labelled = ordered["date"].to_list(), ordered["labelled"].to_numpy()
    sums = ordered["figure"].to_numpy() * labelled
    found = []
    for end, day in enumerate(days, start=1):
        start = bisect_left(days, day - timedelta(days=window - 1))
        if not first <= day <= watch.last or end - start < least:
            continue
        part = slice(start, end)
        value = float(sums[part].sum() / labelled[part].sum())
        fired = judge(value, partial(block_mean, sums[part], labelled[part]))
        found.append({"date": day, "value": value, "fired": fired})
    return pl.DataFrame(found, schema=_DAILY)


def _persisted(
    name: str, daily: pl.DataFrame, limit: float, watch: Watch, notes: Sequence[str]
) -> Signal:
    """Whether it fired on m of n days that end on one of the days asked for."""
    looked = daily.filter(pl.col("date") <= watch.last).drop_nulls("value").sort("date")
    if looked.is_empty():
        return Signal(name, None, limit, False, "; ".join(["not judged: no days yet", *notes]))
    values = dict(looked.select("date", "value").iter_rows())
    on = {day for day, fired in looked.select("date", "fired").iter_rows() if fired}
    newest, most = looked["date"][-1], 0
    every = watch.periods
    for end in watch.ends():
        among = watch.among(end)
        hits = [day for day in among if day in on]
        most = max(most, len(hits))
        if len(hits) >= watch.needed:
            detail = (
                f"on {len(hits)} of the {len(among)} {every} to {end}, {watch.needed} are needed"
            )
            return Signal(name, values[hits[0]], limit, True, "; ".join([detail, *notes]))
    of = len(watch.among(watch.last))
    detail = f"on at most {most} of {of} {every}, {watch.needed} are needed; value of {newest}"
    return Signal(name, values[newest], limit, False, "; ".join([detail, *notes]))


def _readable(
    rows: pl.DataFrame, figures: list[str], least: float = 0.0, highest: float = float("inf")
) -> tuple[pl.DataFrame, list[str]]:
    """Labelled days whose figures are numbers between the two, once each; and the others."""
    known = rows.filter(pl.col("labelled").fill_null(0) != 0)
    fine = (pl.col("labelled") > 0) & ~pl.col("date").is_duplicated()
    for figure in figures:
        fine &= pl.col(figure).is_between(least, highest) & pl.col(figure).is_finite()
    return _sorted_out(known, fine)


def _drift_rows(
    rows: pl.DataFrame, known: Sequence[str] | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Rows with a verdict and no impossible value; a value may be absent, which the note says."""
    value = pl.col("value")
    fine = (value.is_null() | (value.is_finite() & (value >= 0))) & pl.col("drifted").is_not_null()
    fine &= ~pl.struct("date", "column").is_duplicated()
    if known is not None:
        fine &= pl.col("column").is_in(list(known))
    return _sorted_out(rows, fine)


def _sorted_out(rows: pl.DataFrame, fine: pl.Expr) -> tuple[pl.DataFrame, list[str]]:
    good = fine.fill_null(False)
    bad = rows.filter(~good)
    if bad.is_empty():
        return rows, []
    days = ", ".join(str(day) for day in bad["date"].unique().sort()[-3:])
    return rows.filter(good), [f"{bad.height} rows cannot be read and are left out, of {days}"]
