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
from mlops_assets.components.ml_product.performance import day_figures
from mlops_assets.components.ml_product.performance import schema as daily_schema
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.shadow import losses
from mlops_assets.components.ml_product.training_set import DAY, LABEL, days_of_rows
from mlops_assets.components.resources import LakehouseResource
from mlops_assets.ml.targets import BINARY, Target
from mlops_assets.stores.content import combine, content_hash
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.offline_features import requests_frame

NAME = "online_performance"
ARMS = "arms"
"""Table of the comparisons."""
CHAMPION_ARM = "champion"
REPETITIONS = 500
ARMS_SCHEMA: dict[str, Any] = {
    "champion_version": pl.Int64, "arm": pl.String, "arm_version": pl.Int64, "requests": pl.Int64,
    "labelled": pl.Int64, "days": pl.Int64, "loss_champion": pl.Float64,
    "loss_arm": pl.Float64, "gain": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip


def labelled_answers(store: Lakehouse, product: Product) -> pl.DataFrame:
    """Every logged answer with its entity key and its label, null where it is not known.

    Columns: the entity keys (`date` is the day, also of an hour), `prediction_id`, `role`, `arm`,
    `model_version`, those of the target's predictions, `label`.
    """
    target, keys = product.target, product.spine.entity_keys
    read = ["prediction_id", "role", "arm", "model_version", *target.column_names, "key"]
    rows = store.scan(product.table(requests.NAME)).select(read).collect()
    schema = store.schema(product.spine.table)
    entities = requests_frame(rows["key"].to_list(), {name: schema[name] for name in keys})
    answers = rows.drop("key").hstack(entities)
    labels = product.labels(store.scan(product.label.table)).collect()
    joined = answers.join(labels, on=keys, how="left", maintain_order="left")
    return joined.with_columns(days_of_rows(joined))


def daily(answers: pl.DataFrame, target: Target = BINARY) -> pl.DataFrame:
    """One row a local day, version, arm and role: the figures of `performance`."""
    by = ["role", "arm", "model_version", DAY]
    rows = [
        {"role": role, "arm": arm, **day_figures(day, part, target)}
        for (role, arm, _, day), part in answers.group_by(by, maintain_order=True)
    ]
    schema = {"role": pl.String, "arm": pl.String, **daily_schema(target)}
    return pl.DataFrame(rows, schema=schema).sort(DAY, "arm", "model_version", "role")


def arms(answers: pl.DataFrame, target: Target = BINARY) -> pl.DataFrame:
    """One row a version that ran beside a champion: both on the same requests, paired.

    `gain` is what it gains over the champion (`Target.gain`); its bounds resample whole local days,
    and are null with fewer than two of them.
    """
    lost = _with_losses(answers, target)
    champion = lost.filter(arm=CHAMPION_ARM).select(
        "prediction_id", DAY, pl.col("model_version").alias("champion_version"),
        pl.col("loss").alias("champion"),
    )  # fmt: skip
    others = lost.filter(pl.col("arm") != CHAMPION_ARM).select(
        "prediction_id", "arm", pl.col("model_version").alias("arm_version"), "loss"
    )
    both = champion.join(others, on="prediction_id")
    by = ["champion_version", "arm", "arm_version"]
    rows = [
        dict(zip(by, name, strict=True)) | _comparison(part, target)
        for name, part in both.group_by(by, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=ARMS_SCHEMA).sort(by)


def online_performance_asset(product: Product) -> dg.AssetsDefinition:
    """The asset; both tables are made anew, since labels come late and are corrected."""
    checked = dg.AssetSelection.assets(product.key(skew.NAME))
    agreed: Any = dg.AutomationCondition.all_deps_blocking_checks_passed()

    @product.asset(
        NAME,
        product.code_version(
            daily, arms, labelled_answers, product.label, product.module.label, product.target
        ),
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
        figures = daily(answers, product.target)
        compared = arms(answers, product.target)
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
                    figures.tail(10).select(
                        *("date", "arm", "role", "model_version", "rows", "labelled"),
                        pl.col(product.target.main_figures).round(4),
                    )
                ),
            },
        )

    return asset


def _with_losses(answers: pl.DataFrame, target: Target) -> pl.DataFrame:
    """The answers with the loss of each, null where its label is not known."""
    names = ["prediction_id", DAY, "arm", "model_version"]
    parts = [
        known.select(names).with_columns(pl.Series("loss", losses(target, known), pl.Float64))
        # Each version has classes of its own.
        for known in answers.drop_nulls(LABEL).partition_by("model_version", maintain_order=True)
    ]
    unknown = answers.filter(pl.col(LABEL).is_null()).select(
        *names, pl.lit(None, pl.Float64).alias("loss")
    )
    return pl.concat([*parts, unknown])


def _comparison(pairs: pl.DataFrame, target: Target) -> dict[str, Any]:
    known = pairs.drop_nulls("loss")
    row: dict[str, Any] = {
        "requests": pairs.height,
        "labelled": known.height,
        "days": known[DAY].n_unique(),
    }
    if known.is_empty():
        return row
    champion, arm = known["champion"].to_numpy(), known["loss"].to_numpy()
    scale = float(champion.mean()) if target.is_relative else 1.0
    found = row | {
        "loss_champion": float(champion.mean()),
        "loss_arm": float(arm.mean()),
        "gain": float((champion - arm).mean()) / scale if scale else 0.0,
    }
    if row["days"] < 2:
        return found
    gain = target.gain_of(arm, champion, known[DAY], repetitions=REPETITIONS)
    return found | {"low": gain.low, "high": gain.high}
