"""A computed frame before it is published: held to its contract, and each day judged. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import dataframely as dy
import polars as pl

from mlops_assets.components.tables.judge import Verdict, judge
from mlops_assets.components.tables.measures import Known, measure
from mlops_assets.components.tables.quality import Quality, checks_of

RULE = "rule"


@dataclass(frozen=True)
class Table:
    """What publishing needs to know of a table.

    Attributes:
        name: "domain/table".
        contract: what a row must be.
        quality: what a day is expected to be.
        code_version: version of the code that computes it.
        arrives: whether it is read from a source, whose days may come again.
        order_by: keys within which look-ups rely on rows becoming available in order.
    """

    name: str
    contract: type[dy.Schema] | None
    quality: Quality
    code_version: str
    arrives: bool = False
    order_by: tuple[str, ...] = ()

    @property
    def quarantine(self) -> str:
        """Name of the table of rows that were refused."""
        return f"{self.name}_quarantine"

    @property
    def checks(self) -> list[str]:
        """Names of its checks."""
        return checks_of(self.quality, self.contract is not None, self.arrives, bool(self.order_by))


@dataclass(frozen=True)
class Examined:
    """Rows that keep the contract, rows that do not with the rules they break, and the verdicts."""

    good: pl.DataFrame
    rejected: pl.DataFrame
    verdicts: list[Verdict]


def examine(
    frame: pl.DataFrame, table: Table, days: list[date] | None, known: Known | None = None
) -> Examined:
    """Hold the rows to the contract and judge each of `days`; None for a table without days."""
    good, rejected = _sort_out(frame, table)
    facts = measure(good, rejected, days, table.quality, known or Known(), table.order_by)
    return Examined(good, rejected, judge(facts, table.quality, table.checks, table.name))


def _sort_out(frame: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    if table.contract is None:
        return frame, frame.clear().with_columns(pl.lit("").alias(RULE))
    good, failure = table.contract.filter(frame)
    broken = failure.details()
    rules = [c for c in broken.columns if c not in frame.columns]
    named = pl.concat_list(
        pl.when(pl.col(r) == "invalid").then(pl.lit(r.replace("|", ": "))) for r in rules
    )
    rule = named.list.drop_nulls().list.join(", ").alias(RULE) if rules else pl.lit("").alias(RULE)
    rejected = broken.select(*good.columns, rule.cast(pl.String))
    return good.select(frame.columns), rejected.select(*frame.columns, RULE)
