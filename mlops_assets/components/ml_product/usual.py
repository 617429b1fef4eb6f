"""What a declaration leaves out, where the rows come in hours, weeks or months.

What is enough days would be too few weeks, and a month of hours is more than is watched. Lengths
are calendar days, as everywhere.
"""

from __future__ import annotations

from typing import Any, TypeVar

from mlops_assets.components.ml_product import declaration as d

_USUAL: dict[str, dict[type[d.Part], dict[str, Any]]] = {
    "hour": {d.Monitoring: {"drift_window_days": 7}, d.Serving: {"online_days": 2}},
    "week": {
        d.Training: {"validation_days": 56, "holdout_days": 84},
        d.Search: {"fold_days": 56},
        d.Gates: {"min_days": 56},
        d.Monitoring: {"drift_window_days": 84},
        d.Retraining: {
            "window_days": 84, "fired_days": 14, "of_days": 28, "cool_down_days": 28,
            "probe_days": 84, "shadow_days": 84, "shadow_min_days": 56, "schedule_days": 182,
        },
        d.Serving: {"online_days": 14},
    },
    "month": {
        d.Training: {"validation_days": 92, "holdout_days": 184},
        d.Search: {"fold_days": 92},
        d.Gates: {"min_days": 180},
        d.Monitoring: {"drift_window_days": 184},
        d.Retraining: {
            "window_days": 184, "fired_days": 30, "of_days": 60, "cool_down_days": 62,
            "probe_days": 184, "shadow_days": 184, "shadow_min_days": 120, "schedule_days": 366,
        },
        d.Serving: {"online_days": 62},
    },
}  # fmt: skip

P = TypeVar("P", bound=d.Part)


def with_usual(part: P, every: str) -> P:
    """A part of a declaration, with what is usual for weeks or months where it says nothing."""
    usual = dict(_USUAL.get(every, {}).get(type(part), {}))
    for name, value in part:
        if isinstance(value, d.Part):
            usual[name] = with_usual(value, every)
    said = part.model_fields_set
    return part.model_copy(
        update={n: v for n, v in usual.items() if n not in said or isinstance(v, d.Part)}
    )
