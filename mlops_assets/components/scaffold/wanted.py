"""What a person asks for: a name, a table, its label, and what they know of it."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from datetime import tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from mlops_assets.ml.periods import DAYS, Periods

TASKS = ("binary", "multiclass", "regression")
PARTITIONINGS = {
    "hourly": Periods("hour"), "daily": DAYS, "weekly": Periods("week"),
    "monthly": Periods("month"),
}  # fmt: skip
_TAKEN = {
    "nyc_flights", "platform", "feature_view", "training_set", "leaderboard", "candidate", "test",
    "evaluation", "bento", "champion", "predictions", "performance", "drift", "importance",
    "requests", "skew", "model_card", "online_features", "online_performance", "raw", "features",
}  # fmt: skip
"""Names that assets of a product have, or that would hide something."""


class Unusable(ValueError):
    """The table or what is asked of it cannot become a product; the message says what would."""


@dataclass(frozen=True)
class Wanted:
    """What `mlops new` is given.

    Attributes:
        name: of the product, its folder and its raw table.
        source: path or address of the table.
        label: column to predict, as the source names it.
        time: column of the time that a row speaks of; empty for a table without a clock.
        keys: columns that identify a row, beside its day; found where none are given.
        task: binary, multiclass or regression; decided where empty.
        table: of a database.
        lead_hours: between the prediction and the row's time.
        known_after_days: local days after a row's own by which its label is known.
        zone: of the local days, and of times that name none.
        licence: of the data; empty where it is to be filled in.
        partitioning: hourly, daily, weekly or monthly: in what the rows come in, and are predicted.
    """

    name: str
    source: str
    label: str
    time: str = ""
    keys: tuple[str, ...] = ()
    task: str = ""
    table: str = ""
    lead_hours: float = 1.0
    known_after_days: int = 1
    zone: str = "UTC"
    licence: str = ""
    partitioning: str = "daily"

    def check(self) -> None:
        """Refuse what cannot be, before any data is read.

        Raises:
            Unusable: naming the value and what would be good.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or keyword.iskeyword(self.name):
            raise Unusable(
                f"{self.name!r} names a folder, tables and assets; use lower-case letters, digits"
                " and _, as in bike_rides"
            )
        if self.name in _TAKEN:
            raise Unusable(f"{self.name!r} is the name of something else here; take another")
        if self.task and self.task not in TASKS:
            raise Unusable(unknown(self.task, "task", TASKS))
        if self.partitioning not in PARTITIONINGS:
            raise Unusable(unknown(self.partitioning, "partitioning", list(PARTITIONINGS)))
        if self.partitioning != "daily" and not self.time:
            raise Unusable(f"--partitioning {self.partitioning} takes --time, a row's moment")
        if self.zone not in available_timezones():
            raise Unusable(unknown(self.zone, "time zone", sorted(available_timezones()), few=True))
        if self.lead_hours < 0 or self.known_after_days < 0:
            raise Unusable("--lead-hours and --known-after-days are 0 or more")

    @property
    def periods(self) -> Periods:
        """What the rows come in; weeks begin on Monday."""
        return PARTITIONINGS[self.partitioning]

    @property
    def tz(self) -> tzinfo:
        """The zone of the local days."""
        return ZoneInfo(self.zone)


def unknown(value: str, kind: str, known: tuple[str, ...] | list[str], few: bool = False) -> str:
    """That a name is not known, which is near, and which there are."""
    near = get_close_matches(value, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{value!r} is no {kind}{hint}" + ("" if few else f" There are {', '.join(known)}")
