"""What is in the lake after a command: tables, and of each product what it has come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from mlops_assets.cli import console
from mlops_assets.components.ml_product.product import PRODUCTS
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

_ROOM = 4
"""Figures that a table has room for."""
_NEXT = """\
Next:  [bold]make ui[/]   the Dagster UI and MLflow on this lake
       [bold]mlops advance --days 1[/]   let the next day arrive
       [bold]mlops sql "select * from {product}.performance"[/]"""


def of(lakehouse: Lakehouse, registry: ModelRegistry, products: Sequence[str]) -> dict[str, Any]:
    """The state of the lake: rows by table, and each product that has a leaderboard, by name."""
    tables = {name: lakehouse.rows(name) for name in lakehouse.tables()}
    shown = [product for product in products if f"{product}/leaderboard" in tables]
    return {
        "tables": tables,
        "products": {name: _product(lakehouse, registry, name, tables) for name in shown},
    }


def _product(
    lakehouse: Lakehouse, registry: ModelRegistry, product: str, tables: dict[str, int]
) -> dict[str, Any]:
    target = PRODUCTS[product].target
    figures = list(target.main_figures[:_ROOM])
    board = lakehouse.scan(f"{product}/leaderboard").select("family", "choice", *figures).collect()
    champion = registry.champion(product)
    drift = tables.get(f"{product}/drift", 0)
    found: dict[str, Any] = {
        "metric": target.metric,
        "leaderboard": board.to_dicts(),
        "champion": None,
        "predictions": tables.get(f"{product}/predictions", 0),
        "drift_rows": drift,
        "drifted": _newest_drift(lakehouse, product) if drift else None,
    }
    if champion is None or f"{product}/evaluation" not in tables:
        return found
    judged = lakehouse.scan(f"{product}/evaluation").collect()
    rows = {row["model"]: row for row in judged.iter_rows(named=True)}
    own = rows["candidate"] if rows["candidate"]["model_version"] == champion.version else {}
    return found | {
        "champion": {
            "family": champion.tags["family"],
            "version": champion.version,
            **{name: own.get(name) for name in figures},
        },
        "baseline": {name: rows["baseline"][name] for name in figures},
        "gain_over_baseline": {
            "unit": target.unit,
            "block": PRODUCTS[product].periods.every,
            "gain": rows["baseline"]["candidate_gain"],
            "low": rows["baseline"]["candidate_gain_low"],
            "high": rows["baseline"]["candidate_gain_high"],
        },
    }


def _newest_drift(lakehouse: Lakehouse, product: str) -> dict[str, Any]:
    day = lakehouse.partitions(f"{product}/drift")[-1]
    newest = lakehouse.scan(f"{product}/drift", first=day, last=day).collect()
    return {"day": day, "columns": newest.height, "drifted": int(newest["drifted"].sum())}


def show(found: dict[str, Any]) -> None:
    """Print it, and the next commands."""
    names = pl.DataFrame(
        {"table": list(found["tables"]), "rows": list(found["tables"].values())},
        schema={"table": pl.String, "rows": pl.Int64},
    )
    console.show(names, "\nThe lake")
    for product, state in found["products"].items():
        _show(product, state)
    console.out.print(f"{found['seconds']} s, {found['peak_mb']:,} MB at the peak.")
    if found["products"]:
        console.out.print("\n" + _NEXT.format(product=next(iter(found["products"]))))


def _show(product: str, state: dict[str, Any]) -> None:
    metric = state["metric"].replace("_", " ")
    title = f"\n{product}: leaderboard; choice is the mean {metric} of folds and validation"
    console.show(pl.DataFrame(state["leaderboard"]), title)
    if champion := state["champion"]:
        figures = {n: v for n, v in champion.items() if n not in ("family", "version")}
        rows = [
            {"model": f"champion: {champion['family']} v{champion['version']}"} | figures,
            {"model": "baseline"} | state["baseline"],
        ]
        console.show(pl.DataFrame(rows), f"\n{product}: on days that neither was trained on")
        gain = state["gain_over_baseline"]
        console.out.print(
            f"Gained over the baseline in {metric} ({gain['unit']}), paired by {gain['block']}:"
            f" {gain['gain']:.4f} [{gain['low']:.4f}, {gain['high']:.4f}]"
        )
    else:
        console.out.print(f"{product} has no champion yet; `mlops sql` asks gate_results why.")
    if drifted := state["drifted"]:
        console.out.print(
            f"{state['predictions']:,} predictions. On {drifted['day']} {drifted['drifted']} of"
            f" {drifted['columns']} columns differ from the training set beyond their threshold."
        )
