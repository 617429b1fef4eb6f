"""What a product's defs.yaml may say: every field with its unit, its default and its meaning."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BeforeValidator, ConfigDict, Field


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is no day; write it as 2013-07-31") from None


Day = Annotated[date, BeforeValidator(_day)]


class Part(dg.Model):
    """A part of the declaration; a field that is not known is an error."""

    model_config = ConfigDict(allow_inf_nan=False)


class Spine(Part):
    """The rows to predict."""

    table: str = Field(
        description="Table that holds them, domain/table. Its partitions, hourly to monthly,"
        " are those of the product; lengths elsewhere are calendar days in any case."
    )
    entity_keys: list[str] = Field(
        min_length=1, description="Columns that identify a row; `date` is its day."
    )
    time: str = Field(
        default="",
        description="Column (UTC) of the moment that a row speaks of, where no `problem` says it;"
        " empty for a table without a clock.",
    )
    lead_hours: float = Field(
        default=0, ge=0, description="Hours between the prediction and the row's own time."
    )


class Label(Part):
    """What is to be predicted."""

    table: str = Field(
        default="",
        description="Table that the label is read from, domain/table; the spine's where empty.",
    )
    column: str = Field(
        default="", description="Its column that is the label, where no `problem` says it."
    )
    positive: str | int | float | bool | None = Field(
        default=None,
        description="Of a binary task: the value that counts as 1; all others count as 0.",
    )
    known_after_days: int = Field(
        default=0, ge=0, description="Local days after a row's day by which its label is known."
    )


class Features(Part):
    """What the model reads."""

    declared_in: str = Field(
        default="",
        description="Python module that declares the feature tables; where empty, the module"
        " features of each table's domain.",
    )
    tables: list[str] = Field(
        default=[], description="Feature tables, domain/table; all their features."
    )
    numeric: list[str] = Field(default=[], description="Numeric columns of the spine.")
    categorical: list[str] = Field(default=[], description="Categorical columns of the spine.")


class Search(Part):
    """How far each family is tuned; the first trial is the family's defaults."""

    trials: int = Field(default=4, ge=1, description="Greatest number of trials a family.")
    seconds: float = Field(default=20, gt=0, description="Seconds after which no trial begins.")
    folds: int = Field(default=2, ge=1, description="Time-ordered folds within the training days.")
    fold_days: int = Field(default=30, ge=1, description="Days in a fold's validation block.")
    rows: int = Field(default=60_000, ge=1000, description="Greatest rows to fit on in a trial.")


class Training(Part):
    """How a candidate comes about."""

    first_cutoff: Day = Field(description="Last local day of the first training set.")
    validation_days: int = Field(
        default=31,
        ge=1,
        description="Last days of a training set: early stopping, threshold, choice of the family.",
    )
    holdout_days: int = Field(
        default=28, ge=1, description="Newest labelled days that a retraining leaves to evaluation."
    )
    families: list[str] = Field(
        default=["hist_gradient_boosting", "xgboost", "embedding_mlp"],
        min_length=1,
        description="Families that compete; each is a file in ml/families/.",
    )
    baseline: str | list[str] = Field(
        default=[],
        description="Family or families that every candidate must beat, untuned; of several the"
        " best on the validation days counts. Where empty, logistic_regression or"
        " linear_regression.",
    )
    params: dict[str, dict[str, Any]] = Field(
        default={}, description="Family to parameters that differ from its defaults."
    )
    metric: str = Field(
        default="",
        description="The loss that families are compared by and gates judge. Of a regression"
        " squared_error (where empty), absolute_error or poisson_deviance; else log_loss.",
    )
    compute: Literal["standard", "high_memory", "gpu"] = Field(
        default="standard",
        description="Where fits run, as the tag `compute` of their assets; a deployment binds it.",
    )
    search: Search = Field(default=Search(), description="Budget of the search.")
    threshold: Literal["f1", "accuracy", "youden"] = Field(
        default="f1",
        description="Of a binary task: what the decision threshold maximizes (validation days).",
    )
    seed: int = Field(default=7, description="Seed of searches and fits.")
    min_rows: int = Field(
        default=1_000,
        ge=1,
        description="Labelled rows below which the baseline stands in for a searched family.",
    )
    min_class_rows: int = Field(
        default=50, ge=1, description="Rows of the rarer class below which it does."
    )
    min_days: int = Field(
        default=1,
        ge=1,
        description="Days below which it does; never fewer than validation and folds take.",
    )
    refit_on_all: bool = Field(
        default=False,
        description="Whether what is promoted is fitted once more, on all labels and with the"
        " parameters of the candidate that was evaluated; else the candidate itself is.",
    )
    threads: int = Field(default=2, ge=1, description="Threads of a fit.")
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="auto", description="Where a fit runs; auto takes a GPU where there is one."
    )


