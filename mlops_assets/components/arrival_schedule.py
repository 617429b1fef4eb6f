"""Arrival: for each domain a schedule that lets its next day come in; everything else follows.

The clock is the data: a tick brings the day after the newest one that came, whatever the date on
the wall. Live sources have the same schedule; there the next day exists once a day.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.components.arrival import Source
from mlops_assets.components.tables.table_asset import ARRIVES
from mlops_assets.ml.periods import name_of

CRON = "0 * * * *"

_RUNNING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def with_arrival(definitions: dg.Definitions) -> dg.Definitions:
    """The same, with a job `<domain>_arrival` and a schedule `<domain>_next_day` for each domain.

    A domain is the folder of raw tables whose days arrive; its tables have one calendar.
    """
    arriving: dict[str, list[dg.AssetKey]] = {}
    for asset in definitions.assets or []:
        if isinstance(asset, dg.AssetsDefinition):
            for key in (k for k, tags in asset.tags_by_key.items() if tags.get(ARRIVES) == "daily"):
                arriving.setdefault(key.path[0], []).append(key)
    schedules = [next_day(domain, keys) for domain, keys in sorted(arriving.items())]
    return dg.Definitions.merge(definitions, dg.Definitions(schedules=schedules))


def next_day(domain: str, tables: list[dg.AssetKey]) -> dg.ScheduleDefinition:
    """The schedule of one domain, and its job."""
    arrival = dg.define_asset_job(
        f"{domain}_arrival",
        selection=dg.AssetSelection.assets(*tables),
        description=f"One local day of the daily raw tables of {domain}; all else follows.",
    )

    @dg.schedule(
        job=arrival,
        cron_schedule=CRON,
        name=f"{domain}_next_day",
        description=(
            f"Lets the next day of {domain} arrive at each full hour: the day after the newest one"
            " that came, not today's date. Off until you start it; Test schedule brings one now."
        ),
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Ask for the next day, unless one is still coming or the source has ended."""
        going = context.instance.get_runs(
            dg.RunsFilter(job_name=arrival.name, statuses=_RUNNING), limit=1
        )
        if going:
            return dg.SkipReason(f"run {going[0].run_id} still brings a day in")
        assert context.repository_def is not None
        source = Source(context.repository_def.asset_graph, context.instance, domain)
        try:
            day = source.next_days(1)[0]
        except LookupError as end:
            return dg.SkipReason(str(end))
        return dg.RunRequest(partition_key=name_of(day))

    return schedule
