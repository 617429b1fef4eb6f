"""What can be wrong with the days of a declaration: whether all that it asks for fits its history.

The history is the days from the first of the spine through the first training cut-off.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from dagster._utils.schedules import is_valid_cron_schedule

from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.reading import Finding, Path
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.table_asset import table_periods
from mlops_assets.ml.periods import DAYS, day_of, named


def first_cutoff(product: Product) -> Iterator[Finding]:
    """The first training set ends within the days of the spine, and its labels become known."""
    first, last = _first(product), _last(product)
    cutoff, every = product.training.first_cutoff, product.periods.every
    if not first < cutoff < last:
        says = f"{cutoff} is not between {first} and {last}, the {every}s of the spine"
        yield Finding(("training", "first_cutoff"), says)
    elif (period := product.periods.of(cutoff)) != cutoff:
        says = f"{cutoff} is within the {every} of {period}; write {period} to train through it"
        yield Finding(("training", "first_cutoff"), says)
    elif product.labels_known(cutoff) >= product.periods.last_day(last):
        says = (
            f"{product.label.known_after_days} days after training.first_cutoff {cutoff} are past"
            f" the last {every}, {last}; there are {(last - cutoff).days} days after it"
        )
        yield Finding(("label", "known_after_days"), says)


def within_history(product: Product) -> Iterator[Finding]:
    """Nothing asks for more days than there are before the first cut-off."""
    days, cutoff = _history(product), product.training.first_cutoff
    if days < 1:
        return  # The cut-off itself is reported.
    there = f"the history: {days} days, from {_first(product)} to training.first_cutoff {cutoff}"
    lead = getattr(product.spine, "lead_hours", 0)
    if lead / 24 >= days:
        yield Finding(("spine", "lead_hours"), f"{lead:g} hours are longer than {there}")
    for part in ("validation_days", "holdout_days"):
        if (asked := getattr(product.training, part, 0)) >= days:
            yield Finding(("training", part), f"{asked} days leave nothing of {there}")


def lead(product: Product) -> Iterator[Finding]:
    """Where the problem's module names its LEAD, it is the one that is declared."""
    if not product.spine.table:
        return
    own, hours = product.module.lead, product.spine.lead_hours
    if own is not None and own != product.lead and hours / 24 < _history(product):
        says = f"{hours:g} hours, but LEAD in {product.problem} is {own / timedelta(hours=1):g}"
        yield Finding(("spine", "lead_hours"), says)


def reach_within_history(product: Product) -> Iterator[Finding]:
    """No window or time to live is longer than the history."""
    days = _history(product)
    if days < 1 or product.spine.lead_hours / 24 >= days:
        return
    for i, table in enumerate(product.features.tables):
        if table not in DEFINITIONS or DEFINITIONS[table].reach is None:
            continue
        if (back := product.days_back(table)) >= days:
            says = f"{table!r} reaches {back} days back, the history through the cut-off is {days}"
            yield Finding(("features", "tables", i), says)


def calendars(product: Product) -> Iterator[Finding]:
    """What is read comes in the spine's periods, or in shorter ones that make them up."""
    own = product.partitions
    if own != DAYS and not (product.problem or product.spine.time):
        yield Finding(("spine", "time"), f"is missing; rows that come in {own} have a moment")
    read: dict[Path, str] = {("label", "table"): product.label.table}
    read |= {("features", "tables", i): name for i, name in enumerate(product.features.tables)}
    for path, name in read.items():
        its = table_periods(name)
        if its != own and (its != DAYS or own.every == "hour"):
            shorter = "" if own.every == "hour" else ", in days,"
            says = (
                f"{name!r} comes in {its}, the spine in {own}; a table that is read comes in the"
                f" same{shorter} or is without"
            )
            yield Finding(path, says)


def folds(product: Product) -> Iterator[Finding]:
    """The folds of the search leave a day to train on."""
    settings, budget, every = product.training, product.training.search, product.periods
    within = every.within
    left = within(_history(product)) - within(settings.validation_days)
    needed = budget.folds * within(budget.fold_days) + 1
    if 0 < left < needed:
        says = (
            f"{budget.folds} folds of {budget.fold_days} days and a {every.every} to train on need"
            f" {needed} {every}; before the {settings.validation_days} validation days there are"
            f" {left}"
        )
        yield Finding(("training", "search"), says)


def enough_days_to_judge(product: Product) -> Iterator[Finding]:
    """The gates can be met by the days that there will be."""
    path, asked = ("gates", "min_days"), product.gates.min_days
    last, cutoff = product.labelled_by(_last(product)), product.training.first_cutoff
    after = (product.periods.last_day(last) - product.periods.last_day(cutoff)).days
    if 0 < after < asked:
        yield Finding(path, f"{asked} days; after training.first_cutoff only {after} have labels")
    elif asked > product.training.holdout_days:
        held = product.training.holdout_days
        says = f"{asked} days; a retraining leaves only training.holdout_days, {held}, to judge on"
        yield Finding(path, says)


def retraining_can_happen(product: Product) -> Iterator[Finding]:
    """A signal can count, and the calendar is one."""
    declared = product.retraining
    if declared.fired_days > declared.of_days:
        says = f"{declared.fired_days} of retraining.of_days {declared.of_days} can never be"
        yield Finding(("retraining", "fired_days"), says)
    if not is_valid_cron_schedule(declared.calendar):
        says = f"{declared.calendar!r} is no cron schedule; the first of each month is '0 6 1 * *'"
        yield Finding(("retraining", "calendar"), says)


CHECKS = (
    first_cutoff, within_history, lead, reach_within_history, calendars, folds,
    enough_days_to_judge, retraining_can_happen,
)  # fmt: skip


def _first(product: Product) -> date:
    return _day(product.days.get_first_partition_key())


def _last(product: Product) -> date:
    return _day(product.days.get_last_partition_key())


def _day(key: object) -> date:
    return day_of(named(str(key)))


def _history(product: Product) -> int:
    return (product.periods.last_day(product.training.first_cutoff) - _first(product)).days + 1
