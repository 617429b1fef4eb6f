"""What one training writes down while it runs: parameters, metrics, trials and files, in MLflow.

One MLflow run a training, and below it one nested run a trial. Calls go through the client and
never through MLflow's "active run", so that trainings in threads do not mix.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARENT = "mlflow.parentRunId"
_PARAMS_A_CALL = 100
_METRICS_A_CALL = 1000


@dataclass(frozen=True)
class RunLog:
    """An open MLflow run, and the means to add to it."""

    client: MlflowClient
    experiment_id: str
    run_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings as text; one that was recorded before cannot change."""
        _log(self.client, self.run_id, params=params)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Record numbers, at `step` where they form a series."""
        _log(self.client, self.run_id, metrics=[(*item, step) for item in metrics.items()])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags of the run."""
        _log(self.client, self.run_id, tags=tags)

    def log_trial(
        self,
        family: str,
        number: int,
        params: Mapping[str, Any],
        value: float,
        fold_values: Sequence[float],
        seconds: float,
    ) -> str:
        """Record one finished trial as a nested run that took `seconds`; return its run id.

        Metrics are `value`, the objective; `fold_value`, one step a fold; and `seconds`.
        """
        end = _now()
        run_id = self.client.create_run(
            self.experiment_id,
            start_time=end - round(seconds * 1000),
            run_name=f"{family} {number}",
            tags={_PARENT: self.run_id, "family": family, "trial": str(number)},
        ).info.run_id
        folds = [("fold_value", fold, step) for step, fold in enumerate(fold_values)]
        metrics = [("value", value, 0), ("seconds", seconds, 0), *folds]
        _log(self.client, run_id, params=params, metrics=metrics)
        self.client.set_terminated(run_id, end_time=end)
        return run_id

    def log_bytes(self, path: str, content: bytes) -> None:
        """Keep `content` as the run's file `path`, such as "evaluation/roc.png".

        Raises:
            ValueError: if `path` is absolute or leads out of the run's folder.
        """
        target = PurePosixPath(path)
        if target.is_absolute() or ".." in target.parts or not target.name:
            raise ValueError(
                f"{path!r}: name a file below the run's folder, such as evaluation/roc.png"
            )
        folder = "" if target.parent == PurePosixPath() else str(target.parent)
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / target.name
            file.write_bytes(content)
            self.client.log_artifact(self.run_id, str(file), folder or None)

    def log_folder(self, path: str, folder: Path) -> None:
        """Keep the files of `folder` as the run's folder `path`."""
        self.client.log_artifacts(self.run_id, str(folder), path)

    def log_text(self, path: str, text: str) -> None:
        """Keep `text` as the run's file `path`, in UTF-8."""
        self.log_bytes(path, text.encode())

    def log_json(self, path: str, value: Any) -> None:
        """Keep `value` as the run's JSON file `path`."""
        self.log_text(path, json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def open_run(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    *,
    tags: Mapping[str, str],
    parent_run_id: str | None = None,
) -> Iterator[RunLog]:
    """Start a run and end it with the block: finished, or failed where the block raises."""
    nested = {_PARENT: parent_run_id} if parent_run_id else {}
    run = client.create_run(experiment_id, run_name=name, tags={**tags, **nested})
    run_id = run.info.run_id
    try:
        yield RunLog(client, experiment_id, run_id)
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        client.set_terminated(run_id, status)
        raise
    client.set_terminated(run_id)


def _log(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Sequence[tuple[str, float, int]] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Record all in one call, or in several where there is more than MLflow takes at once."""
    from mlflow.entities import Metric, Param, RunTag

    now = _now()
    kept_params = [Param(name, str(value)) for name, value in (params or {}).items()]
    kept_metrics = [Metric(name, float(value), now, step) for name, value, step in metrics]
    kept_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
    while kept_params or kept_metrics or kept_tags:
        room = _METRICS_A_CALL - _PARAMS_A_CALL - len(kept_tags)
        client.log_batch(
            run_id, kept_metrics[:room], kept_params[:_PARAMS_A_CALL], kept_tags, synchronous=True
        )
        kept_params, kept_metrics = kept_params[_PARAMS_A_CALL:], kept_metrics[room:]
        kept_tags = []


def _now() -> int:
    """Return the time as MLflow counts it: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
