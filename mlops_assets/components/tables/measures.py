"""What there is of each day: the figures that a table's checks compare. Pure polars.

`measure` gives one row a day, named by what was counted; judge.py reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from mlops_assets.components.tables.quality import DAY, Quality
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME

LEAST_READINGS = 12
"""Fewer equal readings than this of a day are not called frozen."""


@dataclass(frozen=True)
class Known:
    """What the table holds already that a day is compared with.

    Attributes:
        rows: published rows of each day, under None for a table without days; absent if none.
        around: published rows of the days before and after those that are judged.
    """

    rows: Mapping[date | None, int] = field(default_factory=dict)
    around: pl.DataFrame | None = None


def measure(
    good: pl.DataFrame,
    rejected: pl.DataFrame,
    days: list[date] | None,
    quality: Quality,
    known: Known,
    order_by: tuple[str, ...] = (),
) -> pl.DataFrame:
    """One row for each day, also for those without rows; one in all where `days` is None.

    Args:
        good: rows that keep the contract, with a `date` column where `days` is given.
        rejected: rows that break it, with a `rule` column that names the rules.
        days: the days to count.
        quality: says what to count.
        known: what is published.
        order_by: keys within which rows must become available in the order of `event_time`.
    """
    everything = [] if days is not None else [pl.lit(None, pl.Date).alias(DAY)]
    good, rejected = good.with_columns(everything), rejected.with_columns(everything)
    asked: list[date | None] = list(days) if days is not None else [None]
    published = [known.rows.get(day) for day in asked]
    parts = [
        good.group_by(DAY).agg(_of_good_rows(quality)),
        rejected.group_by(DAY).agg(
            pl.len().alias("rejected"),
            pl.col("rule").str.split(", ").explode().value_counts(sort=True).alias("rules"),
        ),
    ]
    if quality.varies:
        parts.append(_frozen(good, quality))
    if order_by and days is not None:
        parts.append(_out_of_order(good, known.around, order_by))
    facts = pl.DataFrame(
        {DAY: asked, "published": published}, {DAY: good.schema[DAY], "published": pl.Int64}
    )
    for part in parts:
        facts = facts.join(part, on=DAY, how="left", nulls_equal=True, maintain_order="left")
    return facts.with_columns(pl.col("rows", "rejected").fill_null(0))


def _of_good_rows(quality: Quality) -> list[pl.Expr]:
    return [
        pl.len().alias("rows"),
        *(pl.col(c).is_null().mean().alias(f"missing:{c}") for c in quality.max_missing),
        *(
            (~pl.col(c).is_between(low, high)).mean().fill_null(0.0).alias(f"outside:{c}")
            for c, (low, high) in quality.plausible.items()
        ),
        *(rule.mean().alias(f"share:{n}") for n, (rule, _, _) in quality.balance.items()),
        *(value.median().alias(f"median:{n}") for n, (value, _, _) in quality.medians.items()),
    ]


def _frozen(good: pl.DataFrame, quality: Quality) -> pl.DataFrame:
    """Of each day, sentences that say which gauge read the same all day."""
    where = pl.concat_str(*quality.varies_by, separator=" ") if quality.varies_by else pl.lit("")
    sentences = []
    for column in quality.varies:
        read = pl.col(column).drop_nulls()
        same = (read.n_unique() == 1) & (read.len() >= LEAST_READINGS)
        sentence = pl.format(
            f"{{}} {column} is {{}} in all {{}} readings", where.first(), read.first(), read.len()
        )
        sentences.append(pl.when(same).then(sentence).alias(column))
    return (
        good.group_by(DAY, *quality.varies_by, maintain_order=True)
        .agg(sentences)
        .select(DAY, pl.concat_list(quality.varies).list.drop_nulls().alias("frozen"))
        .explode("frozen")
        .group_by(DAY)
        .agg(pl.col("frozen").drop_nulls())
    )


def _out_of_order(
    good: pl.DataFrame, around: pl.DataFrame | None, keys: tuple[str, ...]
) -> pl.DataFrame:
    """Of each day, the rows that became available before an earlier one, or after a later one.

    A second row of a key and event time counts too: a look-up could not tell which is newer.
    """
    wanted = [DAY, *keys, EVENT_TIME, AVAILABLE_AT]
    rows = good.select(wanted)
    if around is not None:
        rows = pl.concat([rows, around.select(wanted)])
    available = pl.col(AVAILABLE_AT)
    earlier = available.cum_max().shift(1).over(keys, order_by=EVENT_TIME)
    later = available.cum_min(reverse=True).shift(-1).over(keys, order_by=EVENT_TIME)
    twice = pl.len().over(*keys, EVENT_TIME) > 1
    wrong = (earlier > available).fill_null(False) | (later < available).fill_null(False) | twice
    sentence = pl.format(
        "{} of {} is available {}",
        pl.concat_str(*keys, separator=" "), EVENT_TIME, AVAILABLE_AT,
    )  # fmt: skip
    return (
        rows.filter(wrong)
        .group_by(DAY)
        .agg(
            pl.len().alias("out_of_order"),
            sentence.sort_by(EVENT_TIME).first().alias("first_of_them"),
        )
    )
