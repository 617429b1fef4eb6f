"""Features once more, the slow way: every row known by then, gathered and added up.

The point-in-time join (point_in_time.py) takes differences of running sums by as-of look-ups. This
shares no code with it but the definitions: it pairs each row with all rows of its key, drops what
came later, and adds. For a few hundred rows it takes a fraction of a second.
"""

from __future__ import annotations

import polars as pl

from mlops_assets.ml.point_in_time import (
    AVAILABLE_AT,
    EVENT_TIME,
    PREDICTION_TIME,
    Definition,
    Latest,
    Trailing,
)

_ROW = "__row"


def features_known(rows: pl.DataFrame, table: pl.DataFrame, definition: Definition) -> pl.DataFrame:
    """The definition's features of each row, in the rows' order.

    Args:
        rows: the definition's keys and `prediction_time` (UTC).
        table: the feature table, at least as far back as the definition reaches.
        definition: what is looked up.
    """
    keys = list(definition.keys)
    asked = rows.select(*keys, PREDICTION_TIME).with_row_index(_ROW)
    known = asked.join(table.select(definition.reads), on=keys, how="inner").filter(
        pl.col(AVAILABLE_AT) <= pl.col(PREDICTION_TIME)
    )
    if isinstance(definition, Latest):
        found = _newest(known, definition)
    else:
        found = _added_up(asked, known, definition)
    return asked.select(_ROW).join(found, on=_ROW, how="left", maintain_order="left").drop(_ROW)


def _newest(known: pl.DataFrame, definition: Latest) -> pl.DataFrame:
    newest = known.sort(AVAILABLE_AT, EVENT_TIME).group_by(_ROW).last()
    if definition.ttl is not None:
        newest = newest.filter(pl.col(PREDICTION_TIME) - pl.col(EVENT_TIME) <= definition.ttl)
    columns = {name: pl.col(column).alias(name) for name, column in definition.columns.items()}
    return newest.select(_ROW, *columns.values())


def _added_up(asked: pl.DataFrame, known: pl.DataFrame, definition: Trailing) -> pl.DataFrame:
    found = asked.select(_ROW)
    for label, length in definition.windows.items():
        within = known.filter(pl.col(AVAILABLE_AT) > pl.col(PREDICTION_TIME) - length)
        sums = within.group_by(_ROW).agg(pl.col(definition.sums).sum())
        # A row that someone asks has sums of 0 where the table has nothing of its key.
        sums = asked.drop_nulls().select(_ROW).join(sums, on=_ROW, how="left").fill_null(0)
        ratios = [
            (
                pl.col(above)
                if below is None
                else pl.when(pl.col(below) > 0).then(pl.col(above) / pl.col(below))
            ).alias(f"{definition.prefix}_{stem}_{label}")
            for stem, (above, below) in definition.ratios.items()
        ]
        found = found.join(sums.select(_ROW, *ratios), on=_ROW, how="left")
    return found
