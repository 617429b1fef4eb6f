"""The families of departure_demand against its baselines, walking forward month by month.

    python -m benchmarks.departure_demand [--seeds 3] [--groups] [--json FILE]

Reads the source's files and the product's declaration, and no lake. For each test month a model is
fitted on all days up to the month before that; the month between decides when to stop. Parameters
are the families' defaults and what defs.yaml says: no test month has a part in any of them.
Intervals are of resampled days, 95 %; a gain is a share of the rival's loss.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from mlops_assets.components.tables import function_of, table_of
from mlops_assets.components.tables.examine import examine
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.defs import departure_demand
from mlops_assets.defs.departure_demand import problem
from mlops_assets.defs.nyc_flights import departures, features, raw
from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.point_in_time import join_all
from mlops_assets.ml.targets import Regression

FIRST, LAST = date(2013, 1, 1), date(2013, 11, 30)
MONTHS = (8, 9, 10, 11)
DECLARED = yaml.safe_load((Path(departure_demand.__file__).parent / "defs.yaml").read_text())
METRICS = ("poisson_deviance", "absolute_error")
KEYS = ["date", "origin", "departure_hour"]


def feature_view() -> tuple[pl.DataFrame, FeatureColumns]:
    """Every hour with its label and what was known of it six hours before."""
    said = DECLARED["attributes"]["features"]
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    frames = {
        asset.key.path[-1]: examine(
            function_of(asset)(FIRST, LAST), table_of(asset), days
        ).good.lazy()
        for asset in (raw.flight_schedule, raw.flight_events, raw.weather)
    }
    events, planned = frames["flight_events"], frames["flight_schedule"]
    tables = {
        "nyc_flights/weather_known": function_of(features.weather_known)(frames["weather"]),
        "nyc_flights/origin_delays": function_of(features.origin_delays)(events),
        "nyc_flights/departure_counts": function_of(departures.departure_counts)(planned, events),
        "nyc_flights/same_hour_last_week": function_of(departures.same_hour_last_week)(events),
    }
    reads = [(tables[name], DEFINITIONS[name]) for name in said["tables"]]
    spine = problem.spine(function_of(features.scheduled_congestion)(planned)).collect()
    looked_up = [f for _, definition in reads for f in definition.features]
    columns = FeatureColumns((*said["numeric"], *looked_up), tuple(said["categorical"]))
    label = problem.label(events).collect()
    view = join_all(spine, reads).join(label, on=KEYS, how="inner")
    # A label of the last two days would not be known yet.
    return view.filter(pl.col("date") <= LAST - timedelta(days=2)).sort(KEYS), columns


@dataclass
class Walk:
    """What one model said of the test months, and how long its fits took."""

    scores: np.ndarray
    seconds: float


def walk(
    name: str, params: dict[str, Any], view: pl.DataFrame, columns: FeatureColumns, seed: int
) -> Walk:
    """Fit before each test month and predict it."""
    target, month = Regression("poisson_deviance"), view["date"].dt.month().to_numpy()
    label, parts, seconds = view["label"].to_numpy(), [], 0.0
    for tested in MONTHS:
        train, valid = month < tested - 1, month == tested - 1
        started = time.monotonic()
        model = family(name).fit(
            Labelled(view.filter(train), label[train], target),
            Labelled(view.filter(valid), label[valid], target),
            columns,
            params,
            FitOptions(seed=seed, threads=1, device="auto"),
        )
        seconds += time.monotonic() - started
        parts.append(model.predict(view.filter(month == tested)))
    return Walk(np.concatenate(parts), seconds / len(MONTHS))


def main() -> None:
    """Walk each family, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.departure_demand", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="of the families that draw")
    parser.add_argument(
        "--groups", action="store_true", help="also what each feature table adds, with XGBoost"
    )
    parser.add_argument("--json", type=Path, help="write every figure here")
    asked = parser.parse_args()
    training = DECLARED["attributes"]["training"]
    view, columns = feature_view()
    rivals = training["baseline"]
    walks = {}
    for name in (*rivals, *training["families"]):
        draws = asked.seeds if name in ("xgboost", "recent_sequence") else 1
        params = training["params"].get(name, {})
        walks[name] = [walk(name, params, view, columns, seed) for seed in range(7, 7 + draws)]
        print(f"{name}: {draws} x {len(MONTHS)} fits", flush=True)
    tested = view.filter(pl.col("date").dt.month().is_in(MONTHS))
    days, mean = tested["date"].n_unique(), tested["label"].mean()
    print(f"{tested.height} hours of {days} days, {mean:.3f} late departures in the mean")
    found = figures(tested, walks, rivals)
    if asked.groups:
        found["groups"] = groups(view, columns, tested)
    for table in found.values():
        with pl.Config(
            tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=160
        ):
            print(table)
    if asked.json:
        asked.json.write_text(json.dumps({k: t.to_dicts() for k, t in found.items()}, indent=1))


def figures(
    tested: pl.DataFrame, walks: dict[str, list[Walk]], rivals: list[str]
) -> dict[str, pl.DataFrame]:
    """Tables: each model with intervals, by month, and paired with the best baseline and others."""
    label, day = tested["label"].to_numpy(), tested["date"].to_numpy()
    poisson = Regression("poisson_deviance")
    # A gain is over the baseline that is the better one here, which flatters no model.
    best = min(rivals, key=lambda name: poisson.loss(label, walks[name][0].scores))
    whole, months, gains = [], [], []
    for name, made in walks.items():
        intervals = poisson.intervals(label, made[0].scores, day)
        losses = [poisson.loss(label, each.scores) for each in made]
        whole.append(
            {"family": name, "fit s": round(made[0].seconds, 1)}
            | {metric: said(intervals[metric]) for metric in METRICS}
            | {"deviance of each seed": ", ".join(f"{loss:.3f}" for loss in losses)}
        )
        by_month = {
            str(m): poisson.loss(label[(at := tested["date"].dt.month() == m).to_numpy()],
                                 made[0].scores[at.to_numpy()])
            for m in MONTHS
        }  # fmt: skip
        months.append({"family": name} | {m: round(loss, 3) for m, loss in by_month.items()})
    pairs = [(name, best) for name in walks if name not in rivals]
    pairs += [("recent_sequence", "xgboost"), ("poisson_regression", "xgboost")]
    for new, old in pairs:
        gains.append(
            {"model": new, "against": old}
            | {
                metric: said(
                    Regression(metric).gain(label, walks[new][0].scores, walks[old][0].scores, day)
                )
                for metric in METRICS
            }
        )
    return {n: pl.DataFrame(t) for n, t in {"all": whole, "months": months, "gains": gains}.items()}


def groups(view: pl.DataFrame, columns: FeatureColumns, tested: pl.DataFrame) -> pl.DataFrame:
    """XGBoost on the schedule alone, then with one feature table more at a time."""
    label, day = tested["label"].to_numpy(), tested["date"].to_numpy()
    read, rows = [*DECLARED["attributes"]["features"]["numeric"]], []
    for table in ("the schedule", *DECLARED["attributes"]["features"]["tables"]):
        read += DEFINITIONS[table].features if table in DEFINITIONS else []
        some = FeatureColumns(tuple(read), columns.categorical)
        scores = walk("xgboost", {}, view, some, 7).scores
        found = Regression("poisson_deviance").intervals(label, scores, day)
        rows.append({"with": table} | {metric: said(found[metric]) for metric in METRICS})
    return pl.DataFrame(rows)


def said(interval: Any) -> str:
    """A figure with its interval."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    main()
