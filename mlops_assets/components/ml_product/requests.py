"""Stage 17: what servers were asked and what they answered, from their logs, each exactly once.

A sensor launches it when closed segments wait. It depends on what the servers answer from, so that
the lineage of an answer is in the graph; a new champion does not launch it.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_assets.components.ml_product.online_features import NAME as ONLINE_FEATURES
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.sensors import ABOUT, ATTEMPTS, INTERVAL_SECONDS, LOOP
from mlops_assets.components.resources import LakehouseResource, RequestLogResource
from mlops_assets.stores.request_log import closed_segments
from mlops_assets.stores.request_shipping import BROKEN, RECEIVED_ON, ship

NAME = "requests"
ANSWER = "answer"
"""Role of the record whose answer was given; others ran in its shadow."""


def requests_asset(product: Product) -> dg.AssetsDefinition:
    """The asset; its data version counts the table's Delta versions."""
    table = product.table(NAME)

    @product.asset(
        NAME,
        product.code_version(ship),
        description="One row a request and version that answered it, from the servers' logs;"
        " append-only, by UTC day of receipt.",
        deps=[product.key(CHAMPION), product.key(ONLINE_FEATURES)],
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        request_log: RequestLogResource,
    ) -> Iterator[Any]:
        store = lakehouse.store
        done = ship(store, request_log.path, product.name, table, context.run.run_id)
        there = store.exists(table)
        version = store.version(table) if there else None
        days = store.partitions(table, RECEIVED_ON) if there else []
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(f"delta-{version}"),
            metadata={
                "rows": done.rows,
                "segments": done.segments,
                "segments_removed": done.removed,
                "torn_lines": done.torn,
                "rows_in_all": store.rows(table) if there else 0,
                "days": len(days),
                "delta_version": version,
            },
        )
        if done.broken:
            raise dg.Failure(
                f"{product.name}: {'; '.join(done.broken[:3])}. {len(done.broken)} segments were"
                f" set aside as *{BROKEN} in {request_log.path}; all others are in the lake.",
                allow_retries=False,
            )

    return asset


def requests_job(product: Product) -> Any:
    """Ships what waits."""
    return dg.define_asset_job(
        f"{product.name}_requests",
        selection=dg.AssetSelection.assets(product.key(NAME)),
        tags={"product": product.name},
        description="Brings closed segments of the servers' logs into the lake.",
    )


def requests_sensor(product: Product, job: Any) -> dg.SensorDefinition:
    """Launches the shipping while closed segments wait and none is under way."""

    @dg.sensor(
        name=f"{product.name}_requests",
        job=job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={LOOP: product.name},
        description="Sees segments of the servers' logs that nobody writes any more.",
    )
    def waiting(
        context: dg.SensorEvaluationContext, request_log: RequestLogResource
    ) -> Iterator[Any]:
        segments = closed_segments(request_log.path, product.name)
        if not segments:
            yield dg.SkipReason(f"no closed segment waits in {request_log.path}")
        elif _under_way(context.instance, job.name):
            yield dg.SkipReason(f"{len(segments)} segments wait; {job.name} is under way")
        else:
            yield _request(context.instance, job.name, segments[0].stem)

    return waiting


def _request(instance: dg.DagsterInstance, job: str, oldest: str) -> Any:
    """A run for what waits; not for ever where the oldest segment stays."""
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    of_it = dg.RunsFilter(job_name=job, tags={ABOUT: oldest}, statuses=ended)
    failed = len(instance.get_runs(of_it))
    if failed >= ATTEMPTS:
        return dg.SkipReason(f"{job} failed {failed} times on {oldest}; mend it and launch it")
    # One thing to a loop in process, whichever segments wait: a server that goes on answering
    # would keep it busy for ever.
    key = f"{job}:waiting#{oldest}.{failed}"
    return dg.RunRequest(run_key=key, job_name=job, tags={ABOUT: oldest})


def _under_way(instance: dg.DagsterInstance, job: str) -> bool:
    going = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    return bool(instance.get_runs(dg.RunsFilter(job_name=job, statuses=going), limit=1))
