"""Stage 11, by the calendar: a schedule that launches the product's retraining.

Off until somebody starts it: what the data say decides better than a date when to retrain. The
cut-off is the newest that leaves a holdout, by the data's own clock, whatever the date on the wall.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import NAME as TRAINING_SET
from mlops_assets.components.ml_product.training_set import NEWEST

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def calendar_retrain(product: Product, cron: str) -> dg.ScheduleDefinition:
    """The schedule `<product>_calendar_retrain`."""
    job = f"{product.name}_retrain"

    @dg.schedule(
        job_name=job,
        cron_schedule=cron,
        name=f"{product.name}_calendar_retrain",
        description=(
            "Retrains by the calendar, on all days whose labels are known less the holdout,"
            " whether or not anything has drifted. Off until you start it; Test schedule retrains"
            " once."
        ),
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        going = context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
        if going:
            return dg.SkipReason(f"run {going[0].run_id} still retrains")
        step = "__".join(product.key(TRAINING_SET).path)
        return dg.RunRequest(run_config={"ops": {step: {"config": {"cutoff": NEWEST}}}})

    return schedule
