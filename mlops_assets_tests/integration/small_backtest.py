"""`mlops backtest` as a process of its own, on some weeks of real flights with small settings.

python -m mlops_assets_tests.integration.small_backtest flight_delays --from DAY --to DAY
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from typing import Any

import typer

from mlops_assets.components import backtest as walks
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.component import MLProduct
from mlops_assets_tests.integration.conftest import SMALL

DAILY = "--daily"
RETRAINING = d.Retraining(
    window_days=7, fired_days=2, of_days=3, cool_down_days=3, growth=0.1, probe_days=4,
    probe_margin=0.5, min_new_labels=1_000, shadow_days=4, shadow_min_days=2, rollback_margin=0.01,
)  # fmt: skip


def small(declared: MLProduct, first: date) -> dict[str, Any]:
    """The walk's own changes, with the small settings on top."""
    changed: dict[str, Any] = SMALL | {"retraining": RETRAINING}
    cutoff = first - timedelta(days=1 + declared.label.known_after_days)
    training = changed["training"].model_copy(update={"first_cutoff": cutoff})
    monitoring = changed["monitoring"].model_copy(update={"report_days": 0})
    return changed | {"training": training, "monitoring": monitoring}


def main() -> None:
    """Run the command."""
    from mlops_assets.cli import backtest

    walks.CHANGES = small
    app = typer.Typer()
    backtest.add_to(app)
    arguments = sys.argv[1:]
    if arguments[0] == DAILY:
        walks.MOST_TOGETHER = 1
        arguments = arguments[1:]
    app(arguments)


if __name__ == "__main__":
    main()
