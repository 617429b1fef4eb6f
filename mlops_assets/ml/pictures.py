"""Pictures for the UI, as PNG bytes: curves of models, segments, drift, and lines over time.

They show figures that others computed; no threshold is decided here. Colours are those of Okabe
and Ito (2008), told apart by the colour-blind. Each picture is some tens of kilobytes.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlops_assets.ml.metrics import (
    Column,
    calibration_table,
    check_both_classes,
    log_losses,
    pr_curve_points,
    roc_curve_points,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#7F7F7F", "#009E73", "#CC79A7", "#E69F00")
_STYLES = ("-", "--", "-.", ":")
_HEAT = ("#F7F7F7", "#DCE9F3", "#FDD49E", "#FC8D59", "#D7301F", "#7F0000")
_INK = "#333333"
_FAINT = "#BBBBBB"
_DPI = 90


@dataclass(frozen=True)
class Curves:
    """What the evaluation picture shows of one model.

    Attributes:
        roc: as `metrics.roc_curve_points` returns it.
        pr: as `metrics.pr_curve_points` returns it.
        calibration: as `metrics.calibration_table` returns it.
        auc: area under the ROC curve.
        pr_auc: average precision.
        log_loss: mean log loss, in nats.
    """

    roc: pl.DataFrame
    pr: pl.DataFrame
    calibration: pl.DataFrame
    auc: float
    pr_auc: float
    log_loss: float

    @classmethod
    def of(cls, label: Column, probability: Column) -> Curves:
        """Compute them; `ValueError` as in `metrics.check_scores`, or if one class is absent."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        truth, score = check_both_classes(label, probability)
        return cls(
            roc=roc_curve_points(truth, score),
            pr=pr_curve_points(truth, score),
            calibration=calibration_table(truth, score),
            auc=float(roc_auc_score(truth, score)),
            pr_auc=float(average_precision_score(truth, score)),
            log_loss=float(log_losses(truth, score).mean()),
        )


def evaluation_picture(models: Mapping[str, Curves], title: str | None = None) -> bytes:
    """ROC, precision-recall and calibration of the models side by side.

    Args:
        models: name (candidate, champion, baseline) to curves, in the order of the legends.
        title: over the three panels.

    Raises:
        ValueError: no model.
    """
    if not models:
        raise ValueError("evaluation_picture: 0 models, expected at least 1")
    figure = _figure(12, 4.4, title)
    roc, pr, calibration = figure.subplots(1, 3)
    for (name, model), look in zip(models.items(), _looks(len(models)), strict=True):
        roc.plot(*_xy(model.roc), label=f"{name}  {model.auc:.3f}", **look)
        pr.plot(*_xy(model.pr), label=f"{name}  {model.pr_auc:.3f}", **look)
        table = model.calibration
        calibration.plot(
            table["mean_prediction"],
            table["observed_rate"],
            **look | {"marker": "o", "markersize": 4},
            label=f"{name}  {model.log_loss:.4f}",
        )
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, zorder=0)
    _dress(roc, "ROC", "false positive rate", "true positive rate", "AUC")
    _dress(pr, "Precision and recall", "recall", "precision", "average precision")
    _dress(calibration, "Calibration", "predicted", "observed", "log loss")
    for axes in (roc, pr):
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
    reach = 1.05 * max(_greatest_rate(model.calibration) for model in models.values())
    calibration.set(xlim=(0, reach), ylim=(0, reach))
    return _png(figure)


def confusion_picture(label: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> bytes:
    """Shares of each true class by the class that was said, and their counts.

    Args:
        label: number of the true class, shape (rows,); -1 for one that is not among the classes.
        said: number of the class that was said, shape (rows,).
        classes: their names.
    """
    known = label >= 0
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (label[known].astype(np.int64), said[known]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3 + 0.6 * len(classes), 12)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else _INK
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, size=8)
    places = np.arange(len(classes))
    axes.set_xticks(places, classes, rotation=45, ha="right")
    axes.set_yticks(places, classes)
    axes.set(xlabel="said", ylabel="true")
    axes.set_title("Which class is taken for which", loc="left", color=_INK)
    return _png(figure)


def levels_picture(models: Mapping[str, pl.DataFrame]) -> bytes:
    """Mean of the labels against the mean prediction, in bins of equal mass.

    Args:
        models: name to a frame of said and seen, by rising said.
    """
    figure = _figure(5.5, 4.4)
    axes = figure.subplots()
    for (name, table), look in zip(models.items(), _looks(len(models)), strict=True):
        axes.plot(table["said"], table["seen"], **look | {"marker": "o", "markersize": 4},
                  label=name)  # fmt: skip
    ends = [float(v) for t in models.values() for v in (t["said"].min(), t["said"].max())]  # type: ignore[arg-type]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=_FAINT, linewidth=1, zorder=0)
    _dress(axes, "Labels by prediction", "predicted", "mean label", "model")
    return _png(figure)


