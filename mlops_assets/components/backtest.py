"""A walk through a past period: the assets, sensors and decisions of a product, day by day.

It begins with a champion that was trained on what was known before the first day, and lets the days
arrive in the engine that the daemon's conditions and sensors use, in an environment of its own. All
that it knows stands there: a walk that was killed goes on with the day that comes next. What the
product declares holds, but for the changes of `changes`, which the walk says openly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.core.defs_module import ComponentPath, find_defs_or_component_yaml

from mlops_assets.components.arrival import Source
from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.loop import follow
from mlops_assets.components.ml_product import scoring
from mlops_assets.components.ml_product.component import MLProduct
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.quiet import quiet_through
from mlops_assets.components.ml_product.retrain_case import carried_out, decisions, open_row
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets.local import prepare, repository
from mlops_assets.ml.periods import DAYS
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

FAMILY = "hist_gradient_boosting"
MOST_TOGETHER = 14
"""Most days that arrive as one: what a kill costs."""
_DAY = timedelta(days=1)
_OF_THE_USER = (
    "MLOPS_LAKE_URI", "MLOPS_ARTIFACT_URI", "MLOPS_NOTIFY", "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
)  # fmt: skip
"""Variables that name stores or addresses which a walk must not touch."""

_NO_COMPUTE_LOGS = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""What a step prints is kept by four processes a run, and nobody reads it of a walk."""


class WalkRefused(ValueError):
    """The walk cannot be made as asked; the message says what would be good."""


@dataclass(frozen=True)
class Walk:
    """What is walked.

    Attributes:
        product: its name.
        first: the first local day of its data.
        last: the last one.
        look_days: days after which the sensors look at the latest, where one might ask; 1 is what
            a daemon does.
    """

    product: str
    first: date
    last: date
    look_days: int = 1


@dataclass(frozen=True)
class Step:
    """Where a walk stands after a day."""

    day: date
    champion: int | None
    open_case: str
    runs: int
    errors: list[str]


@dataclass(frozen=True)
class Walked:
    """An environment in which a walk is made."""

    walk: Walk
    engine: Engine
    product: Product
    lakehouse: Lakehouse
    registry: ModelRegistry
    changed: Mapping[str, Any] = field(default_factory=dict)
    """What the walk declares otherwise than the product, by its name in defs.yaml."""

    @property
    def source(self) -> Source:
        """What the product's rows come from, day by day."""
        return self.engine.source_of(self.product.spine.table)

    @property
    def opening(self) -> date:
        """The day with which the first champion can be judged, as any candidate is."""
        training = self.product.training
        return training.first_cutoff + (training.holdout_days + self._labels_after) * _DAY

    @property
    def ends(self) -> date:
        """The day with which the labels of the last day are complete."""
        return self.walk.last + self._labels_after * _DAY

    @property
    def _labels_after(self) -> int:
        return self.product.label.known_after_days


def changes(declared: MLProduct, first: date) -> dict[str, Any]:
    """What a walk that begins on `first` declares otherwise: parts of the declaration by name.

    The champion of the beginning has seen what was labelled the day before. One family with its
    defaults stands for all, so that two models of a walk differ in their training days alone; and
    no page by Evidently a day, which nobody would read.
    """
    cutoff = first - (1 + declared.label.known_after_days) * _DAY
    training, search = declared.training, declared.training.search
    return {
        "training": training.model_copy(
            update={
                "first_cutoff": cutoff,
                "families": [FAMILY],
                "search": search.model_copy(update={"trials": 1, "folds": 1}),
            }
        ),
        "monitoring": declared.monitoring.model_copy(update={"report_days": 0}),
    }


CHANGES: Callable[[MLProduct, date], dict[str, Any]] = changes
"""What `open_walk` asks."""


