"""The code location: everything under defs/, loaded by Dagster.

Add a product as a folder with a defs.yaml, a table as a function under its domain's folder, a
binding of the environment in defs/platform/resources.py. Nothing is declared here.
"""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Autoload defs/."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
