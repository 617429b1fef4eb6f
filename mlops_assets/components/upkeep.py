"""The upkeep of a lake's tables: each compacted, then vacuumed with the pins of every product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from mlops_assets.components.ml_product.pins import pins
from mlops_assets.components.ml_product.product import Product
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.upkeep import Compaction, Vacuum, compact, vacuum


@dataclass(frozen=True)
class Tended:
    """What upkeep did to a table, or would do; `error` where another writer got in between."""

    compaction: Compaction
    vacuum: Vacuum
    error: str = ""


def tend(
    lake: Lakehouse,
    models: ModelRegistry,
    products: Iterable[Product],
    tables: Sequence[str],
    *,
    keep_days: float,
    apply: bool,
    remove: Sequence[int] = (),
) -> Iterator[Tended]:
    """Tend to `tables` one after the other; errors as in `vacuum` and `pins`."""
    from deltalake.exceptions import CommitFailedError

    pinned = pins(lake, models, products)
    for table in tables:
        error = ""
        try:
            compaction = compact(lake, table, apply=apply)
        except CommitFailedError as conflict:
            error = f"not compacted, somebody wrote meanwhile: {conflict}"
            compaction = compact(lake, table)
        swept = vacuum(
            lake, table, pinned.get(table, {}), keep_days=keep_days, remove=remove, apply=apply
        )
        yield Tended(compaction, swept, error)


def as_table(tended: Iterable[Tended]) -> pl.DataFrame:
    """One row a table: files before and after, what goes, and the versions that are pinned."""
    rows = [
        {
            "table": each.vacuum.table,
            "files": each.compaction.before,
            "compacted": each.compaction.after,
            "crowded": each.compaction.partitions,
            "go": len(each.vacuum.files),
            "go_mb": each.vacuum.megabytes,
            "young": each.vacuum.young,
            "kept": "; ".join(
                f"{version}: {', '.join(why)}" for version, why in each.vacuum.kept.items()
            ),
            "error": each.error,
        }
        for each in tended
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA = {
    "table": pl.String, "files": pl.Int64, "compacted": pl.Int64, "crowded": pl.Int64,
    "go": pl.Int64, "go_mb": pl.Float64, "young": pl.Int64, "kept": pl.String, "error": pl.String,
}  # fmt: skip
