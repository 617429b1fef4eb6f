"""From a table to the folder of a product: what `mlops new` and `dg scaffold defs` both do.

In the order of the flow: wanted.py (what is asked for), look.py (what the table is), columns.py
(names and types), decide.py (task, keys, features), calendar.py (days and cut-off), contract.py,
render.py and texts.py (the files), write.py (all of them or none).
"""

from dataclasses import dataclass
from pathlib import Path

from mlops_assets.components.scaffold.decide import Decided, decide
from mlops_assets.components.scaffold.look import look
from mlops_assets.components.scaffold.render import render
from mlops_assets.components.scaffold.wanted import Unusable, Wanted
from mlops_assets.components.scaffold.write import Made, require_free, test_path, write

__all__ = ["New", "Unusable", "Wanted", "new_product"]


@dataclass(frozen=True)
class New:
    """A product that was made, and what was decided for it."""

    made: Made
    decided: Decided


def new_product(wanted: Wanted, root: Path, folder: Path) -> New:
    """Look at a table and write the folder of a product that predicts its label.

    Args:
        wanted: what is asked for.
        root: of the project, whose packages are below it.
        folder: the product's, below `root`; it must not be there, or be empty.

    Raises:
        Unusable: the table or what is asked of it cannot become a product.
        SourceError: the table cannot be read.
    """
    wanted.check()
    require_free(folder)
    table = look(wanted)
    decided = decide(wanted, table)
    package = ".".join(folder.relative_to(root).parts)
    test = str(test_path(root, folder).relative_to(root))
    files = render(wanted, table, decided, package, test)
    return New(write(root, folder, files), decided)
