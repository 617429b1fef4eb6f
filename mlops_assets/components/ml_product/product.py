"""A product: its declaration resolved to names, columns and functions, as the stages use it.

No computation. What can be wrong with a declaration is found in problems.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import dagster as dg
import dataframely as dy
import polars as pl

from mlops_assets.components.code_version import code_version
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.problem import (
    Problem,
    Unresolved,
    clock_of,
    declared,
    imported,
    more_of,
    request_of,
)
from mlops_assets.components.periods import Calendar, beginning, declare, periods_of
from mlops_assets.components.recorded import recorded
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.table_asset import LICENCES, TABLES, table_periods
from mlops_assets.ml.declared_spine import Clock
from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.periods import DAYS, Periods, day_of, named
from mlops_assets.ml.point_in_time import Definition, days_back
from mlops_assets.ml.targets import Margins, Target, target_of

PRODUCTS: dict[str, Product] = {}
"""The products of the code location that this process has loaded, by name."""


@cache
def _version(code: tuple[Any, ...], declared: tuple[str, ...]) -> str:
    """Code stays as it is while a process lives, and to follow all of it takes a while."""
    return code_version(*code, settings=list(declared))


_BASELINES = {"regression": ("linear_regression",)}
"""Baselines of a task where none is declared; logistic_regression of the others."""


def _is_code(setting: Any) -> bool:
    """A target too: what it computes is said by its class."""
    return callable(setting) or isinstance(setting, Target)


def _or(declared: float | None, usual: float) -> float:
    return usual if declared is None else declared


@dataclass(frozen=True)
class Product:
    """What the stages know of a product."""

    name: str
    description: str
    owners: tuple[str, ...]
    problem: str
    spine: d.Spine
    label: d.Label
    features: d.Features
    training: d.Training
    gates: d.Gates
    promotion: d.Promotion
    monitoring: d.Monitoring
    task: str = "binary"
    evaluation: d.Evaluation = field(default_factory=d.Evaluation)
    compliance: d.Compliance = field(default_factory=d.Compliance)
    serving: d.Serving = field(default_factory=d.Serving)
    retraining: d.Retraining = field(default_factory=d.Retraining)
    card: d.Card = field(default_factory=d.Card)

    def table(self, name: str) -> str:
        """Name of one of the product's own tables."""
        return f"{self.name}/{name}"

    def key(self, name: str) -> dg.AssetKey:
        """Asset key of one of the product's own assets."""
        return dg.AssetKey([self.name, *name.split("/")])

    @cached_property
    def module(self) -> Problem:
        """The problem: its days, `spine(...)` and `label(...)`, pure polars.

        Raises:
            Unresolved: it cannot be imported, or lacks one of these; or, without a module, the
                spine's table is not there or has no days.
        """
        if self.problem:
            return imported(self.problem)
        return declared(self.spine, self.label, self.lead, self.serving.on_demand)

    @property
    def clock(self) -> Clock:
        """How the day and the prediction time of a row follow, where no module says it."""
        return clock_of(self.spine, self.lead)

    def labels(self, events: pl.LazyFrame) -> pl.LazyFrame:
        """The entity keys and the `label` of rows of the label's table, one row a key."""
        known = self.module.label(events).select(*self.spine.entity_keys, "label")
        return known.with_columns(self.target.column(pl.col("label")))

    @property
    def target(self) -> Target:
        """What is predicted; the classes are those of a training set (`Target.of`)."""
        return target_of(self.task, self.training.metric)

    @property
    def margins(self) -> Margins:
        """What "as good as" means: as declared, else as usual for the task."""
        usual = self.target.margins
        return Margins(
            champion=_or(self.gates.champion_margin, usual.champion),
            probe=_or(self.retraining.probe_margin, usual.probe),
            rollback=_or(self.retraining.rollback_margin, usual.rollback),
        )

    @property
    def baselines(self) -> tuple[str, ...]:
        """The families that a candidate must beat, at least one."""
        declared = self.training.baseline
        named = (declared,) if isinstance(declared, str) else tuple(declared)
        return named or _BASELINES.get(self.task, ("logistic_regression",))

    @property
    def fits(self) -> tuple[str, ...]:
        """All families that are fitted, the baselines last."""
        return (*self.training.families, *self.baselines)

    @property
    def segments(self) -> tuple[str, ...]:
        """Columns by which an evaluation is split."""
        declared = self.evaluation.segments
        return self.columns.categorical if declared is None else tuple(declared)

    @property
    def licences(self) -> dict[str, str]:
        """Raw table to the licence of its data, as the table states it or the declaration."""
        return LICENCES | self.card.licences

    @cached_property
    def request(self) -> dict[str, d.RequestField]:
        """What a caller of the endpoint gives: as declared, else what a row is known by, and as
        it likes the columns that the model reads, which are looked up where they are not given."""
        if self.serving.request or self.problem:
            return self.serving.request
        contract = self.spine_contract
        if contract is None:
            raise Unresolved(f"{self.spine.table}: its columns are not declared")
        own = [*self.features.numeric, *self.features.categorical]
        tables = (t for t in self.features.tables if t in DEFINITIONS)
        more = more_of(self.serving.on_demand)
        derived = [name for each in more() for name in each.meta.root_names()]
        keys = [key for table in tables for key in DEFINITIONS[table].keys]
        read = [*own, *keys, *derived]
        return request_of(contract, self.spine, read, self.training.first_cutoff)

    @property
    def spine_contract(self) -> type[dy.Schema] | None:
        """What a row of the spine's table must be; None where that is not declared."""
        declared = TABLES.get(self.spine.table)
        return declared.contract if declared else None

    @property
    def days(self) -> Calendar:
        """The local days of the spine, or its hours, weeks or months."""
        return self.module.days

    @property
    def partitions(self) -> Periods:
        """What a partition of the spine, and of all that follows day by day, holds."""
        return periods_of(self.days)

    @property
    def periods(self) -> Periods:
        """What is cut off, held out, decided on and drawn as a block: partitions, of hours days."""
        return DAYS if self.partitions.every == "hour" else self.partitions

    def today(self, newest: str) -> date:
        """The newest period that is there as a whole, by the name of the newest partition."""
        if self.partitions.every != "hour":
            return named(newest)
        return day_of(self.partitions.step(named(newest))) - timedelta(days=1)

    @cached_property
    def scored_days(self) -> Calendar:
        """The days that can have predictions: those after the first training cut-off."""
        first = self.periods.step(self.training.first_cutoff)
        return beginning(self.days, self.partitions.of(first))

    @property
    def lead(self) -> timedelta:
        """Time between the prediction and the row's own time."""
        return timedelta(hours=self.spine.lead_hours)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Feature table to what is looked up in it."""
        self.import_features()
        return {t: DEFINITIONS[t] for t in self.features.tables}

    def import_features(self) -> None:
        """Import the modules that declare the feature tables, so that they are known."""
        if self.features.declared_in:
            import_module(self.features.declared_in)
        for table in self.features.tables:
            if table not in DEFINITIONS and not self.features.declared_in:
                import_module(f"mlops_assets.defs.{table.split('/')[0]}.features")

    def days_back(self, table: str) -> int:
        """Days before the first of a row's own period that a table's look-up can reach."""
        back = days_back(DEFINITIONS[table], self.lead)
        if back is None:
            raise Unresolved(f"{table!r} has no time to live; give its definition a ttl")
        return back

    def first_read(self, table: str, period: date) -> date:
        """The first partition of a feature table that the rows of a period look up in."""
        return table_periods(table).of(period - timedelta(days=self.days_back(table)))

    @cached_property
    def columns(self) -> FeatureColumns:
        """What the model reads, in order."""
        looked_up = [f for x in self.definitions.values() for f in x.features]
        return FeatureColumns(
            numeric=(*self.features.numeric, *looked_up),
            categorical=tuple(self.features.categorical),
        )

    def code_version(self, function: Any, *settings: Any) -> str:
        """Version of a stage: its function, and the parts of the declaration that it reads."""
        code = [s for s in settings if _is_code(s)]
        return _version((function, *code), tuple(repr(s) for s in settings if not _is_code(s)))

    def asset(
        self,
        name: str,
        version: str,
        *,
        days: Calendar | None = None,
        kinds: Iterable[str] = ("polars", "deltalake"),
        compute: str = "",
        **options: Any,
    ) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        """`dagster.asset` with what all stages share: key, group, owners, tags, no IO manager.

        Args:
            name: the asset's name within the product.
            version: its code version, from `code_version`.
            days: its partitions; a run of many days is one run.
            kinds: shown in the UI.
            compute: where it runs, as the tag `compute`; empty where anything will do.
            options: description, deps, check_specs, automation_condition.
        """
        declare(self.key(name), days)
        if days is not None:
            options |= {
                "partitions_def": days,
                "backfill_policy": dg.BackfillPolicy.single_run(),
                "output_required": False,
            }
        decorate: Any = dg.asset(
            key=self.key(name),
            group_name=self.name,
            owners=list(self.owners),
            kinds=set(kinds),
            code_version=version,
            tags={"product": self.name} | ({"compute": compute} if compute else {}),
            dagster_type=dg.Nothing,
            **options,
        )
        return lambda step: decorate(recorded(step))

    def read_from(self, table: str, first: int, last: int) -> dg.AssetDep:
        """A dependency on a table's partitions from `first` to `last` days off a period's ends."""
        mapping = dg.TimeWindowPartitionMapping(
            start_offset=-self.partitions.reached(-first),
            end_offset=self.partitions.reached(last),
            allow_nonexistent_upstream_partitions=True,
        )
        return dg.AssetDep(dg.AssetKey(table.split("/")), partition_mapping=mapping)

    def has_report(self, day: date) -> bool:
        """Whether a day shows pictures and Evidently's page."""
        every = self.monitoring.report_days
        # Of hours the first of the day.
        begins = not isinstance(day, datetime) or day.hour == 0
        return every > 0 and begins and day.toordinal() % every == 0

    def labels_known(self, period: date) -> date:
        """The day with which all labels of a period are there."""
        last = self.periods.last_day(day_of(period))
        return last + timedelta(days=self.label.known_after_days)

    def labelled_by(self, today: date) -> date:
        """The newest period all labels of which are there when a period has come."""
        return self.ended_before(today, self.label.known_after_days)

    def ended_before(self, today: date, days: int) -> date:
        """The newest period that has ended so many days before the end of another."""
        return self.periods.ended_by(self.periods.last_day(today) - timedelta(days=days))
