"""Whether a model keeps what its product declares of people and of data: compliance, as gates.

Pure: names, labels and scores in, outcomes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ml.gates import GateOutcome, outcome
from mlops_assets.ml.targets import Target

LEAST_ROWS = 100
"""Groups of fewer judged rows are not compared: their figures are chance."""
_SHOWN = 5


def no_personal_data(
    reads: Collection[str], logged: Collection[str], personal: Mapping[str, str]
) -> GateOutcome:
    """Fail where a column that is marked personal reaches the model, or the endpoint's log.

    Args:
        reads: the model's features.
        logged: what a request carries and the log keeps: its fields and the entity keys.
        personal: column or feature to where it is marked.
    """
    found = [
        *(f"the model reads {n}, marked in {personal[n]}" for n in reads if n in personal),
        *(f"the log keeps {n}, marked in {personal[n]}" for n in logged if n in personal),
    ]
    detail = "; ".join(found[:_SHOWN]) or (
        f"none of the {len(personal)} personal columns reaches the model or the log"
    )
    if found:
        detail += ". Leave it out, or mask it where it is read (components.tables.masked)"
    count = len(set(reads) | set(logged))
    return outcome("no_personal_data", not found, len(found), 0, -len(found), count, detail)


def even_for_groups(
    label: Any,
    scores: np.ndarray,
    groups: Mapping[str, pl.Series],
    limits: Mapping[str, float],
    target: Target,
) -> GateOutcome:
    """Fail where the loss of two groups of a sensitive column is further apart than declared.

    The outcome is that of the column which comes nearest to its limit, or passes it furthest.

    Args:
        label: of the judged rows.
        scores: likewise.
        groups: sensitive column to its value in each row; null is a group as well.
        limits: sensitive column to the greatest gap of the mean loss between two of its groups, as
            a share of the mean loss of all.
        target: what is predicted.
    """
    name, rows = "even_for_groups", len(scores)
    if not limits:
        detail = "no sensitive groups are declared (compliance.sensitive)"
        return outcome(name, True, None, None, None, rows, detail)
    truth, checked = target.check(label, scores)
    losses = pl.Series("loss", target.losses(truth, checked))
    worst: tuple[float, GateOutcome] | None = None
    for column, limit in limits.items():
        found = _gap(name, column, losses, groups[column], limit)
        margin = found.margin if found.margin is not None else 0.0
        if worst is None or margin < worst[0]:
            worst = margin, found
    assert worst is not None
    return worst[1]


def _gap(name: str, column: str, losses: pl.Series, group: pl.Series, limit: float) -> GateOutcome:
    by_group = (
        pl.DataFrame({"loss": losses, "group": group.cast(pl.String).fill_null("(missing)")})
        .group_by("group")
        .agg(pl.col("loss").mean(), pl.len().alias("rows"))
        .filter(pl.col("rows") >= LEAST_ROWS)
        .sort("loss", "group")
    )
    rows, mean = len(losses), float(losses.mean() or 0.0)  # type: ignore[arg-type]
    if by_group.height < 2 or not mean:
        detail = f"{column}: fewer than two groups of {LEAST_ROWS} rows: nothing to compare"
        return outcome(name, True, None, limit, None, rows, detail)
    best, most = by_group.row(0, named=True), by_group.row(-1, named=True)
    gap = (most["loss"] - best["loss"]) / mean
    detail = (
        f"{column}: the loss is {most['loss']:.4f} for {most['group']} and {best['loss']:.4f} for"
        f" {best['group']}, a gap of {gap:.1%} of the mean, expected at most {limit:.1%}"
    )
    return outcome(name, gap <= limit, gap, limit, limit - gap, rows, detail)


def licences_stated(
    tables: Collection[str], licences: Mapping[str, str], refused: Collection[str] = ()
) -> GateOutcome:
    """Fail where a raw table has no stated licence, or one that the product may not use.

    Args:
        tables: the raw tables that the model is made of.
        licences: table to the licence of its data.
        refused: licences that the product may not use.
    """
    lacking = sorted(t for t in tables if not licences.get(t, "").strip())
    bad = sorted(f"{t} ({licences[t]})" for t in tables if licences.get(t, "") in refused)
    said = [f"no licence is stated of {', '.join(lacking)}"] if lacking else []
    said += [f"a licence that is refused has {', '.join(bad)}"] if bad else []
    faults = len(lacking) + len(bad)
    detail = "; ".join(said) or f"the licences of {len(tables)} raw tables are stated"
    if lacking:
        detail += (
            '; say under which terms its data may be used, as licence="CC-BY-4.0" or licence="our'
            " own\" of @raw_table in its raw.py, or under card.licences in the product's defs.yaml"
        )
    return outcome("licences_stated", not faults, faults, 0, -faults, len(tables), detail)
