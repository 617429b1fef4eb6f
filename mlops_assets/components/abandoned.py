"""Runs whose process was killed are ended, so that what they were making is due again.

A process that is killed cannot say so: its run counts as started for ever, and automation would
wait for it as long.
"""

from __future__ import annotations

import logging

import dagster as dg

from mlops_assets.components.health import abandoned

log = logging.getLogger("mlops")


def end_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """Mark them as failed; return their ids."""
    found = abandoned(instance)
    for run in found:
        log.warning("run %s of %s was killed; it is marked as failed", run.run_id, run.job_name)
        instance.report_run_failed(run, "The process of this run was killed.")
    return [run.run_id for run in found]
