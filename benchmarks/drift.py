"""Drift of a window from a reference, against Evidently's report and against scipy by column.

The same methods: Wasserstein distance over the reference's deviation, and Jensen-Shannon distance.
Evidently is asked for its figures alone; its page for people would come on top.
"""

from __future__ import annotations

import warnings
from datetime import date
from typing import Any

import polars as pl

from benchmarks.data import columns, lake
from benchmarks.measure import Case, Contender, Work

NUMERIC, CATEGORICAL = 22, 3


def cases(quick: bool) -> list[Case]:
    """One size."""
    rows = 20_000 if quick else 300_000
    contenders = (
        Contender("ours", "ours"), Contender("scipy", "bare_scipy"),
        Contender("Evidently", "evidently", 2),
    )  # fmt: skip
    arguments = {"rows": rows}
    rounds, repeats = (1, 1) if quick else (3, 2)
    return [Case("drift", f"{rows // 1000}k x 25", contenders, arguments, rounds, repeats)]


def prepare(quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What data.py makes."""
    return [("year", {"quick": quick})]


def ours(folder: str, rows: int) -> Work:
    """`daily_drift`, the reference counted anew."""
    from mlops_assets.ml.drift import Reference, daily_drift

    reference, current, numeric, categorical = _sides(folder, rows)
    last = date(2013, 12, 31)
    current = current.with_columns(pl.lit(last).alias("date"))

    def run() -> pl.DataFrame:
        known = Reference.of(reference, numeric, categorical)
        return daily_drift(known, current, [last], 28)

    return Work(run, lambda found: dict_in_order(found.select("column", "value").iter_rows()))


def bare_scipy(folder: str, rows: int) -> Work:
    """scipy on what is known of each column."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    reference, current, numeric, categorical = _sides(folder, rows)

    def run() -> dict[str, float]:
        found = {}
        for name in numeric:
            old, new = (
                f[name].drop_nulls().cast(pl.Float64).to_numpy() for f in (reference, current)
            )
            found[name] = float(wasserstein_distance(old, new) / max(old.std(), 0.001))
        for name in categorical:
            old, new = (f[name].drop_nulls().value_counts(name="n") for f in (reference, current))
            both = old.join(new, on=name, how="full", coalesce=True).fill_null(0)
            found[name] = float(jensenshannon(both["n"].to_numpy(), both["n_right"].to_numpy()))
        return found

    return Work(run, lambda found: dict_in_order(found.items()))


def evidently(folder: str, rows: int) -> Work:
    """Evidently's preset with the methods pinned, on pandas frames that are there already."""
    from mlops_assets.ml.drift import STATISTIC

    reference, current, numeric, categorical = _sides(folder, rows)
    old, new = (
        side.with_columns(pl.col(numeric).cast(pl.Float64)).to_pandas()
        for side in (reference, current)
    )

    def run() -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently import DataDefinition, Dataset, Report
            from evidently.presets import DataDriftPreset

            definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
            preset = DataDriftPreset(
                columns=[*numeric, *categorical],
                num_method=STATISTIC["numeric"],
                cat_method=STATISTIC["categorical"],
            )
            sides = [Dataset.from_pandas(f, data_definition=definition) for f in (new, old)]
            metrics = Report([preset]).run(*sides).dict()["metrics"]
        return {
            m["config"]["column"]: float(m["value"]) for m in metrics if "column" in m["config"]
        }

    return Work(run, lambda found: dict_in_order(found.items()))


def dict_in_order(pairs: Any) -> list[float]:
    """The values, by name of the column."""
    return [value for _, value in sorted(pairs)]


def _sides(folder: str, rows: int) -> tuple[pl.DataFrame, pl.DataFrame, list[str], list[str]]:
    """Rows of the year's first two thirds, and of the rest, drawn by a seed."""
    numbers, categories = columns(folder)
    view = lake(folder).scan("flight_delays/feature_view").collect()
    known = [c for c in numbers if view[c].drop_nulls().n_unique() > 1]
    numeric, categorical = known[:NUMERIC], categories[:CATEGORICAL]
    day = view["date"].rank("dense")
    first = view.filter(day <= day.max() * 2 // 3), view.filter(day > day.max() * 2 // 3)
    drawn = (
        side.select(*numeric, *categorical).sample(rows, with_replacement=True, seed=seed)
        for seed, side in enumerate(first)
    )
    reference, current = drawn
    return reference, current, numeric, categorical
