"""Stage 16: what looks at the state and launches the jobs that it asks for.

`<product>_watch` sees a champion that must go, or a retrain case that is due; `<product>_retrain`
sees a decision to retrain for which no training set has been cut. Both read the lake, the registry
and the event log each time: what is still to do is asked for again, whatever was killed, and what
is done is not. The cursor only spares a look when nothing is new. `components/loop.py` evaluates
the same sensors in process.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_assets.components.ml_product import drift, importance, performance, shadow
from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import AUTOMATIC
from mlops_assets.components.ml_product.retrain_case import (
    carried_out,
    decisions,
    due_case,
    to_launch,
    today_of,
)
from mlops_assets.components.ml_product.rollback import worse_champion
from mlops_assets.components.ml_product.training import fit_version
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.stores.content import combine

LOOP = "mlops/loop"
"""Tag of the sensors that close the loop."""
ABOUT = "mlops/about"
"""Tag of a run: the case, decision or champion that it was launched for."""
ATTEMPTS = 3
"""Runs for one thing that may fail before a person must look."""
INTERVAL_SECONDS = 30


def watch_sensor(product: Product, consider: Any, rollback: Any) -> dg.SensorDefinition:
    """Looks when there are new predictions, performance, drift, or other code."""
    watched = (drift.NAME, performance.NAME, shadow.NAME, importance.NAME)

    @dg.sensor(
        name=f"{product.name}_watch",
        jobs=[consider, rollback],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={LOOP: product.name},
        description="Turns signals on performance and drift into at most one open retrain case,"
        " and sees a new champion that is worse than its predecessor.",
    )
    def watch(
        context: dg.SensorEvaluationContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        seen = _seen(context.instance, product, watched)
        if context.cursor == seen:
            yield dg.SkipReason("nothing new since the last look")
            return
        if worse := worse_champion(store, models, product):
            about = f"{product.name}-v{worse.champion.version}-worse"
            yield request(context.instance, rollback.name, about)
            return
        today = today_of(store, product)
        done = carried_out(context.instance, product)
        case = due_case(store, models, product, today, done) if today else None
        if case is not None and product.retraining.mode != "off":
            # Until it is decided the cursor stays, so that a run that is killed is asked for again.
            about = f"{case.id}.{case.review}.{case.day}"
            yield request(context.instance, consider.name, about)
            return
        context.update_cursor(seen)
        yield dg.SkipReason(f"no case is due on {today}" if today else "no day has come yet")

    return watch


def retrain_sensor(product: Product, retrain: Any) -> dg.SensorDefinition:
    """Launches what was decided and not carried out; what a person decided in any mode."""
    op = "__".join(product.key(TRAINING_SET).path)

    @dg.sensor(
        name=f"{product.name}_retrain",
        job=retrain,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={LOOP: product.name},
        description="Launches the retraining that a decision asks for, until its training set is"
        " cut; from there automation goes on.",
    )
    def launch(
        context: dg.SensorEvaluationContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[Any]:
        champion = incumbent(lakehouse.store, registry.store, product.name)
        rows = decisions(lakehouse.store, product)
        done = carried_out(context.instance, product)
        row = to_launch(rows, champion.version if champion else 0, done)
        if row is None:
            yield dg.SkipReason("no decision waits for its training set")
        elif product.retraining.mode != "auto" and row["by"] == AUTOMATIC:
            yield dg.SkipReason(
                f"{row['decision_id']} says retrain; the mode is {product.retraining.mode}, so a"
                f" person launches it: `mlops decide {product.name} --verdict retrain --by NAME`"
            )
        else:
            settings = {"cutoff": row["cutoff"].isoformat(), "decision": row["decision_id"]}
            config = {"ops": {op: {"config": settings}}}
            yield request(context.instance, retrain.name, row["decision_id"], config)

    return launch


def request(
    instance: dg.DagsterInstance, job: str, about: str, config: dict[str, Any] | None = None
) -> dg.RunRequest | dg.SkipReason:
    """A run about something; where one failed another, but not for ever."""
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    failed = len(
        instance.get_runs(dg.RunsFilter(job_name=job, tags={ABOUT: about}, statuses=ended))
    )
    if failed >= ATTEMPTS:
        return dg.SkipReason(f"{job} failed {failed} times for {about}; mend it and launch it")
    return dg.RunRequest(
        run_key=f"{job}:{about}#{failed}", job_name=job, run_config=config or {},
        tags={ABOUT: about},
    )  # fmt: skip


def _seen(instance: dg.DagsterInstance, product: Product, watched: tuple[str, ...]) -> str:
    """The newest events of the assets, and the code of the fits, in one text."""
    records = instance.get_asset_records([product.key(name) for name in watched])
    newest = [record.asset_entry.last_materialization_storage_id or 0 for record in records]
    fits = product.fits
    code = combine(**{family: fit_version(product, family) for family in fits})
    return f"{max(newest, default=0)}:{code[:16]}"
