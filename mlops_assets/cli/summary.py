"""What is in the lake after a command: tables, leaderboard, champion, predictions, drift."""

from __future__ import annotations

from typing import Any

import polars as pl

from mlops_assets.cli import console
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import ModelRegistry

_FIGURES = ["auc", "log_loss", "brier"]
_NEXT = """\
Next:  [bold]make ui[/]   the Dagster UI and MLflow on this lake
       [bold]mlops advance --days 1[/]   let the next day arrive
       [bold]mlops sql "select * from flight_delays.performance"[/]"""


def of(lakehouse: Lakehouse, registry: ModelRegistry, products: list[str]) -> dict[str, Any]:
    """The state of the lake; of the first product that has a champion, its figures."""
    tables = {name: lakehouse.rows(name) for name in lakehouse.tables()}
    found: dict[str, Any] = {
        "tables": tables, "leaderboard": [], "champion": None, "baseline": None, "predictions": 0,
        "drift_rows": 0,
    }  # fmt: skip
    for product in products:
        if f"{product}/leaderboard" in tables:
            return found | _product(lakehouse, registry, product, tables)
    return found


def _product(
    lakehouse: Lakehouse, registry: ModelRegistry, product: str, tables: dict[str, int]
) -> dict[str, Any]:
    board = lakehouse.scan(f"{product}/leaderboard").select("family", "choice", *_FIGURES).collect()
    champion = registry.champion(product)
    drift = tables.get(f"{product}/drift", 0)
    found: dict[str, Any] = {
        "product": product,
        "leaderboard": board.to_dicts(),
        "predictions": tables.get(f"{product}/predictions", 0),
        "drift_rows": drift,
        "drifted": _newest_drift(lakehouse, product) if drift else None,
    }
    if champion is None or f"{product}/evaluation" not in tables:
        return found
    judged = lakehouse.scan(f"{product}/evaluation").collect()
    figures = {row["model"]: row for row in judged.iter_rows(named=True)}
    own = figures["candidate"] if figures["candidate"]["model_version"] == champion.version else {}
    months = lakehouse.scan(f"{product}/evaluation_segments").filter(pl.col("segment") == "month")
    return found | {
        "champion": {
            "family": champion.tags["family"],
            "version": champion.version,
            **{name: own.get(name) for name in _FIGURES},
            "auc_by_month": dict(months.select("value", "auc").collect().iter_rows()),
        },
        "baseline": {name: figures["baseline"][name] for name in _FIGURES},
        "gain_over_baseline": {
            "log_loss": figures["baseline"]["candidate_gain"],
            "low": figures["baseline"]["candidate_gain_low"],
            "high": figures["baseline"]["candidate_gain_high"],
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
    if found["leaderboard"]:
        console.show(
            pl.DataFrame(found["leaderboard"]),
            "\nLeaderboard: choice is the mean log loss of folds and validation",
        )
    if champion := found["champion"]:
        rows = [
            {"model": f"champion: {champion['family']} v{champion['version']}"}
            | {name: champion[name] for name in _FIGURES},
            {"model": "baseline"} | {name: found["baseline"][name] for name in _FIGURES},
        ]
        console.show(pl.DataFrame(rows), "\nOn days that neither was trained on")
        gain = found["gain_over_baseline"]
        console.out.print(
            f"Log loss gained over the baseline, paired by day: {gain['log_loss']:.4f}"
            f" [{gain['low']:.4f}, {gain['high']:.4f}]"
        )
    if drifted := found.get("drifted"):
        console.out.print(
            f"{found['predictions']:,} predictions. On {drifted['day']} {drifted['drifted']} of"
            f" {drifted['columns']} columns differ from the training set beyond their threshold."
        )
    console.out.print(f"{found['seconds']} s, {found['peak_mb']:,} MB at the peak.\n\n{_NEXT}")
