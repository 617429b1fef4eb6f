"""How far the rows of a window are from a reference, one row of figures a column.

The method is pinned by the kind of column and equals Evidently's of that name: for numbers and
predictions the 1-Wasserstein distance over the reference's standard deviation (at least .001), for
categories the Jensen-Shannon distance with the natural logarithm. Missing values (null, NaN,
infinite) are left out of both and counted apart. Nothing here says when to retrain: seasons drift.

Both statistics need only counts a distinct value, so the reference is counted once, and a window
costs one count over the values that either side holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from mlops_assets.ml.metrics import inner_product
from mlops_assets.ml.periods import Periods

Kind: TypeAlias = Literal["numeric", "categorical", "prediction"]

STATISTIC: dict[str, str] = {
    "numeric": "wasserstein",
    "prediction": "wasserstein",
    "categorical": "jensenshannon",
}
_SMALLEST_SCALE = 0.001  # Evidently's floor under the standard deviation


@dataclass(frozen=True)
class Thresholds:
    """From which value on a column counts as drifted.

    Attributes:
        numeric: Wasserstein distance, in standard deviations of the reference.
        categorical: Jensen-Shannon distance, 0 to .83 (the root of ln 2).
        prediction: as numeric.
        missing: change of the missing share, either way, that is drift by itself.
    """

    numeric: float = 0.1
    categorical: float = 0.1
    prediction: float = 0.1
    missing: float = 0.25


DEFAULTS = Thresholds()


@dataclass(frozen=True)
class ColumnReference:
    """One column of the reference, counted.

    Attributes:
        column: its name.
        kind: which method judges it.
        values: distinct known values, sorted; Float64, or String for categories.
        counts: rows with each value, shape (values,).
        rows: rows of the reference, missing ones included.
        scale: standard deviation that a distance is divided by; 1 for categories.
    """

    column: str
    kind: Kind
    values: pl.Series
    counts: np.ndarray
    rows: int
    scale: float

    @classmethod
    def of(cls, series: pl.Series, kind: Kind) -> ColumnReference:
        """Count a column."""
        known = known_values(series, kind).drop_nulls()
        counted = known.value_counts(name="rows").sort("value")
        scale = 1.0
        if kind != "categorical" and len(known):
            scale = max(float(np.std(known.to_numpy())), _SMALLEST_SCALE)
        counts = counted["rows"].to_numpy().astype(np.int64)
        return cls(series.name, kind, counted["value"], counts, len(series), scale)


@dataclass(frozen=True)
class Reference:
    """What windows are compared with: each column, counted once.

    Attributes:
        columns: the counted columns: numeric, categorical, then the prediction.
    """

    columns: tuple[ColumnReference, ...]

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame,
        numeric: Sequence[str],
        categorical: Sequence[str],
        *,
        prediction: str | None = None,
        max_rows: int | None = None,
        seed: int = 0,
    ) -> Reference:
        """Count the reference.

        Args:
            frame: reference rows.
            numeric: columns of numbers.
            categorical: columns of categories (text, Enum, Boolean, integers).
            prediction: column of predicted probabilities, if it is to be watched.
            max_rows: sample as many rows where there are more; None takes all.
            seed: of the sample.

        Raises:
            ValueError: no rows, a column that is missing, or one named twice.
        """
        kinds: list[tuple[str, Kind]] = [(name, "numeric") for name in numeric]
        kinds += [(name, "categorical") for name in categorical]
        kinds += [(prediction, "prediction")] if prediction else []
        names = [name for name, _ in kinds]
        if len(set(names)) < len(names):
            raise ValueError(f"reference: a column is named twice in {sorted(names)}")
        require_columns(frame, names, "reference")
        if not names:
            raise ValueError("reference: no column is named, expected at least 1")
        if frame.is_empty():
            raise ValueError("reference: 0 rows, expected at least 1")
        if max_rows is not None and frame.height > max_rows:
            frame = frame.sample(max_rows, seed=seed)
        return cls(tuple(ColumnReference.of(frame[name], kind) for name, kind in kinds))


def drift_rows(
    reference: Reference, current: pl.DataFrame, thresholds: Thresholds = DEFAULTS
) -> pl.DataFrame:
    """Compare the current rows with the reference.

    Returns:
        One row a column: column, kind, statistic (the method), value, threshold, drifted,
        missing_reference and missing_current (shares), rows_reference, rows_current, note. The
        value is null where a side has no known value, and the note says which. `drifted` is true
        where the value reaches the threshold or the missing share changed by `missing`.

    Raises:
        ValueError: a column of the reference is missing from the rows.
    """
    require_columns(current, [column.column for column in reference.columns], "current rows")
    return _table(reference, current, [(0, current.height)], thresholds)


def daily_drift(
    reference: Reference,
    frame: pl.DataFrame,
    days: Sequence[date],
    window_days: int = 28,
    thresholds: Thresholds = DEFAULTS,
) -> pl.DataFrame:
    """`drift_rows` of the window that ends on each day.

    Args:
        reference: what the windows are compared with.
        frame: rows with their `date`; those of the first window's days must be in it.
        days: last day of each window, or last hour where `date` is a time.
        window_days: calendar days a window, its last included.
        thresholds: from which values on a column counts as drifted.

    Returns:
        The columns of `drift_rows` after date and window_start (first day of the window), by day.
        A window without rows has null values.

    Raises:
        ValueError: `window_days` below 1, a missing column, or a row without a date.
    """
    if window_days < 1:
        raise ValueError(f"window_days is {window_days}, expected at least 1")
    names = [column.column for column in reference.columns]
    require_columns(frame, ["date", *names], "frame")
    if frame["date"].null_count():
        raise ValueError(f"frame: {frame['date'].null_count()} rows have no date")
    ordered = frame.sort("date")
    period = ordered.schema["date"]
    every = Periods("day" if period == pl.Date else "hour")
    dates = ordered["date"].to_numpy()
    starts = [every.opens(day, window_days) for day in days]
    ends = pl.DataFrame(
        {"date": days, "window_start": starts}, schema={"date": period, "window_start": period}
    )
    first = np.searchsorted(dates, ends["window_start"].to_numpy(), side="left")
    end = np.searchsorted(dates, ends["date"].to_numpy(), side="right")
    windows = list(zip(first.tolist(), end.tolist(), strict=True))
    figures = _table(reference, ordered, windows, thresholds)
    labels = pl.concat([ends] * len(names))
    return labels.hstack(figures).sort("date", maintain_order=True)


_SCHEMA = pl.Schema(
    {
        "column": pl.String,
        "kind": pl.String,
        "statistic": pl.String,
        "value": pl.Float64,
        "threshold": pl.Float64,
        "drifted": pl.Boolean,
        "missing_reference": pl.Float64,
        "missing_current": pl.Float64,
        "rows_reference": pl.Int64,
        "rows_current": pl.Int64,
        "note": pl.String,
    }
)


def daily_schema(period: Any = pl.Date) -> pl.Schema:
    """What `daily_drift` gives, by the type of the periods."""
    return pl.Schema([("date", period), ("window_start", period), *_SCHEMA.items()])


_Window: TypeAlias = tuple[int, int]  # rows [first, end)


def _table(
    reference: Reference, frame: pl.DataFrame, windows: Sequence[_Window], thresholds: Thresholds
) -> pl.DataFrame:
    """The figures of each window of each column, column by column."""
    rows = [
        row
        for column in reference.columns
        for row in _column_rows(column, frame[column.column], windows, thresholds)
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _column_rows(
    column: ColumnReference,
    series: pl.Series,
    windows: Sequence[_Window],
    thresholds: Thresholds,
) -> Iterator[tuple[Any, ...]]:
    measure = _Measure(column, known_values(series, column.kind))
    limit: float = getattr(thresholds, column.kind)
    before = (column.rows - measure.known) / column.rows
    for first, end in windows:
        value, now = measure.window(first, end)
        went_missing = now is not None and abs(now - before) >= thresholds.missing
        drifted = went_missing or (value is not None and value >= limit)
        note = _note(column, before, now, went_missing)
        method = (column.column, column.kind, STATISTIC[column.kind])
        yield (*method, value, limit, drifted, before, now, column.rows, end - first, note)


class _Measure:
    """Distances of windows of one column from its reference, over the values either side holds."""

    def __init__(self, column: ColumnReference, series: pl.Series) -> None:
        both = pl.concat([column.values, series])
        self._support = both.drop_nulls().unique().sort()
        place = both.rank("dense").fill_null(0).to_numpy().astype(np.intp)  # from 1; 0 is missing
        self._place = place[len(column.values) :]
        counts = np.zeros(len(self._support))
        counts[place[: len(column.values)] - 1] = column.counts
        self.known = int(counts.sum())
        self._expected = counts / max(self.known, 1)
        self._categorical = column.kind == "categorical"
        if not self._categorical:
            self._expected = np.cumsum(self._expected)[:-1]
            self._gaps = np.diff(self._support.to_numpy()) / column.scale

    def window(self, first: int, end: int) -> tuple[float | None, float | None]:
        """Distance and missing share of the rows [first, end); None where undefined."""
        counts = np.bincount(self._place[first:end], minlength=len(self._support) + 1)
        rows, missing = end - first, int(counts[0])
        if not rows:
            return None, None
        if missing == rows or not self.known:
            return None, missing / rows
        if self._categorical:
            distance = _jensen_shannon(self._expected, counts[1:] / (rows - missing))
        else:
            observed = np.cumsum(counts[1:-1]) / (rows - missing)
            distance = float(inner_product(np.abs(observed - self._expected), self._gaps))
        return distance, missing / rows


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """As `scipy.spatial.distance.jensenshannon`, which rounds to NaN where p and q are equal."""
    from scipy.special import rel_entr

    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def known_values(series: pl.Series, kind: str) -> pl.Series:
    """Text, or Float64, with null for what is missing."""
    if kind == "categorical":
        return series.cast(pl.String).alias("value")
    number = series.cast(pl.Float64).alias("value")
    return number.to_frame().select(pl.when(pl.col("value").is_finite()).then("value")).to_series()


def _note(
    column: ColumnReference, before: float, now: float | None, went_missing: bool
) -> str | None:
    notes = []
    if before == 1:
        notes.append("the reference has no known value")
    elif len(column.values) == 1:
        notes.append("the reference is constant")
    if now is None:
        notes.append("no current rows")
    elif now == 1:
        notes.append("the current rows have no known value")
    if went_missing:
        notes.append(f"missing share went from {before:.0%} to {now:.0%}")
    return "; ".join(notes) or None


def require_columns(frame: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise ValueError, naming the frame and the columns, where some are missing."""
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"{name}: columns {missing} are missing; there are {frame.columns}")
