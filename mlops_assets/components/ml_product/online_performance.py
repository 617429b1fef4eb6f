"""Stage 19: how the served answers did once labels are there, and versions side by side.

The answers of every version that ran, given or in shadow, join the labels by the row's own key.
Versions that ran beside the champion logged the same requests, so that they are compared paired,
with an interval over days. Decides nothing. Withheld while servers and the offline path disagree.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import days_changed
from mlops_assets.components.metadata import table
from mlops_assets.components.ml_product import requests, skew
from mlops_assets.components.ml_product.performance import SCHEMA as DAILY
from mlops_assets.components.ml_product.performance import day_figures
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.training_set import DAY, LABEL
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.ml.bootstrap import Interval, paired_gain
from mlops_assets.ml.metrics import log_losses
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.offline_features import requests_frame

NAME = "online_performance"
ARMS = "arms"
"""Table of the comparisons."""
CHAMPION_ARM = "champion"
REPETITIONS = 500
SCHEMA: dict[str, Any] = {"role": pl.String, "arm": pl.String, **DAILY}
ARMS_SCHEMA: dict[str, Any] = {
    "champion_version": pl.Int64, "arm": pl.String, "arm_version": pl.Int64, "requests": pl.Int64,
    "labelled": pl.Int64, "days": pl.Int64, "log_loss_champion": pl.Float64,
    "log_loss_arm": pl.Float64, "gain": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip


def labelled_answers(store: Lakehouse, product: Product) -> pl.DataFrame:
    """Every logged answer with its entity key and its label, null where it is not known.

    Columns: the entity keys, `prediction_id`, `role`, `arm`, `model_version`, `probability`,
    `threshold`, `label`.
    """
    read = ["prediction_id", "role", "arm", "model_version", "probability", "threshold", "key"]
    rows = store.scan(product.table(requests.NAME)).select(read).collect()
    keys, schema = product.spine.entity_keys, store.schema(product.spine.table)
    entities = requests_frame(rows["key"].to_list(), {name: schema[name] for name in keys})
    answers = rows.drop("key").hstack(entities)
    labels = product.module.label(store.scan(product.label.table)).select(*keys, LABEL).collect()
    return answers.join(labels, on=keys, how="left", maintain_order="left")


def daily(answers: pl.DataFrame) -> pl.DataFrame:
    """One row a local day, version, arm and role: the figures of `performance`."""
    by = ["role", "arm", "model_version", DAY]
    rows = [
        {"role": role, "arm": arm, **day_figures(day, part)}
        for (role, arm, _, day), part in answers.group_by(by, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA).sort(DAY, "arm", "model_version", "role")


def arms(answers: pl.DataFrame) -> pl.DataFrame:
    """One row a version that ran beside a champion: both on the same requests, paired.

    `gain` is the log loss (nats a request) that it gains over the champion; its bounds resample
    whole local days, and are null with fewer than two of them.
    """
    pair = ["prediction_id", *(k for k in (DAY, LABEL) if k in answers.columns)]
    champion = answers.filter(arm=CHAMPION_ARM).select(
        *pair, pl.col("model_version").alias("champion_version"),
        pl.col("probability").alias("champion"),
    )  # fmt: skip
    others = answers.filter(pl.col("arm") != CHAMPION_ARM).select(
        "prediction_id", "arm", pl.col("model_version").alias("arm_version"), "probability"
    )
    both = champion.join(others, on="prediction_id")
    by = ["champion_version", "arm", "arm_version"]
    rows = [
        dict(zip(by, name, strict=True)) | _comparison(part)
        for name, part in both.group_by(by, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=ARMS_SCHEMA).sort(by)


def online_performance_asset(product: Product) -> dg.AssetsDefinition:
    """The asset; both tables are made anew, since labels come late and are corrected."""
    checked = dg.AssetSelection.assets(product.key(skew.NAME))
    agreed: Any = dg.AutomationCondition.all_deps_blocking_checks_passed()

    @product.asset(
        NAME,
        product.code_version(daily, arms, labelled_answers, product.label, product.module.label),
        description="Daily figures of served answers, and of versions that ran beside the champion,"
        " compared on the same requests.",
        deps=[
            product.key(requests.NAME),
            product.key(skew.NAME),
            dg.AssetKey(product.label.table.split("/")),
        ],
        automation_condition=days_changed() & agreed.allow(checked),
    )
    def asset(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[Any]:
        store = lakehouse.store
        answers = labelled_answers(store, product)
        figures, compared = daily(answers), arms(answers)
        commit = Commit(run_id=context.run.run_id)
        version = store.overwrite(product.table(NAME), figures, commit)
        store.overwrite(product.table(ARMS), compared, commit)
        content = combine(daily=content_hash(figures), arms=content_hash(compared))
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content),
            metadata={
                "rows": figures.height,
                "answers": answers.height,
                "labelled": answers[LABEL].count(),
                "delta_version": version,
                "arms": table(compared.with_columns(pl.selectors.float().round(4))),
                "newest": table(
                    figures.tail(10).select("date", "arm", "role", "model_version", "rows",
                                            "labelled", pl.col("log_loss", "auc").round(4))
                ),
            },
        )  # fmt: skip

    return asset


def _comparison(pairs: pl.DataFrame) -> dict[str, Any]:
    known = pairs.drop_nulls(LABEL)
    row: dict[str, Any] = {
        "requests": pairs.height,
        "labelled": known.height,
        "days": known[DAY].n_unique(),
    }
    if known.is_empty():
        return row
    losses = {
        arm: float(log_losses(known[LABEL].to_numpy(), known[column].to_numpy()).mean())
        for arm, column in {"champion": "champion", "arm": "probability"}.items()
    }
    gain = _gain(known)
    return row | {
        "log_loss_champion": losses["champion"],
        "log_loss_arm": losses["arm"],
        "gain": losses["champion"] - losses["arm"],
        "low": gain.low if gain else None,
        "high": gain.high if gain else None,
    }


def _gain(known: pl.DataFrame) -> Interval | None:
    if known[DAY].n_unique() < 2:
        return None
    return paired_gain(
        known[LABEL], known["probability"], known["champion"], known[DAY], repetitions=REPETITIONS
    )
