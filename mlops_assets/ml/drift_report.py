"""Evidently's own page on a window, for people: methods and thresholds pinned as in drift.py."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import polars as pl

from mlops_assets.ml.drift import DEFAULTS, STATISTIC, Thresholds, known_values, require_columns


def evidently_report(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    *,
    thresholds: Thresholds = DEFAULTS,
    max_rows: int = 5_000,
    seed: int = 0,
) -> tuple[str, dict[str, Any]]:
    """Evidently's drift report on a sample, with methods and thresholds pinned as here.

    A column without a known value on either side is left out: it would end Evidently's run.

    Args:
        reference: reference rows.
        current: rows to compare.
        numeric: columns of numbers, predictions included.
        categorical: columns of categories.
        thresholds: from which values on a column counts as drifted.
        max_rows: rows sampled from each side; the page is some 5 MB whatever the rows.
        seed: of the sample.

    Returns:
        The page as HTML, and the run as a dictionary (`metrics` holds a row a column).

    Raises:
        ValueError: a missing column, or no column with known values on both sides.
    """
    kinds = dict.fromkeys(numeric, "numeric") | dict.fromkeys(categorical, "categorical")
    sides = []
    for name, frame in {"reference": reference, "current rows": current}.items():
        require_columns(frame, list(kinds), name)
        sample = frame.sample(max_rows, seed=seed) if frame.height > max_rows else frame
        sides.append(
            sample.select(
                known_values(sample[column], kinds[column]).alias(column) for column in kinds
            )
        )
    judged = [c for c in kinds if all(side[c].null_count() < side.height for side in sides)]
    if not judged:
        raise ValueError(f"none of {list(kinds)} has known values in both frames")
    # Evidently 0.7.23 leans on deprecated names of numpy and litestar.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import DriftedColumnsCount, ValueDrift

        definition = DataDefinition(
            numerical_columns=[column for column in judged if kinds[column] == "numeric"],
            categorical_columns=[column for column in judged if kinds[column] == "categorical"],
        )
        # The metrics of Evidently's preset for drift, which draws each column four times.
        count = DriftedColumnsCount(
            columns=judged,
            num_method=STATISTIC["numeric"],
            num_threshold=thresholds.numeric,
            cat_method=STATISTIC["categorical"],
            cat_threshold=thresholds.categorical,
        )
        each = [
            ValueDrift(
                column=c, method=STATISTIC[kinds[c]], threshold=getattr(thresholds, kinds[c])
            )
            for c in judged
        ]
        old, new = (
            Dataset.from_pandas(side.select(judged).to_pandas(), data_definition=definition)
            for side in sides
        )
        run = Report([count, *each]).run(current_data=new, reference_data=old)
        return run.get_html_str(as_iframe=False), run.dict()
