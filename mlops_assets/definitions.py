"""The code location: everything under defs/, loaded by Dagster.

Add a product as a folder with a defs.yaml, a table as a function under its domain's folder, a
binding of the environment in defs/platform/resources.py. Nothing is declared here.
"""

from pathlib import Path

import dagster as dg

from mlops_assets.components.arrival_schedule import with_arrival
from mlops_assets.components.loading import load_defs


@dg.definitions
def defs() -> dg.Definitions:
    """Autoload defs/; what is broken there is named, and does not stop the rest."""
    return with_arrival(load_defs(Path(__file__).parent))
