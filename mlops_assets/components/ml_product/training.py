"""Stage 3: one fit a family, searched on folds of the training days.

Each family is an asset of its own, so that one can run on a GPU and another be changed without the
rest. Only training and validation days are read here: the choice of parameters and threshold never
sees a day after the cut-off.
"""

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.enough_labels import shortage, validation_days
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import (
    NAME,
    days_of_rows,
    made_of,
    to_fit_on,
)
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.families import FitOptions, Model, family, save_model
from mlops_assets.ml.search import TrialResult, search
from mlops_assets.ml.splits import split_by_day, time_folds
from mlops_assets.ml.targets import Figures
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_package import folder_digest
from mlops_assets.stores.training_log import RunLog

MODEL_FOLDER = "model"
DESCRIPTION = "description.json"
"""File of a training with small facts about its fit, the rounds say at which it stopped."""
INPUTS = "inputs.json"
"""File of a training that says which table versions it read."""

log = logging.getLogger("mlops")


def fit_name(family_name: str) -> str:
    """Name of the asset of a family's fit."""
    return f"fit_{family_name}"


@dataclass(frozen=True)
class Fitted:
    """A fitted model and how it did on the validation days, which it was not fitted on.

    `choice` is what families are compared by: the mean loss over the search's folds and the
    validation, each a later block of days than was fitted on. One month alone is one draw of the
    weather. A baseline does not compete and has none. `threshold` is of binary tasks.
    """

    model: Model
    params: dict[str, Any]
    trials: list[TrialResult]
    threshold: float | None
    validation: Figures
    loss: float
    choice: float | None
    rows_train: int
    rows_valid: int
    search_seconds: float
    seconds: float


def fit(
    product: Product, family_name: str, rows: pl.DataFrame, on_trial: Any = lambda trial: None
) -> Fitted:
    """Search a family's parameters on folds of the training days, then fit it on all of them.

    Args:
        product: the declaration; a baseline is fitted without a search.
        family_name: the family.
        rows: the training set; its last `validation_days` days are the validation.
        on_trial: told each trial as it ends.
    """
    started = time.perf_counter()
    settings = product.training
    chosen = family(family_name)
    known = days_of_rows(rows)
    days = known.to_numpy()
    last: Any = known.max()
    train_rows, valid_rows = split_by_day(days, last, validation_days(product, rows))
    train, valid = to_fit_on(product.target, rows.filter(train_rows), rows.filter(valid_rows))
    target = train.target
    options = FitOptions(settings.seed, settings.threads, settings.device)
    trials: list[TrialResult] = []
    declared = settings.params.get(family_name, {})
    params = chosen.defaults() | declared
    fold_values: tuple[float, ...] = ()
    if family_name not in product.baselines:
        budget = settings.search
        fold = product.periods.within(budget.fold_days)
        folds = time_folds(days[train_rows], budget.folds, fold)
        result = search(
            chosen, train, folds, product.columns, trials=budget.trials, seconds=budget.seconds,
            options=options, max_rows=budget.rows, fixed=declared, on_trial=on_trial,
        )  # fmt: skip
        trials, params = list(result.trials), dict(result.best.params)
        fold_values = tuple(result.best.fold_values)
    model = chosen.fit(train, valid, product.columns, params, options)
    label, scores = target.check(valid.label, model.predict(valid.frame))
    threshold = target.choose_threshold(label, scores, settings.threshold)
    loss = target.loss(label, scores)
    choice = float(np.mean([*fold_values, loss])) if trials else None
    return Fitted(
        model, params, trials, threshold, target.figures(label, scores, threshold), loss, choice,
        train.frame.height, valid.frame.height, sum((t.seconds for t in trials), 0.0),
        time.perf_counter() - started,
    )  # fmt: skip


def fit_asset(product: Product, family_name: str) -> dg.AssetsDefinition:
    """The asset of one family's fit: a row of figures; the model is in its MLflow run."""
    name = fit_name(family_name)
    role = "baseline" if family_name in product.baselines else "family"

    @product.asset(
        name,
        fit_version(product, family_name),
        compute=product.training.compute,
        kinds=["mlflow"],
        description=f"The {role} {family_name}, fitted on the training set and judged on its"
        " validation days.",
        deps=[product.key(NAME)],
        automation_condition=content_changed(),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store = lakehouse.store
        version = store.version(product.table(NAME))
        rows = (
            store.scan(product.table(NAME), version=version)
            .collect()
            .sort(product.spine.entity_keys)
        )
        few = shortage(product, rows) if role == "family" else ""
        if few:
            return _left_out(context, store, product, family_name, few)
        inputs = made_of(store, product, version)
        tags = _tags(context, product, family_name, role, inputs)
        models = registry.store
        # The run of a retraining job, which dagster-mlflow tags; alone, a fit has none above it.
        parent = models.run_tagged(product.name, "dagster_run_id", context.run.run_id)
        with models.training_run(
            product.name, name=family_name, tags=tags, parent_run_id=parent
        ) as run:
            fitted = fit(product, family_name, rows, _trial_logger(run, family_name))
            run.log_json(INPUTS, inputs)
            digest = _keep(run, fitted, product)
            record = _record(
                family_name,
                role,
                run.run_id,
                digest,
                fitted,
                version,
                str(days_of_rows(rows).max()),
            )
        data_version = combine(model=digest, threshold=repr(fitted.threshold))
        commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
        store.overwrite(product.table(name), record, commit)
        figures = {k: v for k, v in fitted.validation.items() if v is not None}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata={
                **figures,
                "metric": fitted.loss,
                **({"threshold": fitted.threshold} if fitted.threshold is not None else {}),
                "seconds": fitted.seconds,
                "trials": len(fitted.trials),
                "params": dg.MetadataValue.json(fitted.params),
                "mlflow_run": dg.MetadataValue.url(models.link(product.name, run.run_id)),
            },
        )

    return asset


