"""Bad models, each built for real, and the gate that refuses it: `make gates`.

A small lake is filled and a sound model goes through the whole product: fitted, judged, packaged,
promoted. Then each mutant takes the same way, by the same assets, with the product's own default
limits, in a real MLflow and as a real Bento. A mutant that is promoted, or that another gate than
its own refuses, survives.

    python -m mlops_assets_tests.integration.mutants
    python -m mlops_assets_tests.integration.mutants --json kills.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product import feature_view, packaging
from mlops_assets.components.ml_product.evaluation import write_outcomes
from mlops_assets.components.ml_product.incumbent import PROMOTED
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import write_promotion
from mlops_assets.components.ml_product.training import fit_name
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.components.tables.table_asset import LICENCES
from mlops_assets.ml.families import FeatureColumns
from mlops_assets.ml.gates import REQUIRED, GateOutcome
from mlops_assets.ml.point_in_time import Trailing
from mlops_assets.ml.serving_contract import Contract, look_ups
from mlops_assets.stores import bento_source
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.model_registry import CHAMPION, ModelVersion
from mlops_assets_tests.integration.conftest import span
from mlops_assets_tests.integration.sound_world import (
    BEST,
    CUTOFF,
    FIRST,
    NEWEST_LABELLED,
    TODAY,
    Outcomes,
    World,
    copy_of,
    sound_world,
)

HOURS_AHEAD = timedelta(hours=3)
HOUR = timedelta(hours=1)
SLEEP_SECONDS = 0.3
BALLAST_BYTES = 120_000_000


@dataclass(frozen=True)
class Kill:
    """What became of one mutant.

    Attributes:
        mutant: its name.
        gate: the gate that should refuse it.
        refused: whether that gate did, and nothing was promoted.
        value: what the gate found.
        limit: what it was held against.
        detail: what the gate says.
        others: other gates that refused it too.
        seconds: how long it took.
    """

    mutant: str
    gate: str
    refused: bool
    value: float | None
    limit: float | None
    detail: str
    others: tuple[str, ...]
    seconds: float


Mutant = Callable[[World], Outcomes]
MUTANTS: dict[str, tuple[str, Mutant]] = {}
"""Name to the gate that should refuse it and how it is built and judged."""


def mutant(name: str, gate: str) -> Callable[[Mutant], Mutant]:
    """Register a way to go wrong."""

    def decorate(build: Mutant) -> Mutant:
        MUTANTS[name] = (gate, build)
        return build

    return decorate


# --- features -----------------------------------------------------------------------------------


def _retrained(world: World) -> Outcomes:
    """The pipeline on the world's own declaration, from the feature view on; the baseline stays."""
    world.materialize("feature_view", days=tuple(span(FIRST, TODAY)))
    world.materialize("training_set", fit_name(BEST), "leaderboard", "candidate")
    number = world.flow.table("candidate")["model_version"].item()
    return world.judge(world.flow.registry.get(world.flow.product.name, number))


@mutant("leaky feature: the delay at departure", "leak_suspect")
def leaky(world: World) -> Outcomes:
    """A spine that carries what happened after the prediction."""
    features = world.flow.product.features
    changes = {
        "problem": "mlops_assets_tests.integration.leaky_problem",
        "features": features.model_copy(update={"numeric": [*features.numeric, "dep_delay"]}),
    }
    with copy_of(world, **changes) as other:
        return _retrained(other)


@mutant("future join: sees three hours ahead", "known_in_time")
def future_join(world: World) -> Outcomes:
    """A look-up that takes rows for known three hours before they are."""
    join_all = feature_view.join_all

    def early(rows: pl.DataFrame, reads: Any) -> pl.DataFrame:
        ahead = pl.col("available_at") - HOURS_AHEAD
        return join_all(rows, [(t.with_columns(ahead), definition) for t, definition in reads])

    with copy_of(world) as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_view, "join_all", early)
        return _retrained(other)


# --- models -------------------------------------------------------------------------------------


@mutant("labels shuffled", "gain_over_baseline")
def shuffled(world: World) -> Outcomes:
    """A model that learned nothing."""
    labels = world.rows[LABEL].shuffle(seed=7)
    return world.judge(world.submit(world.fitted(world.rows.with_columns(labels))))


def _linear(world: World, **changes: float) -> Outcomes:
    """The baseline with its coefficients and intercept multiplied."""
    model: Any = world.baseline[1]
    changed = {name: getattr(model, name) * by for name, by in changes.items()}
    return world.judge(world.submit(replace(model, **changed)))


@mutant("constant", "sound_scores")
def constant(world: World) -> Outcomes:
    """A model whose features weigh nothing."""
    return _linear(world, coefficients=0.0)


@mutant("inverted", "gain_over_baseline")
def inverted(world: World) -> Outcomes:
    """A model that says late for on time."""
    return _linear(world, coefficients=-1.0, intercept=-1.0)


