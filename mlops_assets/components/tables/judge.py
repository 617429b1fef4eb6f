"""How a day is judged: its figures beside what is expected, one verdict for each day and check.

Pure: the figures come from measures.py, the expectations from the table's `Quality`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mlops_assets.components.tables.quality import CHECKS, DAY, Quality
from mlops_assets.ml.periods import name_of

OUTLIER_SHARE = 0.01

Fact = Mapping[str, Any]
Judgement = tuple[bool, str, dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """One check on one day: what was found, and a sentence that says what would be good."""

    check: str
    day: str | None
    passed: bool
    blocks: bool
    detail: str
    facts: Mapping[str, Any]


def judge(facts: pl.DataFrame, quality: Quality, checks: list[str], table: str) -> list[Verdict]:
    """One verdict for each day and check.

    Args:
        facts: one row a day, from `measure`; the day is null for a table without days.
        quality: what is expected.
        checks: names of the checks to make, from `checks_of`.
        table: name for the messages.
    """
    verdicts = []
    for fact in facts.iter_rows(named=True):
        day = name_of(fact[DAY]) if fact[DAY] else None
        where = f"{table} {day}" if day else table
        for check in checks:
            passed, detail, shown = _JUDGES[check](fact, quality)
            verdicts.append(
                Verdict(check, day, passed, CHECKS[check][0], f"{where}: {detail}", shown)
            )
    return verdicts


def _contract(fact: Fact, quality: Quality) -> Judgement:
    rejected, total = fact["rejected"], fact["rows"] + fact["rejected"]
    share = rejected / total if total else 0.0
    rules = {entry["rule"]: entry["count"] for entry in fact["rules"] or []}
    named = "".join(f"; {rule}: {count}" for rule, count in list(rules.items())[:3])
    detail = (
        f"{rejected} of {total} rows break the contract"
        f" ({share:.2%}; at most {quality.max_rejected:.2%} may){named}"
    )
    return share <= quality.max_rejected, detail, {"rows": total, "quarantined": rejected, **rules}


def _volume(fact: Fact, quality: Quality) -> Judgement:
    """Within the bounds; and of what is published not too much may be gone."""
    rows, before = fact["rows"], fact["published"]
    shown = {"rows": rows}
    said, passed = f"{rows} rows", True
    if quality.rows:
        low, high = quality.rows
        shown |= {"least": low, "greatest": high}
        said, passed = f"{said}, expected {low} to {high}", low <= rows <= high
    if before:
        lost = max(0, before - rows) / before
        shown |= {"published": before}
        said += f"; of {before} published {lost:.1%} are gone, at most {quality.max_lost:.1%} may"
        if lost > quality.max_lost:
            passed = False
            said += " (if fewer are right, raise max_lost in the table's Quality)"
    return passed, f"{said}; is the source complete?", shown


def _medians(fact: Fact, quality: Quality) -> Judgement:
    bounds = {n: (low, high) for n, (_, low, high) in quality.medians.items()}
    return _between(fact, "median", bounds, "medians lie where a day's do", "is the unit as before")


def _in_order(fact: Fact, quality: Quality) -> Judgement:
    wrong = fact["out_of_order"] or 0
    detail = (
        f"{wrong} rows do not become available in the order of their event_time, first"
        f" {fact['first_of_them']}; a look-up by days would miss the newest"
        if wrong
        else "rows become available in the order of their event_time"
    )
    return not wrong, detail, {"out_of_order": wrong}


def _missing(fact: Fact, quality: Quality) -> Judgement:
    shares = {c: fact[f"missing:{c}"] or 0.0 for c in quality.max_missing}
    over = {c: s for c, s in shares.items() if s > quality.max_missing[c]}
    named = (f"{c}: {s:.1%} missing, at most {quality.max_missing[c]:.1%}" for c, s in over.items())
    return not over, "; ".join(named) or "no column misses more values than usual", shares


def _outliers(fact: Fact, quality: Quality) -> Judgement:
    shares = {c: fact[f"outside:{c}"] or 0.0 for c in quality.plausible}
    over = {c: s for c, s in shares.items() if s > OUTLIER_SHARE}
    named = (f"{c}: {s:.1%} outside {quality.plausible[c]}" for c, s in over.items())
    return not over, "; ".join(named) or "values lie where they usually do", shares


def _class_balance(fact: Fact, quality: Quality) -> Judgement:
    bounds = {n: (low, high) for n, (_, low, high) in quality.balance.items()}
    return _between(fact, "share", bounds, "classes keep their usual share", "is a class missing")


def _frozen(fact: Fact, quality: Quality) -> Judgement:
    frozen = list(fact["frozen"] or [])
    said = "; ".join(frozen[:3]) + ("; is the gauge stuck?" if frozen else "")
    return not frozen, said or "no gauge reads the same all day", {"frozen": len(frozen)}


def _between(
    fact: Fact, kind: str, bounds: Mapping[str, tuple[float, float]], good: str, question: str
) -> Judgement:
    """Whether each named figure lies within its bounds; a day without rows has none."""
    found = {n: fact[f"{kind}:{n}"] for n in bounds}
    if not fact["rows"]:
        return True, "no rows", {}
    off = {
        n: value
        for n, value in found.items()
        if value is None or not bounds[n][0] <= value <= bounds[n][1]
    }
    named = [
        f"{n}: {kind} {'none' if value is None else format(value, '.4g')},"
        f" expected {bounds[n][0]:g} to {bounds[n][1]:g}"
        for n, value in off.items()
    ]
    return not off, f"{'; '.join(named)}; {question}?" if off else good, found


_JUDGES = {
    "contract": _contract,
    "volume": _volume,
    "medians": _medians,
    "in_order": _in_order,
    "missing_values": _missing,
    "outliers": _outliers,
    "class_balance": _class_balance,
    "frozen_values": _frozen,
}
