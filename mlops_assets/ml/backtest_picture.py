"""The picture of a walk: each policy by month with its interval, the cases and the retrains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from mlops_assets.ml.pictures import _COLOURS, _FAINT, _INK, _dress, _figure, _png, spoken

_MARKS = {"retrain": ("^", "#009E73"), "wait": ("o", "#7F7F7F"), "escalate": ("s", "#D55E00")}


def backtest_picture(
    figures: pl.DataFrame,
    cases: pl.DataFrame,
    served: Sequence[date],
    *,
    title: str,
    names: Mapping[str, str],
    shown: Mapping[str, str],
) -> bytes:
    """Figures by month, one colour a policy, above the line of cases and retrains.

    Args:
        figures: period (a month as 2013-04; other periods are left out), policy, and each of
            `shown`, also with _low and _high.
        cases: day and verdict of each decision.
        served: first day of each model that the loop promoted.
        title: over the picture.
        names: policy to what the legend says of it, in order.
        shown: figure to its unit, empty where it has none; a panel each.

    Raises:
        ValueError: no month.
    """
    months = figures.filter(pl.col("period").str.contains(r"^\d{4}-\d\d$"))
    periods = months["period"].unique().sort().to_list()
    if not periods:
        raise ValueError("backtest_picture: no row of a month, expected periods such as 2013-04")
    figure = _figure(11, 1 + 3 * len(shown), title)
    ratios = [4] * len(shown) + [1]
    *panels, line = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    for axes, (metric, unit) in zip(panels, shown.items(), strict=True):
        for n, (policy, name) in enumerate(names.items()):
            rows = months.filter(policy=policy).sort("period")
            place = np.arange(len(periods)) + (n - (len(names) - 1) / 2) * 0.18
            low, high = (rows[f"{metric}_{end}"].fill_null(rows[metric]) for end in ("low", "high"))
            axes.vlines(place, low, high, color=_COLOURS[n], linewidth=2, alpha=0.45)
            axes.plot(place, rows[metric], "o", color=_COLOURS[n], markersize=5, label=name)
        said = f"{spoken(metric)} by month, with its interval by days"
        _dress(axes, said, "", spoken(metric, unit))
    panels[0].legend(frameon=False, fontsize=9, ncols=2, loc="lower left")
    for day in served:
        for axes in (*panels, line):
            axes.axvline(_place(day, periods), color=_FAINT, linewidth=1, zorder=0)
    for verdict, (marker, colour) in _MARKS.items():
        days = cases.filter(verdict=verdict)["day"].to_list()
        line.plot([_place(day, periods) for day in days], np.zeros(len(days)), marker,
                  color=colour, label=f"{verdict} ({len(days)})")  # fmt: skip
    line.set_yticks([])
    line.set_ylim(-3, 1)
    line.set_xlim(-0.5, len(periods) - 0.5)
    line.set_xticks(range(len(periods)), periods)
    _dress(line, "Decisions; a line where a new champion begins to serve", "", "")
    line.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", labelcolor=_INK)
    return _png(figure)


def _place(day: date, periods: Sequence[str]) -> float:
    """Where a day stands between the months, whose middles are 0, 1, …"""
    month = periods.index(f"{day:%Y-%m}") if f"{day:%Y-%m}" in periods else len(periods) - 1
    return month - 0.5 + (day.day - 0.5) / 31
