"""Runs whose process is gone: a killed one never says so, and its run would stay in progress.

Automation does not ask for what a run in progress will make, so such a run blocks its assets for
ever. Each engine ends those that it finds when it begins (`end_abandoned`), and a daemon watches
the processes of runs all the time, by the launcher here and `run_monitoring` in dagster.yaml. Both
look at processes of this machine; environments on Kubernetes have a launcher that asks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
import psutil
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

_STARTED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_GONE = (WorkerStatus.NOT_FOUND, WorkerStatus.FAILED, WorkerStatus.SUCCESS)
_NOT_YET = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which also knows whether the process of a run is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes, so that the daemon's run monitoring asks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether one of the processes that the run named is there."""
        named = list(_processes(self._instance, run))
        if named and not any(_is_alive(*each) for each in named):
            return CheckRunHealthResult(WorkerStatus.FAILED, msg=_gone(named))
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def abandoned(
    instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus] = _STARTED
) -> Iterator[tuple[dg.DagsterRun, str]]:
    """Runs that count as going on although the process that did them is gone, and how one knows.

    A launcher of another kind, as that for Kubernetes, is asked for its workers instead.
    """
    launcher = instance.run_launcher
    for run in instance.get_runs(dg.RunsFilter(statuses=list(statuses))):
        if not isinstance(launcher, DefaultRunLauncher):
            health = launcher.check_run_worker_health(run)
            if health.status in _GONE:
                yield run, health.msg or "its worker is gone"
            continue
        named = list(_processes(instance, run))
        asked_a_server = GRPC_INFO_TAG in run.tags
        if any(_is_alive(*each) for each in named) or (not named and asked_a_server):
            continue
        yield run, _gone(named)


def end_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """Mark abandoned runs as canceled; return their ids.

    For who is the only engine of this environment: a run that no process has taken up yet is
    another engine's, unless a code server was asked to do it. Canceled, not failed: nothing was
    found to be wrong with what the run would have made.
    """
    found = list(abandoned(instance, _STARTED + _NOT_YET))
    for run, why in found:
        instance.report_run_canceled(run, why)
    return [run.run_id for run, _ in found]


def _processes(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[tuple[int, float]]:
    """The processes that a run says do it, each with when it said so (seconds since 1970)."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data = entry.get_dagster_event().event_specific_data
        if isinstance(data, EngineEventData) and "pid" in data.metadata:
            yield int(str(data.metadata["pid"].value)), entry.timestamp


def _is_alive(pid: int, named_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        # A number is given anew after a while; a younger process is another.
        is_same = process.create_time() <= named_at
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _gone(named: list[tuple[int, float]]) -> str:
    who = f"process {named[-1][0]}, which did this run, is" if named else "who began this run is"
    return f"{who} gone without a word, as after kill -9; what it left undone is asked for again"