@mutant("overconfident: log-odds times three", "calibrated")
def overconfident(world: World) -> Outcomes:
    """A model three times too sure."""
    return _linear(world, coefficients=3.0, intercept=3.0)


@mutant("scores are NaN", "sound_scores")
def not_a_number(world: World) -> Outcomes:
    """A fit that diverged."""
    return _linear(world, coefficients=float("nan"))


@mutant("wrong schema: another column", "same_schema")
def another_column(world: World) -> Outcomes:
    """A model that reads a column which the product does not have."""
    own = world.flow.product.columns
    numeric = tuple("distance_km" if n == "distance" else n for n in own.numeric)
    rows = world.rows.with_columns((pl.col("distance") * 1.609).alias("distance_km"))
    columns = FeatureColumns(numeric, own.categorical)
    return world.judge(world.submit(world.fitted(rows, columns)))


@mutant("wrong schema: a number as a category", "same_schema")
def another_kind(world: World) -> Outcomes:
    """A model that reads a number of the product as a category; it answers all the same."""
    own = world.flow.product.columns
    numeric = tuple(n for n in own.numeric if n != "weekday")
    columns = FeatureColumns(numeric, (*own.categorical, "weekday"))
    return world.judge(world.submit(world.fitted(columns=columns)))


# --- rows ---------------------------------------------------------------------------------------


def _trained_to_the_end(world: World) -> ModelVersion:
    """A model of a training set that reaches through the newest labelled day."""
    flow = world.flow
    versions = flow.lakehouse.history(flow.product.table("training_set")).height
    if versions == 1:
        world.materialize("training_set", cutoff=NEWEST_LABELLED.isoformat())
    rows = flow.table("training_set", version=1).sort(world.keys)
    return world.submit(world.fitted(rows), training_set=1, cutoff=NEWEST_LABELLED)


@mutant("trained on the test days, and says so", "enough_rows")
def trained_on_test(world: World) -> Outcomes:
    """No day is left that it was not trained on."""
    return world.judge(_trained_to_the_end(world))


@mutant("trained on the test days, with a tag that lies", "untouched_rows")
def trained_on_test_lying(world: World) -> Outcomes:
    """Its tag says the earlier cut-off; its training set does not."""
    version = _lying(world)
    return world.judge(world.nominate(version))


@mutant("champion compared on rows it was trained on", "untouched_rows")
def champion_saw_the_rows(world: World) -> Outcomes:
    """A good candidate beside a champion that was trained on the test days, with a lying tag."""
    flow, product = world.flow, world.flow.product
    good, lying = world.sound, _lying(world)
    passed = [
        GateOutcome(gate, True, None, None, None, None, None, 0, "of another time")
        for gate in sorted(REQUIRED)
    ]
    write_outcomes(flow.lakehouse, product, lying, passed, "", "evaluation")
    write_promotion(flow.lakehouse, product, lying, PROMOTED, "mutant", "", "")
    before = flow.registry.champion(product.name)
    assert before is not None
    flow.registry.set_alias(product.name, CHAMPION, lying.version)
    try:
        return world.judge(world.nominate(good))
    finally:
        flow.registry.set_alias(product.name, CHAMPION, before.version)


def _lying(world: World) -> ModelVersion:
    version = _trained_to_the_end(world)
    name = world.flow.product.name
    world.flow.registry.set_tags(name, version.version, {"cutoff": CUTOFF.isoformat()})
    return world.flow.registry.get(name, version.version)


@mutant("test rows twice", "distinct_rows")
def rows_twice(world: World) -> Outcomes:
    """A good candidate, judged on a feature view that holds each row of three days twice."""
    flow, days = world.flow, span(CUTOFF + timedelta(days=1), CUTOFF + timedelta(days=3))
    table, keys = flow.product.table("feature_view"), [day.isoformat() for day in days]
    rows = flow.lakehouse.scan(table, first=days[0], last=days[-1]).collect()
    write = {"by": DAY, "partitions": keys, "commit": Commit()}
    flow.lakehouse.overwrite_partitions(table, pl.concat([rows, rows]), **write)
    try:
        return world.judge(world.nominate(world.sound))
    finally:
        flow.lakehouse.overwrite_partitions(table, rows, **write)


# --- people and licences ------------------------------------------------------------------------


@mutant("personal data: reads a column that is marked", "no_personal_data")
def personal(world: World) -> Outcomes:
    """A good model of a product whose declaration marks one of its columns as personal."""
    with copy_of(world, compliance=d.Compliance(personal=["carrier"])) as other:
        return other.judge(other.nominate(other.sound))