class Gates(Part):
    """The numbers that a candidate must meet, on rows that neither model was trained on."""

    min_gain_over_baseline: float = Field(
        default=0.0,
        description="Lower bound of the paired gain over the baseline: nats of log loss, of a"
        " regression a share of the baseline's loss.",
    )
    champion_margin: float | None = Field(
        default=None,
        ge=0,
        description="By how much it may be worse than the champion: nats of log loss (.002 where"
        " empty; of several classes .01), of a regression a share of the champion's loss (.02).",
    )
    leak_auc: float = Field(
        default=0.99,
        gt=0.5,
        le=1,
        description="AUC from which on a leak is suspected; of several classes their mean. 1"
        " suspects none.",
    )
    leak_explained: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Of a regression: share of the mean's loss that is explained, from which on a"
        " leak is suspected. 1 suspects none.",
    )
    min_calibration_slope: float = Field(
        default=0.7,
        gt=0,
        lt=1,
        description="Least slope of the outcomes on the model's log-odds, or numbers (lower bound);"
        " 1 is as sure as it may be, 0.5 is twice too sure.",
    )
    min_rows: int = Field(default=500, ge=1, description="Least rows to be judged on.")
    min_days: int = Field(default=14, ge=2, description="Least days to be judged on.")


class Evaluation(Part):
    """What the report on a candidate shows."""

    segments: list[str] | None = Field(
        default=None,
        description="Categorical columns by which the figures are split, beside the month; all of"
        " the model's where empty. Of each the most frequent values.",
    )


class RequestField(Part):
    """A column of the spine's table as a caller of the endpoint sees it, of the table's type."""

    description: str = Field(default="", description="What it is, for the endpoint's document.")
    unit: str = Field(default="", description="Unit in words, as miles; empty where it has none.")
    example: str | bool | int | float = Field(description="A value that stands in the document.")
    required: bool = Field(
        default=True, description="Given by the caller; if not, looked up in the spine's table."
    )


class Serving(Part):
    """What a caller gives, and what the served model may cost, measured on the Bento built."""

    request: dict[str, RequestField] = Field(
        default={},
        description="Columns of the spine's table that a caller of the endpoint gives, in order;"
        " where empty, its keys, its time and the columns that the model reads.",
    )
    on_demand: str = Field(
        default="",
        description="Function in a domain's expressions module that the spine and the endpoint"
        " share: module.function. Where no `problem` makes the spine, its expressions give further"
        " columns of a row, to be read as features or looked up by.",
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu", description="Where the model runs; cuda refuses to start without a GPU."
    )

    single_row_ms: float = Field(
        default=150,
        gt=0,
        description="95th percentile of a request of one row, in the best of rounds (ms).",
    )
    bulk_row_ms: float = Field(
        default=2, gt=0, description="Time of each row in a request of many rows (ms)."
    )
    model_mb: float = Field(default=100, gt=0, description="Size of the model's files (MB).")
    server_mb: float = Field(
        default=1500, gt=0, description="Resident memory of the server and its workers (MB)."
    )
    online_days: int = Field(
        default=7,
        ge=1,
        description="Newest local days whose rows can be asked for online; of rows without a time,"
        " all can.",
    )


class Promotion(Part):
    """Who says yes."""

    approval: Literal["none", "required"] = Field(
        default="none", description="`required`: a passed candidate waits for a person."
    )


class Card(Part):
    """What a person should know before they use a model; it stands on every champion's card."""

    intended_use: str = Field(default="", description="For whom and for what predictions are.")
    limits: list[str] = Field(
        default=[], description="What it should not be used for, or is known to get wrong."
    )
    licences: dict[str, str] = Field(
        default={},
        description="Raw table, domain/table, to the licence of its data, where the table itself"
        " does not state it (`@raw_table(licence=…)`).",
    )


