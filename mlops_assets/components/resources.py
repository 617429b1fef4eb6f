"""Dagster resources: thin wrappers of the stores. defs/platform/resources.py alone binds them."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_assets.stores.lakehouse import Lakehouse

if TYPE_CHECKING:
    from mlops_assets.stores.bento_store import BentoStore
    from mlops_assets.stores.model_registry import ModelRegistry


class LakehouseResource(dg.ConfigurableResource):
    """The lakehouse that this environment reads and writes."""

    uri: str = Field(description="Folder or object-store URI that holds the Delta tables.")
    storage_options: dict[str, str] = Field(
        default={}, description="Options for the object store, as delta-rs names them."
    )

    @cached_property
    def store(self) -> Lakehouse:
        """The store itself, which knows nothing of Dagster."""
        return Lakehouse(self.uri, self.storage_options or None)


class ModelRegistryResource(dg.ConfigurableResource):
    """The MLflow tracking server and registry of this environment."""

    tracking_uri: str = Field(description="MLflow tracking URI: sqlite:///… or http://…")
    artifact_uri: str = Field(description="Folder or object-store URI for artifacts.")

    @cached_property
    def store(self) -> "ModelRegistry":
        """The registry itself; MLflow is imported on first use."""
        from mlops_assets.stores.model_registry import ModelRegistry

        return ModelRegistry(self.tracking_uri, self.artifact_uri)


class BentoStoreResource(dg.ConfigurableResource):
    """Where built Bentos are kept."""

    home: str = Field(description="Folder of the Bento store (BENTOML_HOME).")

    @cached_property
    def store(self) -> "BentoStore":
        """The store itself; BentoML is imported on first use."""
        from mlops_assets.stores.bento_store import BentoStore

        return BentoStore(Path(self.home))
