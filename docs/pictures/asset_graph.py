"""Draws asset-graph.png from the definitions: `python docs/pictures/asset_graph.py`.

One product and what it reads; others look alike. Where a box stands is said here; which boxes there
are, and what depends on what, is the graph's. An asset that has no place here is an error.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mlops_assets.definitions import defs

WIDTH, HEIGHT = 1.95, 0.42
"""Of a box, in the units of the places below."""

COLOURS = {"raw": "#e3ecf7", "feature": "#e2f1e7", "product": "#f4ecfa"}
EDGES = {"raw": "#4a76a8", "feature": "#3d8a5a", "product": "#8355a8"}

LINE = "#9a9a9a"

COLUMNS: list[tuple[float, float, list[str]]] = [
    (0.0, 5.1, ["flight_events", "flight_schedule", "weather"]),
    (0.0, 2.9, ["airlines", "airports", "planes", "routes"]),
    (2.7, 5.1, [
        "origin_delays", "carrier_delays", "carrier_origin_delays", "route_delays",
        "destination_delays", "flight_number_delays", "scheduled_congestion", "weather_known",
    ]),
    (5.4, 3.2, ["feature_view"]),
    (7.9, 4.6, ["training_set"]),
    (10.3, 5.1, [
        "fit_hist_gradient_boosting", "fit_xgboost", "fit_embedding_mlp", "fit_logistic_regression",
    ]),
    (12.7, 4.6, ["leaderboard"]),
    (12.7, 3.6, ["candidate"]),
    (12.7, 2.6, ["evaluation"]),
    (10.3, 2.6, ["bento"]),
    (7.9, 2.6, ["champion"]),
    (7.9, 1.7, ["predictions"]),
    (10.3, 1.25, ["drift"]),
    (10.3, 0.6, ["performance"]),
]  # fmt: skip
"""Left edge, top, and the assets from top to bottom."""

PRODUCT = "flight_delays"
BESIDE = {
    "importance", "model_card", "notifications", "online_features", "online_performance",
    "requests", "retrain_decisions", "rollbacks", "shadow_predictions", "skew",
}  # fmt: skip
"""What reports, serves and decides beside the flow from raw rows to drift, and is left out."""

AROUND: dict[tuple[str, str], list[tuple[float, float]]] = {
    ("flight_events", "training_set"): [(2.3, 5.31), (2.55, 5.62), (7.35, 5.62), (7.9, 4.95)],
    ("flight_events", "performance"): [(2.3, 5.31), (2.3, 0.81), (10.3, 0.81)],
    ("feature_view", "drift"): [(7.6, 3.3), (7.6, 1.46), (10.3, 1.46)],
}
"""Dependencies that would cross boxes: the corners of the way around them."""


def places(names: set[str]) -> dict[str, tuple[float, float]]:
    """Name of each asset to the left lower corner of its box."""
    step = HEIGHT + 0.13
    found = {n: (x, y - i * step) for x, y, column in COLUMNS for i, n in enumerate(column)}
    if missing := names - found.keys():
        raise SystemExit(f"no place for {', '.join(sorted(missing))}; give them one in COLUMNS")
    return {name: found[name] for name in names}


def draw() -> Figure:
    """The picture."""
    graph = defs().resolve_asset_graph()
    own = {
        k for k in graph.get_all_asset_keys() if k.path[0] == PRODUCT and k.path[-1] not in BESIDE
    }
    read = {parent for key in own for parent in graph.get(key).parent_keys}
    made_of = {parent for key in read for parent in graph.get(key).parent_keys}
    # Tables of names and places that no feature reads are raw tables all the same.
    raw = {k for k in graph.get_all_asset_keys() if layer(graph, k) == "raw"}
    keys = {key.path[-1]: key for key in own | read | made_of | raw}
    at = places(set(keys))
    figure = Figure(figsize=(14.6, 5.6), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.2, 14.85), ylim=(0.4, 6.2))
    axes.axis("off")
    for name, key in keys.items():
        for parent in graph.get(key).parent_keys:
            way = AROUND.get((parent.path[-1], name))
            arrow(axes, at[parent.path[-1]], at[name], way or [])
    for name, (x, y) in at.items():
        box(axes, name, x, y, layer(graph, keys[name]))
    for x, title in ((0.0, "raw tables"), (2.7, "feature tables"), (7.9, f"product: {PRODUCT}")):
        axes.text(x, 5.85, title, fontsize=13, color="#333333", weight="bold")
    return figure


def layer(graph: dg.AssetGraph, key: dg.AssetKey) -> str:
    """Raw, feature, or a product's own."""
    return graph.get(key).tags.get("layer", "product")


def box(axes: Axes, name: str, x: float, y: float, kind: str) -> None:
    """An asset."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", zorder=3,
            facecolor=COLOURS[kind], edgecolor=EDGES[kind], linewidth=1.2,
        )
    )  # fmt: skip
    size = 10.5 if len(name) < 24 else 9
    axes.text(x + WIDTH / 2, y + HEIGHT / 2, name, ha="center", va="center", size=size, zorder=4)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], way: list[tuple[float, float]]
) -> None:
    """A dependency, from the side of a box that faces the other, or on the way given."""
    (x0, y0), (x1, y1) = start, end
    middle = HEIGHT / 2
    right, left = (x0 + WIDTH, y0 + middle), (x0, y0 + middle)
    if x1 > x0 + WIDTH:
        points = [right, *way] if way else [right, (x1, y1 + middle)]
    elif x0 > x1 + WIDTH:
        points = [left, (x1 + WIDTH, y1 + middle)]
    else:
        points = [(x0 + WIDTH / 2, y0), (x1 + WIDTH / 2, y1 + HEIGHT)]
    axes.plot(*zip(*points[:-1], strict=True), color=LINE, linewidth=0.9, zorder=2)
    style = {"arrowstyle": "-|>", "color": LINE, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xytext=points[-2], xy=points[-1], zorder=2, arrowprops=style)


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_name("asset-graph.png"))