def by_month_picture(segments: pl.DataFrame, metric: str = "auc") -> bytes:
    """One figure a month with its interval.

    Args:
        segments: as `segments.segment_metrics` returns it; its rows of segment "month" are shown.
        metric: one that the segments have.

    Raises:
        ValueError: no month in which the metric is defined.
    """
    months = segments.filter(pl.col("segment") == "month", pl.col(metric).is_not_null())
    if months.is_empty():
        raise ValueError(f"by_month_picture: no row of segment 'month' with a value of {metric}")
    figure = _figure(7, 3.6)
    axes = figure.subplots()
    place = np.arange(months.height)
    low, high = (months[f"{metric}_{end}"].fill_null(months[metric]) for end in ("low", "high"))
    axes.vlines(place, low, high, color=_COLOURS[0], linewidth=2, alpha=0.5)
    axes.plot(place, months[metric], color=_COLOURS[0], marker="o", linestyle="none")
    for at, value, rows in zip(place, months[metric], months["rows"], strict=True):
        text = f"{value:.3f}\n{rows:,} rows"
        axes.annotate(text, (at, value), (8, 0), textcoords="offset points", color=_INK, size=8)
    axes.set_xticks(place, months["value"].to_list())
    axes.set_xlim(-0.4, months.height - 0.2)
    _dress(axes, f"{spoken(metric)} by month, with its interval", "", spoken(metric))
    return _png(figure)


def drift_picture(rows: pl.DataFrame) -> bytes:
    """Heat map of column and day: the value as a multiple of its threshold.

    Args:
        rows: as `drift.daily_drift` returns it. The columns that drift most stand on top, sixty
            of them at most; grey is no value.

    Raises:
        ValueError: no rows.
    """
    if rows.is_empty():
        raise ValueError("drift_picture: 0 rows, expected those of drift.daily_drift")
    from matplotlib.colors import BoundaryNorm, ListedColormap

    ratio = rows.select("column", "date", ratio=pl.col("value") / pl.col("threshold"))
    wide = ratio.sort("date", maintain_order=True).pivot("date", index="column", values="ratio")
    grid = wide.drop("column").to_numpy().astype(np.float64)
    order = np.argsort(-np.where(np.isnan(grid), 0, grid).mean(axis=1), kind="stable")[:60]
    colours = ListedColormap(_HEAT, bad=_FAINT)
    figure = _figure(10, 1.2 + 0.2 * len(order))
    axes = figure.subplots()
    image = axes.imshow(
        np.ma.masked_invalid(grid[order]),
        cmap=colours,
        norm=BoundaryNorm([0, 0.5, 1, 2, 3, 5, 1e9], colours.N),
        aspect="auto",
        interpolation="nearest",
    )
    days = rows["date"].unique().sort().to_list()
    ticks = [i for i, day in enumerate(days) if day.day == 1] or [0]
    axes.set_xticks(ticks, [f"{days[i]:%d %b}" for i in ticks])
    axes.set_yticks(range(len(order)), wide["column"].gather(order).to_list(), size=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Drift of each column, in multiples of its threshold", loc="left", color=_INK)
    bar = figure.colorbar(image, ax=axes, spacing="uniform", pad=0.01, aspect=30)
    bar.set_ticks([0.5, 1, 2, 3, 5], labels=["½", "1  threshold", "2", "3", "5"])
    bar.outline.set_visible(False)
    return _png(figure)


def line_picture(
    frame: pl.DataFrame,
    x: str,
    lines: Sequence[str],
    *,
    title: str,
    y_label: str = "",
    limits: Mapping[str, float] | None = None,
) -> bytes:
    """Columns as lines over a time or a number, with limits as faint level lines.

    Args:
        frame: rows in the order of `x`; a null breaks its line.
        x: column of the horizontal axis.
        lines: columns to draw.
        title: above the picture.
        y_label: what the lines measure, with its unit.
        limits: name to level.

    Raises:
        ValueError: no rows or no lines.
    """
    if frame.is_empty() or not lines:
        raise ValueError(f"line_picture: {frame.height} rows, lines {list(lines)}: nothing to draw")
    figure = _figure(9, 3.4)
    axes = figure.subplots()
    for name, look in zip(lines, _looks(len(lines)), strict=True):
        axes.plot(frame[x].to_numpy(), frame[name].cast(pl.Float64).to_numpy(), label=name, **look)
    for name, level in (limits or {}).items():
        axes.axhline(level, color=_FAINT, linewidth=1, zorder=0)
        axes.annotate(
            name,
            (1, level),
            xycoords=("axes fraction", "data"),
            color=_INK,
            size=8,
            va="bottom",
            ha="right",
        )
    _dress(axes, title, "", y_label)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _png(figure)


def _figure(width: float, height: float, title: str | None = None) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    if title:
        figure.suptitle(title, color=_INK)
    return figure


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    target = io.BytesIO()
    # A palette of 64 colours is a third of the bytes, and looks the same for flat colours.
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(64).save(target, format="png", optimize=True)
    return target.getvalue()


def _looks(count: int) -> list[dict[str, Any]]:
    """Colour and dashes of each line, told apart by either."""
    colours, styles = itertools.cycle(_COLOURS), itertools.cycle(_STYLES)
    return [
        {"color": next(colours), "linestyle": next(styles), "linewidth": 1.6} for _ in range(count)
    ]


def _dress(axes: Axes, title: str, x_label: str, y_label: str, legend: str | None = None) -> None:
    axes.set_title(title, loc="left", color=_INK)
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    if legend:
        axes.legend(title=legend, frameon=False, fontsize=9, title_fontsize=9, alignment="left")


def _xy(curve: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return curve.to_series(0).to_numpy(), curve.to_series(1).to_numpy()


def _greatest_rate(calibration: pl.DataFrame) -> float:
    return max(*calibration.select("mean_prediction", "observed_rate").max().row(0), 0.01)


def spoken(figure: str, unit: str = "") -> str:
    """A figure's name as a title says it, with its unit where it has one."""
    known = {"auc": "AUC", "brier": "Brier score"}
    name = known.get(figure, figure.replace("_", " ").capitalize())
    return f"{name} ({unit})" if unit else name
