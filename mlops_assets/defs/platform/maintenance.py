"""Maintenance: the upkeep of all tables, as a job, and a schedule that launches it weekly.

A version to which a model, a gate result or a prediction refers always stays. The same as
`mlops upkeep`; what it did stands as a table on the run.
"""

import dagster as dg
from pydantic import Field

from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.components.upkeep import as_table, tend
from mlops_assets.stores.upkeep import KEEP_DAYS

CRON = "0 5 * * 0"


class UpkeepConfig(dg.Config):
    """What to tend to, and whether to do it."""

    apply: bool = Field(default=False, description="Do it; else only say what would be done.")
    keep_days: int = Field(
        default=KEEP_DAYS, ge=1, description="Days through which every version stays readable."
    )
    tables: list[str] = Field(default=[], description="Tables, domain/table; empty for all.")


@dg.op(description="Small files are put together; files that no kept version needs are removed.")
def tend_to_tables(
    context: dg.OpExecutionContext,
    config: UpkeepConfig,
    lakehouse: LakehouseResource,
    registry: ModelRegistryResource,
) -> dg.Output[None]:
    """Tend to every table; the result is the table shown with the output."""
    lake = lakehouse.store
    done = []
    for each in tend(
        lake, registry.store, PRODUCTS.values(), config.tables or lake.tables(),
        keep_days=config.keep_days, apply=config.apply,
    ):  # fmt: skip
        done.append(each)
        context.log.info(
            f"{each.vacuum.table}: {each.compaction.partitions} partitions with many small files,"
            f" {len(each.vacuum.files)} files ({each.vacuum.megabytes} MB) that nothing needs"
            + (f"; {each.error}" if each.error else "")
        )
    return dg.Output(
        None,
        metadata={
            "applied": config.apply,
            "files": sum(len(each.vacuum.files) for each in done),
            "megabytes": round(sum(each.vacuum.megabytes for each in done), 3),
            "tables": table(as_table(done)),
        },
    )


@dg.job(description="Compact and vacuum all tables; a dry run unless `apply` is set.")
def upkeep() -> None:
    """The job."""
    tend_to_tables()


weekly_upkeep = dg.ScheduleDefinition(
    name="weekly_upkeep",
    job=upkeep,
    cron_schedule=CRON,
    run_config={"ops": {"tend_to_tables": {"config": {"apply": True}}}},
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description=(
        "Each Sunday at five (UTC): small files are put together, and files that no version within"
        f" {KEEP_DAYS} days and no model, gate result or prediction needs are removed. Off until"
        " you start it; Test schedule does it once."
    ),
)