def fit_version(product: Product, family_name: str) -> str:
    """Code version of a family's fit: the code, the declaration and the libraries it rests on."""
    return product.code_version(fit, type(family(family_name)), _settings(product, family_name))


def _settings(product: Product, family_name: str) -> tuple[Any, ...]:
    """What a fit reads of the declaration; another family that competes changes none of it."""
    training = product.training
    searched = training.search if family_name not in product.baselines else None
    return (
        family_name, product.target, training.params.get(family_name), product.columns,
        training.validation_days, training.threshold, training.min_rows, training.min_class_rows,
        training.min_days, training.search.folds, training.search.fold_days, training.seed,
        training.threads, training.device, searched,
    )  # fmt: skip


def _trial_logger(run: RunLog, family_name: str) -> Any:
    def note(trial: TrialResult) -> None:
        if trial.value is None:
            log.warning("%s trial %d failed: %s", family_name, trial.number, trial.error)
            return
        log.info(
            "%s trial %d: loss %.4f in %.1f s",
            family_name,
            trial.number,
            trial.value,
            trial.seconds,
        )
        run.log_trial(
            family_name, trial.number, trial.params, trial.value, trial.fold_values, trial.seconds
        )

    return note


def _keep(run: RunLog, fitted: Fitted, product: Product) -> str:
    figures = fitted.validation
    run.log_metrics({f"validation_{k}": float(v) for k, v in figures.items() if v is not None})
    settings = {"threshold": fitted.threshold, "seed": product.training.seed}
    return keep_model(run, fitted.model, fitted.params | settings)


def keep_model(run: RunLog, model: Model, params: dict[str, Any]) -> str:
    """Keep a model, its description and its parameters in its MLflow run; return its digest."""
    run.log_params(params)
    run.log_json(DESCRIPTION, model.description())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / MODEL_FOLDER
        folder.mkdir()
        save_model(model, folder)
        digest = folder_digest(folder)
        run.log_folder(MODEL_FOLDER, folder)
    return digest


def _tags(
    context: dg.AssetExecutionContext,
    product: Product,
    family_name: str,
    role: str,
    inputs: dict[str, int],
) -> dict[str, str]:
    code = context.assets_def.code_versions_by_key[context.asset_key] or ""
    return {
        "product": product.name,
        "family": family_name,
        "role": role,
        "code_version": code,
        "materialized_by": context.run.run_id,
        "training_set_version": str(inputs[product.table(NAME)]),
        **{f"delta.{table.replace('/', '.')}": str(v) for table, v in inputs.items()},
    }


def _record(
    family_name: str,
    role: str,
    run_id: str,
    digest: str,
    fitted: Fitted,
    version: int,
    cutoff: str,
) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "family": family_name,
                "role": role,
                **fitted.validation,
                "loss": fitted.loss,
                "choice": fitted.choice,
                "threshold": fitted.threshold,
                "trials": len(fitted.trials),
                "search_seconds": fitted.search_seconds,
                "seconds": fitted.seconds,
                "rows_train": fitted.rows_train,
                "rows_valid": fitted.rows_valid,
                "params": json.dumps(fitted.params, sort_keys=True),
                "run_id": run_id,
                "digest": digest,
                "training_set_version": version,
                "cutoff": cutoff,
                "left_out": "",
            }
        ],
        schema_overrides=dict.fromkeys(
            ("choice", "threshold", *fitted.model.target.figure_names), pl.Float64
        ),
    )


def _left_out(
    context: dg.AssetExecutionContext,
    store: Lakehouse,
    product: Product,
    family_name: str,
    few: str,
) -> dg.MaterializeResult[Any]:
    """A family that does not compete this time: its row says why and has no figures."""
    record = pl.DataFrame([{"family": family_name, "role": "family", "left_out": few}])
    data_version = combine(left_out=few)
    commit = Commit(run_id=context.run.run_id, data_versions={"": data_version})
    store.overwrite(product.table(fit_name(family_name)), record, commit)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data_version), metadata={"left_out": few}
    )
