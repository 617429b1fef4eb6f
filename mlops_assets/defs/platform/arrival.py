"""Arrival: a schedule lets the next day of the source come in; everything else follows from it.

The clock is the data: a tick brings the day after the newest one that came, whatever the date on
the wall. Live sources have the same schedule; there the next day exists once a day.
"""

import dagster as dg

from mlops_assets.components.arrival import Source
from mlops_assets.components.tables.table_asset import ARRIVES

CRON = "0 * * * *"

_RUNNING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

arrival = dg.define_asset_job(
    "arrival",
    selection=dg.AssetSelection.tag(ARRIVES, "daily"),
    description="One local day of every daily raw table; features, predictions and drift follow.",
)


@dg.schedule(
    job=arrival,
    cron_schedule=CRON,
    name="next_day",
    description=(
        "Lets the next day of the source arrive at each full hour: the day after the newest one"
        " that came, not today's date. Off until you start it; Test schedule brings one day now."
    ),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def next_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for the next day, unless one is still coming or the source has ended."""
    going = context.instance.get_runs(
        dg.RunsFilter(job_name=arrival.name, statuses=_RUNNING), limit=1
    )
    if going:
        return dg.SkipReason(f"run {going[0].run_id} still brings a day in")
    assert context.repository_def is not None
    try:
        day = Source(context.repository_def.asset_graph, context.instance).next_days(1)[0]
    except LookupError as end:
        return dg.SkipReason(str(end))
    return dg.RunRequest(partition_key=day.isoformat())
