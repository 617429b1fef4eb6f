"""What a day of a table is expected to be: the declaration, and the checks that it makes.

A blocking check that fails withholds the day; the others only show. measures.py counts what there
is, judge.py compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

DAY = "date"


@dataclass(frozen=True)
class Quality:
    """Expectations of one day (or of the whole table, where it has no days).

    Attributes:
        rows: least and greatest number of rows; blocks.
        max_rejected: greatest share of rows that may break the contract; blocks.
        max_lost: greatest share of the rows published before that may be gone when a day of a raw
            table comes again; blocks. An hour of twenty-four is 4 % and may go, two may not. It
            is above `max_rejected`, so that rows sent to quarantine do not fail it as well.
        medians: name to (expression, low, high): the median of a day lies between; blocks.
            A unit that shifted moves it where no day has been.
        max_missing: column to the greatest share of nulls; shows.
        plausible: column to (low, high): at most one value in a hundred may lie outside; shows.
        balance: name of a boolean rule to (expression, least share, greatest share); shows.
        varies: columns that never read the same all day, for each `varies_by`; shows.
        varies_by: columns that name what is read, say a station.
    """

    rows: tuple[int, int] | None = None
    max_rejected: float = 0.01
    max_lost: float = 0.05
    medians: Mapping[str, tuple[pl.Expr, float, float]] = field(default_factory=dict)
    max_missing: Mapping[str, float] = field(default_factory=dict)
    plausible: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    balance: Mapping[str, tuple[pl.Expr, float, float]] = field(default_factory=dict)
    varies: tuple[str, ...] = ()
    varies_by: tuple[str, ...] = ()


CHECKS = {
    "contract": (True, "Rows keep the contract; those that do not are in the quarantine table."),
    "volume": (True, "As many rows as a day has, and hardly fewer than are published of it."),
    "medians": (True, "The day's medians lie where a day's do; a shifted unit shows here."),
    "in_order": (True, "Rows of a key become available in the order of their event_time."),
    "missing_values": (False, "No column has more nulls than usual."),
    "outliers": (False, "Values lie where they usually do."),
    "class_balance": (False, "The classes keep a usual share; one that vanished shows here."),
    "frozen_values": (False, "No gauge reads the same all day."),
}
"""Name of each check to (blocks, what it says)."""


def checks_of(quality: Quality, has_contract: bool, arrives: bool, ordered: bool) -> list[str]:
    """Names of the checks that a table with these expectations has.

    Args:
        quality: what is expected.
        has_contract: whether rows are held to a contract.
        arrives: whether it is read from a source, which may give less of a day than before.
        ordered: whether look-ups rely on the order in which its rows become available.
    """
    present = {
        "contract": has_contract,
        "volume": quality.rows is not None or arrives,
        "medians": bool(quality.medians),
        "in_order": ordered,
        "missing_values": bool(quality.max_missing),
        "outliers": bool(quality.plausible),
        "class_balance": bool(quality.balance),
        "frozen_values": bool(quality.varies),
    }
    return [name for name, there in present.items() if there]
