"""A snapshot of the lake for the online store: the feature tables and the spine, packed.

Each table is read at one version, from the first day whose rows can be asked for, less what its
definition reaches back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from mlops_assets.ml.online_pack import pack
from mlops_assets.ml.periods import DAYS, Periods, day_of
from mlops_assets.ml.point_in_time import AVAILABLE_AT, EVENT_TIME, Definition, days_back
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.online_plan import Spine
from mlops_assets.stores.online_store import Covered, Table

DAY = "date"
_ALWAYS = pl.lit(datetime.fromtimestamp(0, UTC)).cast(pl.Datetime("us", "UTC"))


def snapshot_of(
    lake: Lakehouse,
    definitions: Mapping[str, Definition],
    spine: Spine | None,
    first: date,
    last: date | None = None,
    *,
    lead: timedelta,
    zone: str,
    periods: Mapping[str, Periods] | None = None,
) -> dict[str, Table]:
    """What look-ups for the rows of some local days need of the lake as it is.

    Args:
        lake: where the tables are.
        definitions: feature table to what is looked up in it.
        spine: what is looked up of the rows themselves.
        first: first local day whose rows can be asked for.
        last: the last one; None for all that there is.
        lead: time between a row's prediction and its own time.
        zone: time zone of the local days.
        periods: table to its periods, where they are no days.

    Raises:
        TableNotFound: a table is not in the lake.
    """
    tables, come = {}, periods or {}
    for name, definition in definitions.items():
        back, its = days_back(definition, lead), come.get(name, DAYS)
        begin = None if back is None else its.of(first - timedelta(days=back))
        rows, covered = _read(lake, name, begin, last, zone, its)
        tables[name] = Table(pack(rows, definition), _reaching(covered, definition))
    if spine is not None:
        its = come.get(spine.table, DAYS)
        rows, covered = _read(lake, spine.table, first, last, zone, its)
        planned = rows.with_columns(_ALWAYS.alias(AVAILABLE_AT), _ALWAYS.alias(EVENT_TIME))
        covered = replace(covered, known_from=None)  # It has days, and no moments.
        tables[spine.table] = Table(pack(planned, spine.definition), covered)
    return tables


def _read(
    lake: Lakehouse, name: str, first: date | None, last: date | None, zone: str, periods: Periods
) -> tuple[pl.DataFrame, Covered]:
    """Rows of the days; `known_from` is the begin of the first of them."""
    version = lake.version(name)
    if DAY not in lake.schema(name):
        return lake.scan(name, version=version).collect(), Covered(version, None, None, None)
    rows = lake.scan(name, version=version, first=first, last=last).collect()
    newest = rows[DAY].max()
    through = _begin(periods.step(newest), zone) if isinstance(newest, date) else None
    begins = _begin(first, zone) if first else None
    return rows, Covered(version, day_of(first) if first else None, begins, through)


def _reaching(covered: Covered, definition: Definition) -> Covered:
    """With `known_from` so late that all is there that the definition reaches back to."""
    if covered.known_from is None or definition.reach is None:
        return covered
    return replace(covered, known_from=covered.known_from + definition.reach)


def _begin(day: date, zone: str) -> datetime:
    if isinstance(day, datetime):
        return day
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