@mutant("uneven: knows nothing of the flights from one airport", "even_for_groups")
def uneven(world: World) -> Outcomes:
    """A model that learned the contrary at one of three airports."""
    label, at = pl.col(LABEL), pl.col("origin") == "LGA"
    turned = world.rows.with_columns(pl.when(at).then(1 - label).otherwise(label).alias(LABEL))
    with copy_of(world, compliance=d.Compliance(sensitive={"origin": 0.5})) as other:
        return other.judge(other.submit(other.fitted(turned)))


@mutant("unlicensed: made of a table without a stated licence", "licences_stated")
def unlicensed(world: World) -> Outcomes:
    """A good model that is made of a raw table whose data has no stated licence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(LICENCES, "nyc_flights/weather")
        return world.judge(world.nominate(world.sound))


# --- what is looked up --------------------------------------------------------------------------


@mutant("skewed: the endpoint's windows are an hour longer", "online_as_offline")
def skewed(world: World) -> Outcomes:
    """A good model, in a Bento whose contract has another definition of a feature."""
    real = packaging.contract_of

    def longer(product: Product, version: ModelVersion) -> Contract:
        definitions = {
            table: replace(each, windows={w: t + HOUR for w, t in each.windows.items()})
            if isinstance(each, Trailing)
            else each
            for table, each in product.definitions.items()
        }
        return real(product, version).model_copy(update={"lookups": look_ups(definitions)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packaging, "contract_of", longer)
        return world.judge(world.nominate(world.sound), packaged=True)


# --- what it costs ------------------------------------------------------------------------------


@mutant("too slow: waits before it answers", "fast_enough")
def too_slow(world: World) -> Outcomes:
    """A good model, in a Bento whose code waits."""
    code = bento_source._code

    def waiting(*modules: str) -> dict[str, bytes]:
        files, path = code(*modules), "mlops_assets/ml/families/encoded.py"
        line = b"        if not frame.height:\n"
        wait = b"        import time; time.sleep(%r)\n" % SLEEP_SECONDS
        assert files[path].count(line) == 1
        return files | {path: files[path].replace(line, wait + line)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bento_source, "_code", waiting)
        return world.judge(world.nominate(world.sound), packaged=True)


@mutant("huge: carries its training rows along", "small_enough")
def huge(world: World) -> Outcomes:
    """A good model whose folder holds 120 MB that it does not need."""
    version = world.submit(world.champion, ballast=BALLAST_BYTES)
    return world.judge(version, packaged=True)


# --- the suite ----------------------------------------------------------------------------------


def kill(name: str, world: World) -> Kill:
    """Build a mutant, let the product judge it, and say what became of it."""
    gate, build = MUTANTS[name]
    started = time.perf_counter()
    try:
        outcomes, survived = build(world), ""
    except AssertionError as promoted:
        outcomes, survived = {}, str(promoted)
    failed = [g for g, outcome in outcomes.items() if not outcome["passed"]]
    own = outcomes.get(gate, {})
    return Kill(
        mutant=name,
        gate=gate,
        refused=gate in failed and not survived,
        value=own.get("value"),
        limit=own.get("limit"),
        detail=survived or own.get("detail", "not judged"),
        others=tuple(sorted(set(failed) - {gate})),
        seconds=round(time.perf_counter() - started, 1),
    )


def table(kills: list[Kill]) -> str:
    """The kill table in Markdown, with its summary line."""
    lines = [
        "| mutant | refused by | value | limit | also refused by |",
        "|---|---|---|---|---|",
        *(
            f"| {k.mutant} | {k.gate if k.refused else 'NOT REFUSED: ' + k.detail} |"
            f" {_number(k.value)} | {_number(k.limit)} | {', '.join(k.others)} |"
            for k in kills
        ),
    ]
    return "\n".join([*lines, "", f"{sum(k.refused for k in kills)} of {len(kills)} refused"])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"


def main() -> int:
    """Run the suite; 1 where a mutant survives."""
    parser = argparse.ArgumentParser(
        prog="python -m mlops_assets_tests.integration.mutants",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Exit status 1 where a mutant survives. Takes two to three minutes.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the kills there")
    parser.add_argument("--only", metavar="TEXT", default="", help="mutants whose name holds TEXT")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [name for name in MUTANTS if asked.only in name]
    if not names:
        parser.error(f"no mutant's name holds {asked.only!r}; there are {', '.join(MUTANTS)}")
    with tempfile.TemporaryDirectory() as folder:
        print("A lake, and a sound model that is promoted …", file=sys.stderr)
        with sound_world(Path(folder) / "home") as world:
            kills = []
            for name in names:
                kills.append(kill(name, world))
                print(f"{name}: {kills[-1].detail} ({kills[-1].seconds} s)", file=sys.stderr)
    print(table(kills))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(k) for k in kills], indent=2) + "\n")
    return 0 if all(k.refused for k in kills) else 1


if __name__ == "__main__":
    raise SystemExit(main())
