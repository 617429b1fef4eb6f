"""The picture of what a model leans on: how its top columns move the answers, and what they save.

One dot is one row: right of the middle the column's value raises the answer, and the colour says
whether the value is low or high for that column. Grey is missing, or of a column without order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mlops_assets.ml.importance import Importance
from mlops_assets.ml.pictures import _COLOURS, _FAINT, _dress, _figure, _png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEANINGS = {_COLOURS[0]: "low value", _COLOURS[1]: "high value", _FAINT: "missing, or no order"}
_TOP = 12
_MOST_DOTS = 600
_BINS = 90
_HALF_LINE = 0.38
_LONGEST_NAME = 34


def importance_picture(found: Importance, unit: str, loss: str) -> bytes:
    """The columns that matter most, as PNG: by contribution where there are any, else by rise.

    Args:
        found: what a model leans on.
        unit: of the contributions.
        loss: name of the loss that rises.
    """
    by = "rise" if found.contributions is None else "contribution"
    top = found.table.sort(by, descending=True, maintain_order=True).head(_TOP)
    names = top["column"].to_list()
    height = 1.2 + 0.32 * len(names)
    if found.contributions is None:
        figure = _figure(7, height)
        bars = figure.subplots()
    else:
        figure = _figure(11, height)
        dots, bars = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
        _swarm(dots, names, found.explained.head(_MOST_DOTS), found.contributions[:_MOST_DOTS])
        _dress(dots, "What it adds to the answer of each row", unit, "")
    places = np.arange(len(names))
    bars.barh(places, top["rise"], height=0.55, color=_COLOURS[0])
    _dress(bars, "How much worse without it", f"rise of {loss.replace('_', ' ')}", "")
    bars.set_yticks(places, [_short(name) for name in names])
    bars.locator_params(axis="x", nbins=5)
    bars.invert_yaxis()
    return _png(figure)


def _swarm(axes: Axes, names: list[str], rows: pl.DataFrame, shares: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    ends = LinearSegmentedColormap.from_list("low to high", _COLOURS[:2])
    colours = ends.with_extremes(bad=_FAINT)
    wide = np.abs(shares).max() or 1.0
    axes.axvline(0, color=_FAINT, linewidth=1, zorder=0)
    for place, name in enumerate(names):
        share = shares[:, rows.columns.index(name)]
        at = place + _spread(share, wide)
        axes.scatter(share, at, s=5, linewidths=0, color=colours(_ranks(rows[name])))
    for colour, text in _MEANINGS.items():
        axes.scatter([], [], s=16, color=colour, label=text)
    axes.figure.legend(frameon=False, fontsize=9, loc="outside lower left", ncols=3)


def _spread(share: np.ndarray, wide: float) -> np.ndarray:
    """Offsets from the line, so that dots of like value lie about it side by side."""
    bins = np.round((share + wide) / (2 * wide) * _BINS).astype(np.int64)
    order = np.argsort(bins, kind="stable")
    _, starts, counts = np.unique(bins[order], return_index=True, return_counts=True)
    within = np.arange(share.size) - np.repeat(starts, counts)
    steps = (within + 1) // 2 * np.where(within % 2, 1, -1)
    offsets = np.empty(share.size)
    offsets[order] = steps * min(0.06, 2 * _HALF_LINE / counts.max())
    return offsets


def _ranks(values: pl.Series) -> np.ndarray:
    """Where values stand among the known ones, 0 to 1; NaN for what is missing or has no order."""
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        return np.full(values.len(), np.nan)
    known = values.cast(pl.Float64).fill_nan(None)
    ranks = (known.rank("average") - 0.5) / max(known.count(), 1)
    return ranks.fill_null(np.nan).to_numpy()


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
