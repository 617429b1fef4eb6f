"""Registry watch: whether the alias of each product's champion names a version that may serve.

Anybody can move an alias in MLflow. What it names then scores and serves nothing unless it was
promoted (components/ml_product/incumbent.py); this sensor shows it, as the check
`alias_passed_gates` of the champion, within half a minute and without a run.
"""

import dagster as dg

from mlops_assets.components.ml_product.incumbent import ALIAS_CHECK, alias_state
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource

INTERVAL_SECONDS = 30


@dg.sensor(
    name="registry_watch",
    description=(
        "Compares what the registry's alias champion names with the promotions and the gates of"
        " each product, and reports a change as the check alias_passed_gates."
    ),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=INTERVAL_SECONDS,
)
def registry_watch(
    context: dg.SensorEvaluationContext,
    lakehouse: LakehouseResource,
    registry: ModelRegistryResource,
) -> dg.SkipReason:
    """Report what changed since the check that the UI shows."""
    assert context.repository_def is not None
    graph = context.repository_def.asset_graph
    told = []
    for key in sorted(k for k in graph.asset_check_keys if k.name == ALIAS_CHECK):
        product = key.asset_key.path[0]
        shown = _shown(context.instance, key)
        if shown is None and registry.store.champion(product) is None:
            continue  # nothing is promoted yet
        serves, why = alias_state(lakehouse.store, registry.store, product)
        if (serves, why) == shown:
            continue
        context.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=serves,
                severity=dg.AssetCheckSeverity.ERROR,
                blocking=True,
                description=why,
            )
        )
        told.append(why)
    return dg.SkipReason("; ".join(told) or "every alias is as the UI shows it")


def _shown(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> tuple[bool, str | None] | None:
    """What the newest check of the champion says: passed or not, and why; None before the first."""
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    evaluation = record.evaluation if record else None
    return (evaluation.passed, evaluation.description) if evaluation else None
