"""What a day of a table is expected to be, and how a day is judged against it.

`Quality` is the declaration; `judge` gives one verdict for each day and check. A blocking check
that fails withholds the day; the others only show. Pure polars, no Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

DAY = "date"
OUTLIER_SHARE = 0.01


@dataclass(frozen=True)
class Quality:
    """Expectations of one day (or of the whole table, where it has no days).

    Attributes:
        rows: least and greatest number of rows; blocks.
        max_rejected: greatest share of rows that may break the contract; blocks.
        max_missing: column to the greatest share of nulls; shows.
        plausible: column to (low, high): at most one value in a hundred may lie outside; shows.
        balance: name of a boolean rule to (expression, least share, greatest share); shows.
    """

    rows: tuple[int, int] | None = None
    max_rejected: float = 0.01
    max_missing: Mapping[str, float] = field(default_factory=dict)
    plausible: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    balance: Mapping[str, tuple[pl.Expr, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One check on one day: what was found, and a sentence that says what would be good."""

    check: str
    day: str | None
    passed: bool
    blocks: bool
    detail: str
    facts: Mapping[str, Any]


CHECKS = {
    "contract": (True, "Rows keep the contract; those that do not are in the quarantine table."),
    "duplicates": (True, "No two rows have the same key."),
    "volume": (True, "As many rows as a day has."),
    "missing_values": (False, "No column has more nulls than usual."),
    "outliers": (False, "Values lie where they usually do; a shifted unit shows here."),
    "class_balance": (False, "The classes keep a usual share."),
}
"""Name of each check to (blocks, what it says)."""


def checks_of(quality: Quality, has_contract: bool) -> list[str]:
    """Names of the checks that a table with these expectations has."""
    present = {
        "contract": has_contract,
        "duplicates": has_contract,
        "volume": quality.rows is not None,
        "missing_values": bool(quality.max_missing),
        "outliers": bool(quality.plausible),
        "class_balance": bool(quality.balance),
    }
    return [name for name, there in present.items() if there]


def judge(
    good: pl.DataFrame,
    rejected: pl.DataFrame,
    days: list[date] | None,
    quality: Quality,
    checks: list[str],
    table: str,
) -> list[Verdict]:
    """One verdict for each day and check.

    Args:
        good: rows that keep the contract, with a `date` column where `days` is given.
        rejected: rows that break it, with a `rule` column that names the rules.
        days: the days to judge, also those without a row; None for a table without days.
        quality: what is expected.
        checks: names of the checks to make, from `checks_of`.
        table: name for the messages.
    """
    facts = _facts(good, rejected, days, quality)
    verdicts = []
    for fact in facts.iter_rows(named=True):
        day = fact[DAY].isoformat() if days is not None else None
        where = f"{table} {day}" if day else table
        for check in checks:
            passed, detail, shown = _JUDGES[check](fact, quality)
            verdicts.append(
                Verdict(check, day, passed, CHECKS[check][0], f"{where}: {detail}", shown)
            )
    return verdicts


def _facts(
    good: pl.DataFrame, rejected: pl.DataFrame, days: list[date] | None, quality: Quality
) -> pl.DataFrame:
    low_high = quality.plausible.items()
    measures = [
        pl.len().alias("rows"),
        *(pl.col(c).is_null().mean().alias(f"missing:{c}") for c in quality.max_missing),
        *(
            (~pl.col(c).is_between(low, high)).mean().fill_null(0.0).alias(f"outside:{c}")
            for c, (low, high) in low_high
        ),
        *(rule.mean().alias(f"share:{n}") for n, (rule, _, _) in quality.balance.items()),
    ]
    refused = [
        pl.len().alias("rejected"),
        pl.col("rule").str.contains("primary_key").sum().alias("duplicates"),
    ]
    if days is None:
        return good.select(measures).hstack(rejected.select(refused))
    return (
        pl.DataFrame({DAY: days}, schema={DAY: pl.Date})
        .join(good.group_by(DAY).agg(measures), on=DAY, how="left", maintain_order="left")
        .join(rejected.group_by(DAY).agg(refused), on=DAY, how="left", maintain_order="left")
        .with_columns(pl.col("rows", "rejected", "duplicates").fill_null(0))
    )


Judgement = tuple[bool, str, dict[str, Any]]


def _contract(fact: dict[str, Any], quality: Quality) -> Judgement:
    rejected, total = fact["rejected"], fact["rows"] + fact["rejected"]
    share = rejected / total if total else 0.0
    detail = (
        f"{rejected} of {total} rows break the contract"
        f" ({share:.2%}; at most {quality.max_rejected:.2%} may)"
    )
    return share <= quality.max_rejected, detail, {"rows": total, "quarantined": rejected}


def _duplicates(fact: dict[str, Any], quality: Quality) -> Judgement:
    doubled, total = fact["duplicates"], fact["rows"] + fact["rejected"]
    passed = doubled <= quality.max_rejected * total
    return passed, f"{doubled} rows share their key with another", {"duplicates": doubled}


def _volume(fact: dict[str, Any], quality: Quality) -> Judgement:
    low, high = quality.rows or (0, 0)
    rows = fact["rows"]
    detail = f"{rows} rows, expected {low} to {high}; is the source complete?"
    return low <= rows <= high, detail, {"rows": rows, "least": low, "greatest": high}


def _missing(fact: dict[str, Any], quality: Quality) -> Judgement:
    shares = {c: fact[f"missing:{c}"] or 0.0 for c in quality.max_missing}
    over = {c: s for c, s in shares.items() if s > quality.max_missing[c]}
    detail = _listing(over, quality.max_missing) or "no column misses more values than usual"
    return not over, detail, shares


def _outliers(fact: dict[str, Any], quality: Quality) -> Judgement:
    shares = {c: fact[f"outside:{c}"] or 0.0 for c in quality.plausible}
    over = {c: s for c, s in shares.items() if s > OUTLIER_SHARE}
    named = (f"{c}: {s:.1%} outside {quality.plausible[c]}" for c, s in over.items())
    return not over, "; ".join(named) or "values lie where they usually do", shares


def _class_balance(fact: dict[str, Any], quality: Quality) -> Judgement:
    shares = {n: fact[f"share:{n}"] for n in quality.balance}
    bounds = {n: (low, high) for n, (_, low, high) in quality.balance.items()}
    off = {n: s for n, s in shares.items() if s is None or not bounds[n][0] <= s <= bounds[n][1]}
    named = (f"{n}: share {s}, expected {bounds[n]}" for n, s in off.items())
    return not off, "; ".join(named) or "classes keep their usual share", shares


def _listing(found: Mapping[str, float], limits: Mapping[str, float]) -> str:
    return "; ".join(f"{c}: {s:.1%} missing, at most {limits[c]:.1%}" for c, s in found.items())


_JUDGES = {
    "contract": _contract,
    "duplicates": _duplicates,
    "volume": _volume,
    "missing_values": _missing,
    "outliers": _outliers,
    "class_balance": _class_balance,
}
