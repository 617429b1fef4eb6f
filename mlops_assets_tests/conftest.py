"""What holds for all tests: no environment of the user's, and every warning is an error."""

import os

import pytest

OF_AN_ENVIRONMENT = ("MLOPS_", "MLFLOW_", "DAGSTER_")
"""Variables that name a lake, a registry or an instance; make sets some for its other targets."""

DAGSTERS_OWN = [
    ".*is currently in (preview|beta)",
    "`parse_obj_as` is deprecated",
    "InitResourceContext.dagster_run is deprecated",
]
"""Warnings that Dagster raises against itself, and of the previews that we chose to use."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget the user's environment, so that no test can write to it; keep threads few.

    Several processes test at once, and threads that wait for each other cost more than they give.
    Libraries read these variables as they load, which is before any home is prepared.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in [n for n in os.environ if n.startswith(OF_AN_ENVIRONMENT)]:
        del os.environ[name]
    for message in DAGSTERS_OWN:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first, so that no process is left with one at the end.

    Of these, the ones that share the settled home come last: the others go on while it is made.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    sharing = {item.path for item in items if "settled" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path not in slow, item.path in sharing))
