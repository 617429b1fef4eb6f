"""From columns of a frame to arrays of numbers, by what the training rows held and nothing else.

What did not vary in training has no say: a numeric column without values or with one value, and a
missing flag that was always the same, are zero in every later row. JSON is the stored form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlops_assets.ml.families.base import FeatureColumns, FeatureError, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MISSING_CODE = -1

# Tree libraries and torch compute in single precision, where more than this is infinite.
_LARGEST = float(np.finfo(np.float32).max)
# A wild reading (a wind of 1048 mph) may not carry a row alone.
_MOST_DEVIATIONS = 10.0
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Encoder:
    """How a frame is read.

    Attributes:
        columns: what is read, in order.
        levels: the known levels of each categorical column, sorted; a level's code is its index.
        means: of the present values, for each numeric column; 0 where there was none.
        deviations: standard deviations likewise; 0 for a column that did not vary.
        empty: numeric columns without a single value in training.
        flagged: numeric columns with both missing and present values in training.
    """

    columns: FeatureColumns
    levels: Mapping[str, tuple[str, ...]]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    empty: frozenset[str]
    flagged: tuple[str, ...]

    @classmethod
    def fit(
        cls, frame: pl.DataFrame, columns: FeatureColumns, most_levels: int | None = None
    ) -> Encoder:
        """Learn levels, means and deviations from the training rows.

        Args:
            frame: the training rows.
            columns: what to read.
            most_levels: levels to keep of a categorical column, the most frequent ones; the rest
                count as missing. None keeps all.

        Raises:
            FeatureError: see `numbers` and `codes`.
        """
        _check_present(frame, columns)
        values = np.empty((frame.height, len(columns.numeric)), order="F")
        _write_numbers(frame, columns.numeric, values)
        present = ~np.isnan(values)
        count = present.sum(axis=0)
        known = np.where(present, values, 0.0)
        means = known.sum(axis=0) / np.maximum(count, 1)
        squares = np.where(present, np.square(values - means), 0.0).sum(axis=0)
        deviations = np.sqrt(squares / np.maximum(count, 1))
        deviations[deviations <= _ROUNDING * np.abs(means)] = 0.0
        names = columns.numeric
        return cls(
            columns=columns,
            levels={name: _levels(_text(frame, name), most_levels) for name in columns.categorical},
            means=dict(zip(names, means.tolist(), strict=True)),
            deviations=dict(zip(names, deviations.tolist(), strict=True)),
            empty=frozenset(n for n, c in zip(names, count, strict=True) if c == 0),
            flagged=tuple(n for n, c in zip(names, count, strict=True) if 0 < c < frame.height),
        )

    def numbers(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """The numeric columns as they are, NaN for missing: float64, shape (rows, numeric).

        Raises:
            FeatureError: a column that is not there, not numeric, or infinite.
        """
        values = np.empty((frame.height, len(self.columns.numeric)), order="F")
        self._write_numbers(frame, values)
        return values

    def codes(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """Codes of the categorical columns, -1 for null and for levels not known: int32,
        shape (rows, categorical).

        Raises:
            FeatureError: a column that is not there, or of a type without levels.
        """
        if isinstance(frame, Rows):
            return self._codes_of_rows(frame)
        _check_present(frame, self.columns)
        codes = np.empty((frame.height, len(self.columns.categorical)), dtype=np.int32, order="F")
        for index, name in enumerate(self.columns.categorical):
            text = _text(frame, name)
            known = text.cast(self._enums[name], strict=False).to_physical().cast(pl.Int32)
            codes[:, index] = known.fill_null(MISSING_CODE).to_numpy()
        return codes

    def matrix(
        self, frame: pl.DataFrame | Rows, dtype: type[np.floating] = np.float64
    ) -> np.ndarray:
        """Numbers and codes side by side, NaN for missing in both: `dtype`,
        shape (rows, numeric + categorical). This is what the tree libraries read.
        """
        codes = self.codes(frame)
        numbers = len(self.columns.numeric)
        matrix = np.empty((frame.height, len(self.columns.names)), dtype=dtype, order="F")
        self._write_numbers(frame, matrix[:, :numbers])
        matrix[:, numbers:] = codes
        matrix[:, numbers:][codes == MISSING_CODE] = np.nan
        return matrix

    def standardised(self, frame: pl.DataFrame | Rows) -> np.ndarray:
        """Standardised numbers, zero where missing, then the missing flags: float64,
        shape (rows, numeric + flagged). Values lie within 10 standard deviations.
        """
        values = self.numbers(frame)
        missing = np.isnan(values)
        names = self.columns.numeric
        deviations = np.array([self.deviations[name] for name in names])
        means = np.array([self.means[name] for name in names])
        scale = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)
        scaled = np.where(missing, 0.0, (values - means) * scale)
        flags = missing[:, [names.index(name) for name in self.flagged]].astype(np.float64)
        return np.hstack([np.clip(scaled, -_MOST_DEVIATIONS, _MOST_DEVIATIONS), flags])

    def design(self, frame: pl.DataFrame | Rows) -> csr_array:
        """What a linear model reads: `standardised`, then one column a level; sparse, shape
        (rows, numeric + flagged + levels + categorical).

        The first column of each categorical feature stands for null and unseen levels.
        """
        from scipy.sparse import csr_array, hstack

        widths = np.array(self.level_counts, dtype=np.int64) + 1
        starts = np.concatenate([[0], np.cumsum(widths)])
        places = self.codes(frame) + 1 + starts[:-1]
        ends = np.arange(frame.height + 1) * len(widths)
        one_hot = csr_array(
            (np.ones(places.size), places.ravel(), ends), shape=(frame.height, int(starts[-1]))
        )
        return hstack([csr_array(self.standardised(frame)), one_hot], format="csr")

    @property
    def level_counts(self) -> tuple[int, ...]:
        """Number of known levels of each categorical column."""
        return tuple(len(self.levels[name]) for name in self.columns.categorical)

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain JSON values."""
        return {
            "numeric": list(self.columns.numeric),
            "categorical": list(self.columns.categorical),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "means": dict(self.means),
            "deviations": dict(self.deviations),
            "empty": sorted(self.empty),
            "flagged": list(self.flagged),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Encoder:
        """The encoder that `to_json` wrote."""
        return cls(
            columns=FeatureColumns(tuple(stored["numeric"]), tuple(stored["categorical"])),
            levels={name: tuple(levels) for name, levels in stored["levels"].items()},
            means=stored["means"],
            deviations=stored["deviations"],
            empty=frozenset(stored["empty"]),
            flagged=tuple(stored["flagged"]),
        )

    def _write_numbers(self, frame: pl.DataFrame | Rows, out: np.ndarray) -> None:
        if isinstance(frame, Rows):
            out[:] = self._numbers_of_rows(frame)
        else:
            _check_present(frame, self.columns)
            _write_numbers(frame, self.columns.numeric, out)
        out[:, self._is_empty] = 0.0

    def _numbers_of_rows(self, rows: Rows) -> np.ndarray:
        names = self.columns.numeric
        try:
            values = np.array([[row[name] for name in names] for row in rows.rows], dtype=float)
        except KeyError as error:
            raise FeatureError(f"missing feature: {error}; expected {', '.join(names)}") from None
        if (np.abs(values) > _LARGEST).any():
            for index, name in enumerate(names):
                _check_finite(pl.Series(name, values[:, index]))
        return values

    def _codes_of_rows(self, rows: Rows) -> np.ndarray:
        codes = [
            [known.get(_level(row[name]), MISSING_CODE) for name, known in self._codes.items()]
            for row in rows.rows
        ]
        return np.array(codes, dtype=np.int32).reshape(rows.height, len(self._codes))

    @cached_property
    def _is_empty(self) -> list[bool]:
        return [name in self.empty for name in self.columns.numeric]

    @cached_property
    def _codes(self) -> dict[str, dict[str | None, int]]:
        return {
            name: {level: code for code, level in enumerate(self.levels[name])}
            for name in self.columns.categorical
        }

    @cached_property
    def _enums(self) -> dict[str, pl.Enum]:
        return {name: pl.Enum(levels) for name, levels in self.levels.items()}


def _write_numbers(frame: pl.DataFrame, names: Sequence[str], out: np.ndarray) -> None:
    """Column by column into `out`, shape (rows, names), so that a large frame is copied once."""
    for index, name in enumerate(names):
        number = _number(frame.get_column(name))
        _check_finite(number)
        out[:, index] = number.fill_null(math.nan).to_numpy()


def _number(column: pl.Series) -> pl.Series:
    numeric = column.dtype.is_numeric() or column.dtype == pl.Boolean
    if not numeric and column.null_count() < column.len():
        raise FeatureError(f"numeric feature {column.name!r} is of type {column.dtype}")
    return column.cast(pl.Float64)


def _check_finite(number: pl.Series) -> None:
    """Raise FeatureError where a value is infinite in single precision."""
    least, most = number.min(), number.max()  # of what is known: both pass null and NaN by
    if least is None or (least >= -_LARGEST and most <= _LARGEST):  # type: ignore[operator]
        return
    beyond = (number.abs() > _LARGEST) & number.is_not_nan()
    beyond = beyond.fill_null(False)
    first = int(beyond.to_numpy().argmax())
    if beyond.any():
        raise FeatureError(
            f"numeric feature {number.name!r} is infinite in {beyond.sum()} of {len(number)} rows,"
            f" first in row {first} ({number[first]}); make it null where it is not known"
        )


def _level(value: Any) -> str | None:
    """A value as polars casts it to text: 3, true, 2013-03-08."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(frame: pl.DataFrame, name: str) -> pl.Series:
    column = frame.get_column(name)
    if column.null_count() == frame.height:
        return pl.Series(name, [None] * frame.height, dtype=pl.String)
    if column.dtype.is_float() or column.dtype.is_nested():
        raise FeatureError(
            f"categorical feature {name!r} is of type {column.dtype}; cast it to integer or text"
        )
    return column.cast(pl.String)


def _check_present(frame: pl.DataFrame, columns: FeatureColumns) -> None:
    held = set(frame.columns)
    if missing := [name for name in columns.names if name not in held]:
        raise FeatureError(
            f"missing feature columns: {', '.join(missing)}; expected {', '.join(columns.names)}"
        )


def _levels(text: pl.Series, most: int | None) -> tuple[str, ...]:
    counted = text.drop_nulls().rename("level").value_counts(name="rows")
    ranked = counted.sort(["rows", "level"], descending=[True, False]).get_column("level")
    return tuple(sorted(ranked.head(most).to_list() if most is not None else ranked.to_list()))
