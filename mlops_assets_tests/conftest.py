"""Warnings that Dagster raises against itself; every other warning is an error."""

import pytest

DAGSTERS_OWN = [
    ".*is currently in (preview|beta)",
    "`parse_obj_as` is deprecated",
    "InitResourceContext.dagster_run is deprecated",
]


def pytest_configure(config: pytest.Config) -> None:
    """Let them pass."""
    for message in DAGSTERS_OWN:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
