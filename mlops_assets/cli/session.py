"""An open local environment: the definitions, the Dagster instance, and the stores beneath."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
import typer
from rich.markup import escape

from mlops_assets.cli.console import Progress, err, tell_of_the_disk
from mlops_assets.components.engine import Engine
from mlops_assets.components.run_workers import end_abandoned
from mlops_assets.local import EnvironmentBusy, only_engine, prepare
from mlops_assets.stores.lakehouse import Lakehouse, UnsafeStore
from mlops_assets.stores.model_registry import ModelRegistry
from mlops_assets.stores.online_store import OnlineStore


@dataclass(frozen=True)
class Session:
    """One environment that a command works on."""

    home: Path
    definitions: dg.Definitions
    engine: Engine

    @property
    def lakehouse(self) -> Lakehouse:
        """The lakehouse that the definitions bind."""
        return self.definitions.resources["lakehouse"].store  # type: ignore[index]

    @property
    def registry(self) -> ModelRegistry:
        """The model registry that the definitions bind."""
        return self.definitions.resources["registry"].store  # type: ignore[index]

    @property
    def online_store(self) -> OnlineStore:
        """The online store that the definitions bind."""
        return self.definitions.resources["online_store"].store  # type: ignore[index]

    @cached_property
    def products(self) -> list[str]:
        """Names of the products, by their champion assets."""
        keys = self.engine.graph.get_all_asset_keys()
        return sorted(k.path[0] for k in keys if k.path[-1] == "champion")


@contextmanager
def session(
    command: str, progress: Progress | None = None, *, alone: bool = True
) -> Iterator[Session]:
    """Open the local environment for a command; end the command where that cannot be.

    One that only looks need not be alone.
    """
    with _troubles_told():
        home = prepare()
        from mlops_assets.definitions import defs

        definitions = defs()
        lock = only_engine(home, command) if alone else nullcontext()
        with lock, dg.DagsterInstance.get() as instance:
            if alone:
                end_abandoned(instance)
            engine = Engine(definitions, instance, progress, tags={"mlops/command": command})
            opened = Session(home, definitions, engine)
            opened.lakehouse.require_safe()
            yield opened


@contextmanager
def _troubles_told() -> Iterator[None]:
    """Say what is wrong with the environment where that is known, and end with status 1."""
    try:
        yield
    except (EnvironmentBusy, UnsafeStore) as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from None
    except Exception as error:
        if not tell_of_the_disk(str(error)):
            raise
        raise typer.Exit(1) from None
