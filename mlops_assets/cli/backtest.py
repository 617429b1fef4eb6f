"""`mlops backtest`: a walk through a past period, and what came of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out, show
from mlops_assets.cli.flow import _day
from mlops_assets.components import backtest as walks
from mlops_assets.components.backtest import Step, Walk, Walked, WalkRefused
from mlops_assets.local import EnvironmentBusy, home, only_engine

PICTURE = "backtest.png"
NAMES = {
    "frozen": "champion of the beginning, frozen",
    "monthly": "retrained each month",
    "fresh": "each month, on all labels",
    "loop": "our loop",
}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(backtest)


def backtest(
    product: Annotated[str, typer.Argument(help="Name of the product, say flight_delays.")],
    first: Annotated[str, typer.Option("--from", help="First local day that is judged.")],
    last: Annotated[str, typer.Option("--to", help="Last local day that is judged.")],
    judge: Annotated[
        bool, typer.Option(help="Compare the loop's dates with others: some hundred fits.")
    ] = False,
    judge_days: Annotated[
        int, typer.Option(min=1, help="Days from one of those other dates to the next.")
    ] = 7,
    judge_seeds: Annotated[int, typer.Option(min=1, help="Fits of each of their models.")] = 3,
    folder: Annotated[
        Path | None, typer.Option("--home", help="Where the walk keeps all it has.")
    ] = None,
    look_days: Annotated[
        int, typer.Option(min=1, help="Let the sensors look after so many days at the latest.")
    ] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file, as JSON.")
    ] = None,
) -> None:
    """Walk the loop through a past period, beside no retraining and a monthly one.

    It goes on where it was killed; the lake and registry of your environment are not touched.

        mlops backtest flight_delays --from 2013-04-01 --to 2013-11-30
    """
    walk = Walk(product, _day(first), _day(last), look_days)
    if walk.last < walk.first + timedelta(days=1):
        raise typer.BadParameter(f"--to {walk.last} must lie at least a day after --from {first}")
    place = (folder or home() / "backtests" / f"{product}-{walk.first}").absolute()
    place.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        with only_engine(place, "backtest"):
            walked = walks.open_walk(walk, place)
            _say(walked, place)
            walks.go(walked, _Progress(walk))
            found = _shown(walked, place, (judge_days, judge_seeds) if judge else None)
    except (WalkRefused, EnvironmentBusy) as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from None
    found["seconds"] = round(time.perf_counter() - started, 1)
    out.print(f"\n{found['seconds']:.0f} s; the picture is {place / PICTURE}", soft_wrap=True)
    if json_file:
        json_file.write_text(json.dumps(found, indent=2, default=str) + "\n")


def _say(walked: Walked, place: Path) -> None:
    """What the walk declares otherwise than the product, openly."""
    err.print(f"A walk of {walked.product.name} in {escape(str(place))}", soft_wrap=True)
    for name, value in walked.changed.items():
        err.print(f"  declared for the walk: {name} = {escape(str(value))}", soft_wrap=True)
    judged = f"the first champion is judged on the days through {walked.opening}, which come first"
    err.print(f"  {judged}", soft_wrap=True)


class _Progress:
    """A line a step: the day, the champion, the open case, and when it will be over."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._began: tuple[float, date] | None = None
        self._champion: int | None = None

    def __call__(self, step: Step) -> None:
        now = time.perf_counter()
        if self._began is None:
            self._began = (now, step.day)
        then, first = self._began
        left = max((self._walk.last - step.day).days, 0)
        gone = (step.day - first).days
        eta = f"{(now - then) / gone * left / 60:.1f} min left" if gone else ""
        new = " [green]new[/]" if self._champion not in (None, step.champion) else ""
        self._champion = step.champion
        case = f"open: {step.open_case}" if step.open_case else ""
        err.print(f"{step.day}  champion v{step.champion}{new}  {case:<38} {eta}", soft_wrap=True)
        for error in step.errors:
            err.print(f"  [red]{escape(error)}[/]", soft_wrap=True)


def _shown(walked: Walked, place: Path, judge: tuple[int, int] | None) -> dict[str, Any]:
    from mlops_assets.components.backtest_models import Models
    from mlops_assets.components.backtest_report import FIGURES, GAINS, LOOP, Shown
    from mlops_assets.ml.backtest_picture import backtest_picture
    from mlops_assets.ml.pictures import spoken

    models = Models(walked, lambda line: err.print(f"  [dim]{line}[/]"))
    shown = Shown(walked, models)
    tables, cases = shown.write(), shown.cases()
    served = [model.since for model in shown.schedules[LOOP][1:]]
    title = f"{walked.product.name}, {walked.walk.first} to {walked.walk.last}"
    units = {figure: shown.target.units.get(figure, "") for figure in shown.target.compared}
    picture = backtest_picture(
        tables[FIGURES], cases, served, title=title, names=NAMES, shown=units
    )
    (place / PICTURE).write_bytes(picture)
    if shown.left_out:
        out.print(f"\n{shown.left_out:,} labelled rows have no prediction and are left out for all")
    for figure, unit in units.items():
        show(_beside(tables[FIGURES], figure), f"\n{spoken(figure, unit)}")
    show(_gains(tables[GAINS]), "\nGains, paired by days")
    show(_decided(cases, shown.target.unit), "\nCases, as decided")
    found: dict[str, Any] = {
        "figures": tables[FIGURES].to_dicts(),
        "gains": tables[GAINS].to_dicts(),
        "cases": cases.to_dicts(),
        "served": {p: [asdict(s) for s in found] for p, found in shown.schedules.items()},
        "declared": dict(walked.changed),
    }
    if judge:
        found["judge"] = {p: asdict(j) for p, j in shown.judge(*judge).items()}
        for period, j in found["judge"].items():
            out.print(
                f"Dates, {period}: {j['retrains']} retrains beat {_range(j['percentile'])} of"
                f" {j['schedules']:,} schedules on a grid of {judge[0]} days;"
                f" regret {_range(j['regret'])} {shown.target.unit}"
            )
    return found


def _beside(figures: pl.DataFrame, metric: str) -> pl.DataFrame:
    """A row a period, a column a policy."""
    return figures.pivot("policy", index=["period", "days"], values=metric)


def _gains(gains: pl.DataFrame) -> pl.DataFrame:
    rows = [
        {name: row[name] for name in ("period", "what", "metric")}
        | {"value": _range(row), "unit": row["unit"]}
        for row in gains.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _decided(cases: pl.DataFrame, unit: str) -> pl.DataFrame:
    said = f"probe gains ({unit})"
    probe = {"value": "probe_gain", "low": "probe_low", "high": "probe_high"}
    rows = [
        {
            "day": str(r["day"]),
            "fired": r["fired"].replace("_", " "),
            said: _range({k: r[v] for k, v in probe.items()}),
            "verdict": r["verdict"],
        }
        for r in cases.iter_rows(named=True)
    ]
    schema = ["day", "fired", said, "verdict"]
    return pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String))


def _range(interval: dict[str, Any]) -> str:
    if any(interval[name] is None for name in ("value", "low", "high")):
        return ""
    return "{value:.4f} [{low:.4f}, {high:.4f}]".format(**interval)
