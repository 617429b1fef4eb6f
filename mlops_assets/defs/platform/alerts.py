"""Alerts: people are told of what failed and of what is decided, each thing once.

Addresses are Apprise URLs in `MLOPS_NOTIFY`; without any, messages stand in the log and on the
asset `platform/notifications` only.
"""

import json
from typing import Any

import dagster as dg

from mlops_assets.components.alerts import (
    as_versions,
    new_rows,
    newest_event,
    of_events,
    tables,
)
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.components.outbox import MOST_AT_ONCE, NOTIFICATIONS, Outbox
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.stores.notifications import VARIABLE, Notifier

INTERVAL_SECONDS = 30

notifications = dg.AssetSpec(
    NOTIFICATIONS,
    group_name="platform",
    description=f"What people were told, and whether it reached the addresses of {VARIABLE}. Each"
    " message is an observation here, with a link to what it is about.",
)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people of failed runs, failed blocking checks, promotions that wait, new"
    " champions, rollbacks and retrain cases; from its first look on.",
)
def alerts(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.SkipReason:
    """Send what is new, and what could not be delivered before; launches nothing."""
    lake, instance = lakehouse.store, context.instance
    told = tables(PRODUCTS.values())
    if not context.cursor:
        begin = {"event": newest_event(instance), "tables": as_versions(lake, told)}
        context.update_cursor(json.dumps(begin))
        return dg.SkipReason("from now on")
    assert context.repository_def is not None
    seen: dict[str, Any] = json.loads(context.cursor)
    messages, event = of_events(instance, context.repository_def.asset_graph, seen["event"])
    versions: dict[str, int | None] = {}
    for table, (product, say) in told.items():
        rows, versions[table] = new_rows(lake, table, seen["tables"].get(table))
        messages += [say(product, row) for row in rows]
    outbox = Outbox(instance, Notifier.from_environment())
    new = outbox.waiting(messages)
    said = outbox.send(new[:MOST_AT_ONCE])
    # What was too much for one look is found again from the same cursor; what was sent is known.
    if len(new) <= MOST_AT_ONCE:
        context.update_cursor(json.dumps({"event": event, "tables": versions}))
    return dg.SkipReason("; ".join(said) or "nothing to tell")