class Compliance(Part):
    """What the law, or the house, asks of the model; each is a gate."""

    personal: list[str] = Field(
        default=[],
        description="Columns that are personal data, beside those marked so in a contract; none of"
        " them may reach the model or the endpoint's log.",
    )
    sensitive: dict[str, float] = Field(
        default={},
        description="Column of the spine to the greatest gap of the loss between two of its groups,"
        " as a share of the mean loss.",
    )
    refused_licences: list[str] = Field(
        default=[], description="Licences of data that the product may not be made of."
    )


class Monitoring(Part):
    """What is watched after promotion."""

    drift_window_days: int = Field(default=28, ge=1, description="Length of the trailing window.")
    drift_threshold: float = Field(
        default=0.1, gt=0, description="Value of a column's statistic from which on it has drifted."
    )
    report_rows: int = Field(
        default=5_000, ge=100, description="Rows a side sampled for the Evidently report."
    )
    report_days: int = Field(
        default=1,
        ge=0,
        description="Days from one with an Evidently report and pictures to the next; 0 for none.",
    )


class Retraining(Part):
    """What opens a retrain case, what decides it, and how long the predecessor stays near.

    The defaults follow a walk through 2013 (docs/monitoring.md): single months are noisy, seasons
    always drift, and a retraining pays when a probe gains or the data has grown by a third.
    """

    mode: Literal["auto", "notify", "off"] = Field(
        default="auto",
        description="auto: cases are decided and retrainings launched; notify: cases are decided,"
        " a person launches; off: no case opens by itself.",
    )
    window_days: int = Field(
        default=28, ge=4, description="Days of the trailing window of bias, loss and label rate."
    )
    fired_days: int = Field(
        default=5, ge=1, description="Days on which a daily signal must fire, of `of_days`."
    )
    of_days: int = Field(default=7, ge=1, description="Days among which it must fire so often.")
    cool_down_days: int = Field(
        default=14,
        ge=0,
        description="Days after a promotion or a decision on which no case is looked for.",
    )
    calibration_bias: float = Field(
        default=0.03,
        gt=0,
        description="Mean prediction off the label rate, either way (share); of a regression off"
        " the mean label, as a share of the training set's.",
    )
    loss: float = Field(
        default=0.0,
        description="Loss above the upper bound of the champion's evaluation, in its unit.",
    )
    prediction_drift: float = Field(
        default=0.2, gt=0, description="Distance of the predictions (standard deviations)."
    )
    covariate_drift: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of the champion's importance that stands in drifted columns.",
    )
    label_rate: float = Field(
        default=0.05,
        gt=0,
        description="Label rate off the training set's, either way (share); of a regression its"
        " mean, as a share. Not of several classes.",
    )
    growth: float = Field(
        default=0.33, gt=0, description="New rows to train on, as a share of the training set's."
    )
    schedule_days: int = Field(
        default=92, ge=1, description="Days since the champion's cut-off: a calendar retrain."
    )
    probe_margin: float | None = Field(
        default=None,
        ge=0,
        description="What a probe must gain over the champion: nats of log loss (.004 where empty;"
        " of several classes .01), of a regression a share of the champion's loss (.02).",
    )
    probe_days: int = Field(
        default=28, ge=2, description="Newest labelled days, which the probe is judged on."
    )
    min_new_labels: int = Field(
        default=1_000, ge=0, description="Labelled rows that a training set must gain at least."
    )
    shadow_days: int = Field(
        default=28, ge=0, description="Days that a replaced champion goes on scoring; 0 for none."
    )
    shadow_min_days: int = Field(
        default=10, ge=2, description="Labelled days of the shadow before it can come back."
    )
    rollback_margin: float | None = Field(
        default=None,
        ge=0,
        description="By how much the new champion must surely be worse to go: nats of log loss"
        " (.002 where empty; of several classes .01), of a regression a share of the"
        " predecessor's loss (.02).",
    )
    calendar: str = Field(
        default="0 6 1 * *",
        description="Cron (UTC) of the schedule <product>_calendar_retrain, which is off at first.",
    )
