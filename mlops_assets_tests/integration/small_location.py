"""The small definitions of conftest.py as a code location, for a real code server and daemon."""

from mlops_assets_tests.integration.small_demo import small

defs = small()
