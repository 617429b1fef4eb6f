"""The search for a family's parameters: a fixed budget, time-ordered folds, the defaults first.

Trial 0 has the family's defaults, so the best trial is never worse than they are on these folds.
By the tree-structured Parzen estimator (Bergstra et al. 2011) as Optuna has it. With a number of
trials that the seconds allow, the same seed gives the same result. Nothing is stored here.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from mlops_assets.ml.families import (
    Family,
    FeatureColumns,
    FitOptions,
    Labelled,
    of_seen_classes,
)

if TYPE_CHECKING:
    import optuna

Fold: TypeAlias = tuple[np.ndarray, np.ndarray]

_RANDOM_TRIALS = 5


class SearchError(RuntimeError):
    """No trial of a search gave a model."""


@dataclass(frozen=True)
class TrialResult:
    """One set of parameters, tried on every fold.

    Attributes:
        number: 0 for the defaults, then upwards.
        params: every parameter of the family.
        value: mean of `fold_values`; None if the trial failed.
        fold_values: loss of each fold's validation rows, as far as the trial came.
        seconds: wall time of the trial.
        state: "complete" or "failed".
        error: what a failed trial raised.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    fold_values: tuple[float, ...]
    seconds: float
    state: Literal["complete", "failed"]
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: the complete trial with the least value, the earliest of equals.
        trials: all trials in order.
    """

    best: TrialResult
    trials: list[TrialResult]


def search(
    family: Family,
    train: Labelled,
    folds: Sequence[Fold],
    columns: FeatureColumns,
    *,
    trials: int,
    seconds: float,
    options: FitOptions,
    max_rows: int | None = None,
    fixed: Mapping[str, Any] | None = None,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> SearchResult:
    """Look for the parameters with the least mean loss over the folds.

    A fold's validation rows both stop the fit early and judge it: a little flattering, alike for
    every trial. The search ends at the number of trials, or before a trial that would by the mean
    of the earlier ones end after `seconds`; the first trial always completes. A family with
    nothing to tune is tried once.

    Args:
        family: what to fit.
        train: the rows that the folds index.
        folds: (training rows, validation rows) a fold, as indices, see `splits.time_folds`.
        columns: what to read.
        trials: greatest number of trials.
        seconds: wall time to keep to.
        options: seed, threads and device of every fit; the seed is the search's as well.
        max_rows: greatest number of training rows in a fold, drawn once with the seed and kept in
            order; None for all. Validation rows are never left out.
        fixed: parameters that are not searched, with their values.
        on_trial: told each trial's result.

    Raises:
        ValueError: no folds, an empty part, parts that overlap, or counts below 1.
        SearchError: every trial failed.
    """
    _check(folds, trials, max_rows)
    parts = [_fold_rows(train, fold, max_rows, options.seed) for fold in folds]
    study = _study(options.seed, family.defaults())
    started = time.monotonic()
    done: list[TrialResult] = []
    while len(done) < trials:
        elapsed = time.monotonic() - started
        if done and elapsed + elapsed / len(done) > seconds:
            break
        trial = study.ask()
        result = _try(family, trial, fixed or {}, parts, columns, options)
        _report(study, trial, result)
        done.append(result)
        if on_trial is not None:
            on_trial(result)
        if not trial.distributions:
            break
    complete = [result for result in done if result.value is not None]
    if not complete:
        raise SearchError(f"{family.name}: all {len(done)} trials failed, first {done[0].error}")
    return SearchResult(min(complete, key=_value), done)


def _try(
    family: Family,
    trial: optuna.Trial,
    fixed: Mapping[str, Any],
    parts: Sequence[tuple[Labelled, Labelled]],
    columns: FeatureColumns,
    options: FitOptions,
) -> TrialResult:
    started = time.monotonic()
    params = family.suggest(trial) | dict(fixed)
    values: list[float] = []
    error = None
    try:
        for fit_on, judge_on in parts:
            model = family.fit(fit_on, judge_on, columns, params, options)
            scores = model.predict(judge_on.frame)
            values.append(judge_on.target.loss(*judge_on.target.check(judge_on.label, scores)))
    except Exception as raised:  # A bad corner of the space ends its trial, not the search.
        error = f"{type(raised).__name__}: {raised}"
    return TrialResult(
        number=trial.number,
        params=params,
        value=None if error else float(np.mean(values)),
        fold_values=tuple(values),
        seconds=time.monotonic() - started,
        state="failed" if error else "complete",
        error=error,
    )


def _study(seed: int, defaults: dict[str, Any]) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        study = optuna.create_study(sampler=sampler, direction="minimize")
        study.enqueue_trial(defaults)
    return study


def _report(study: optuna.Study, trial: optuna.Trial, result: TrialResult) -> None:
    from optuna.trial import TrialState

    if result.value is None:
        # The estimator forgets failed trials and asks for the like again; pruned ones count as bad.
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, result.value)


def _fold_rows(
    train: Labelled, fold: Fold, max_rows: int | None, seed: int
) -> tuple[Labelled, Labelled]:
    rows, judged = fold
    if max_rows is not None and len(rows) > max_rows:
        drawn = np.random.default_rng(seed).choice(len(rows), max_rows, replace=False)
        rows = rows[np.sort(drawn)]
    return of_seen_classes(train.take(rows), train.take(judged))


def _check(folds: Sequence[Fold], trials: int, max_rows: int | None) -> None:
    if trials < 1 or (max_rows is not None and max_rows < 1):
        raise ValueError(f"trials is {trials}, max_rows {max_rows}: expected at least 1 each")
    if not folds:
        raise ValueError("0 folds, expected at least 1")
    for number, (rows, judged) in enumerate(folds):
        if not len(rows) or not len(judged):
            raise ValueError(
                f"fold {number}: {len(rows)} training and {len(judged)} validation rows, "
                "expected some of each"
            )
        if shared := np.intersect1d(rows, judged).size:
            raise ValueError(f"fold {number}: {shared} rows are in both training and validation")


def _value(result: TrialResult) -> float:
    return float("inf") if result.value is None else result.value
