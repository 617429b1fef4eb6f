"""Warnings that Dagster raises against itself; every other warning is an error."""

import pytest

DAGSTERS_OWN = [
    "`parse_obj_as` is deprecated",
    "Parameter `partitions_def` of initializer `AssetCheckSpec",
]


def pytest_configure(config: pytest.Config) -> None:
    """Let them pass."""
    for message in DAGSTERS_OWN:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