def differences(declared: MLProduct, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that `changed` sets otherwise, dotted, to their values as text."""
    found: dict[str, Any] = {}
    for name, part in changed.items():
        then, now = getattr(declared, name).model_dump(), part.model_dump()
        found |= _differences(name, then, now)
    return found


def open_walk(walk: Walk, home: Path) -> Walked:
    """The definitions of the domain and of the one product, bound to a home of the walk's own.

    This process's environment variables are those of the walk from here on. It must be the only
    one at work in that home (`local.only_engine`): what another left undone is asked for again.

    Raises:
        WalkRefused: there is no such product, its rows do not come in days, or the home holds
            another walk.
    """
    for name in _OF_THE_USER:
        os.environ.pop(name, None)
    os.environ |= {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    tree = dg.ComponentTree.for_project(repository())
    pieces = {path.name: path for path in sorted(tree.defs_module_path.iterdir()) if path.is_dir()}
    products = {name: path for name, path in pieces.items() if find_defs_or_component_yaml(path)}
    if walk.product not in products:
        raise WalkRefused(f"no product {walk.product!r}; there are {', '.join(products)}")
    declared = tree.load_component(walk.product)
    assert isinstance(declared, MLProduct)
    if (every := declared.product(walk.product).partitions) != DAYS:
        raise WalkRefused(
            f"{walk.product} comes in {every}; a walk goes by days, as products with daily rows do"
        )
    changed = CHANGES(declared, walk.first)
    said = differences(declared, changed)
    prepare(_NO_COMPUTE_LOGS)
    _claim(home, walk, said)
    product = declared.model_copy(update=changed)
    path = ComponentPath.from_path(pieces[walk.product])
    definitions = dg.Definitions.merge(
        *(
            tree.build_defs_at_path(name)
            for name, folder in pieces.items()
            if name not in products and (folder / "__init__.py").exists()
        ),
        product.build_defs(tree.load_context.for_component_loc(path)),
    )
    resources: Any = definitions.resources
    instance = dg.DagsterInstance.get()
    end_abandoned(instance)
    return Walked(
        walk,
        Engine(definitions, instance, tags={"mlops/command": "backtest"}),
        product.product(walk.product),
        resources["lakehouse"].store,
        resources["registry"].store,
        said,
    )


def go(walked: Walked, tell: Callable[[Step], None]) -> None:
    """Walk from where it stands to the last day; `tell` hears of each day.

    Raises:
        WalkRefused: the source ends earlier, the first champion was refused, or a day does not
            come and nothing says that it is a bad one.
    """
    engine, source = walked.engine, walked.source
    if walked.ends > source.days[-1]:
        raise WalkRefused(
            f"the source ends with {source.days[-1]}, and the labels of {walked.walk.last} are"
            f" complete on {walked.ends} only; let the walk end earlier"
        )
    report = engine.settle()
    there = source.days_there()
    opening = [day for day in source.days if day <= walked.opening and day not in there]
    if opening:
        engine.arrive(opening, report, source)
        engine.settle(report)
    if walked.registry.champion(walked.product.name) is None:
        raise WalkRefused(_no_champion(walked, report))
    _require_progress(walked, opening, report)
    follow(engine, report)
    tell(_step(walked, max(source.days_there()), report))
    while coming := _together(walked, max(source.days_there())):
        report = Report()
        engine.arrive(coming, report, source)
        engine.settle(report)
        _require_progress(walked, coming, report)
        if coming[-1] <= walked.walk.last:
            follow(engine, report)
        tell(_step(walked, coming[-1], report))


def _together(walked: Walked, today: date) -> list[date]:
    """The next day, and those after it that no sensor would have looked at alone; none after
    the last.
    """
    done = carried_out(walked.engine.instance, walked.product)
    quiet = quiet_through(walked.lakehouse, walked.registry, walked.product, today, done)
    try:
        following = walked.source.next_days(MOST_TOGETHER)
    except LookupError:
        return []
    # The first day after the quiet ones is looked at, and so may come with them.
    last = max(quiet, today + (walked.walk.look_days - 1) * _DAY) + _DAY
    last = min(max(last, following[0]), walked.ends)
    if following[0] <= walked.walk.last < last:
        last = walked.walk.last
    return [day for day in following if day <= last]


def _require_progress(walked: Walked, coming: list[date], report: Report) -> None:
    """Raise where a day neither came nor was refused, or came and was not scored.

    Also where somebody asked the walk to end: the engine takes that for a run that failed.
    """
    if any("DagsterExecutionInterruptedError" in error for error in report.errors):
        raise KeyboardInterrupt
    if not coming:
        return
    newest = max(walked.source.days_there())
    if newest < coming[0] and walked.source.next_days(1)[0] == coming[0]:
        raise WalkRefused(f"{coming[0]} does not come: {'; '.join(report.errors)}")
    there = walked.source.days_there()
    scored = walked.engine.instance.get_materialized_partitions(walked.product.key(scoring.NAME))
    for day in coming:
        if day in there and walked.product.training.first_cutoff < day and str(day) not in scored:
            raise WalkRefused(f"{day} has no predictions: {'; '.join(report.errors)}")


def _claim(home: Path, walk: Walk, said: Mapping[str, Any]) -> None:
    """Note what a home is of, so that another walk does not go on in it."""
    note = home / "backtest.json"
    own = {"product": walk.product, "from": str(walk.first), "changes": said}
    if note.exists():
        there = json.loads(note.read_text())
        if there != own:
            raise WalkRefused(
                f"{home} holds a walk of {there['product']} from {there['from']} with"
                f" {there['changes']}; give another --home, or delete that folder"
            )
        return
    if any((home / name).exists() for name in ("lake", "mlflow.db")):
        raise WalkRefused(f"{home} holds an environment that is no walk; give another --home")
    unfinished = note.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(own, indent=2) + "\n")
    unfinished.replace(note)


def _step(walked: Walked, day: date, report: Report) -> Step:
    champion = walked.registry.champion(walked.product.name)
    version = champion.version if champion else None
    rows = decisions(walked.lakehouse, walked.product)
    done = carried_out(walked.engine.instance, walked.product)
    case = open_row(rows, version or 0, done)
    return Step(day, version, case["case_id"] if case else "", len(report.runs), report.errors)


def _no_champion(walked: Walked, report: Report) -> str:
    why = "; ".join(report.errors) or "a gate refused it; see gate_results in the walk's lake"
    return f"there is no champion of {walked.product.training.first_cutoff} to begin with: {why}"


def _differences(name: str, then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in now.items():
        if isinstance(value, dict):
            found |= _differences(f"{name}.{key}", then[key], value)
        elif value != then[key]:
            found[f"{name}.{key}"] = str(value) if isinstance(value, date) else value
    return found
