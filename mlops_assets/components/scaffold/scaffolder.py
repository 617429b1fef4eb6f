"""`dg scaffold defs mlops_assets.components.MLProduct NAME`: the same folder, Dagster's own way."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from mlops_assets.components.scaffold import Unusable, Wanted, new_product
from mlops_assets.components.scaffold.texts import EMPTY
from mlops_assets.components.scaffold.write import require_free
from mlops_assets.stores.sources import SourceError


class ScaffoldParams(BaseModel):
    """What `mlops new` takes as options; without `source` a declaration to fill in is written."""

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(
        default="",
        description="table.csv, table.parquet, a Delta folder, sqlite:///… or postgresql://…",
    )
    label: str = Field(default="", description="Column to predict.")
    time: str = Field(default="", description="Column of a row's time, if it has one.")
    keys: str = Field(default="", description="Columns that identify a row within its day: A,B.")
    task: str = Field(default="", description="binary, multiclass or regression.")
    table: str = Field(default="", description="Of a database.")
    lead_hours: float = Field(default=1.0, description="Hours before a row's time it is asked.")
    known_after_days: int = Field(default=1, description="Local days until a label is known.")
    zone: str = Field(default="UTC", description="Time zone of the days.")
    licence: str = Field(default="", description="Of the data: an SPDX name, or in words.")
    partitioning: str = Field(default="daily", description="hourly, daily, weekly or monthly.")


class MLProductScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes the folder of a product."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The options of the command."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the folder that is asked for.

        Raises:
            click.UsageError: it cannot be; with what would be good.
        """
        import click

        given, folder = request.params, request.target_path
        try:
            if request.scaffold_format != "yaml":
                raise Unusable("a product is declared in YAML; leave --format python out")
            if not given.source:
                if given.label:
                    raise Unusable("give --source, the table that the label is a column of")
                require_free(folder)
                text = EMPTY.format(name=folder.name, type=request.type_name)
                (folder / "defs.yaml").write_text(text, encoding="utf-8")
                return
            if not given.label:
                raise Unusable("give --label, the column to predict")
            keys = tuple(k.strip() for k in given.keys.split(",") if k.strip())
            said = given.model_dump() | {
                "keys": keys,
                "name": folder.name,
                "licence": given.licence.strip(),
            }
            root = request.project_root or folder.parents[2]
            new_product(Wanted(**said), root, folder)
        except (Unusable, SourceError) as error:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise click.UsageError(str(error)) from None
