"""Dagster resources: thin wrappers of the stores. defs/platform/resources.py alone binds them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.stores.lakehouse import Lakehouse

if TYPE_CHECKING:
    from mlops_assets.stores.bento_store import BentoStore
    from mlops_assets.stores.model_registry import ModelRegistry
    from mlops_assets.stores.online_store import OnlineStore


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
    ui_url: str = Field(description="Address of MLflow's UI, for links.")

    @cached_property
    def store(self) -> "ModelRegistry":
        """The registry itself; MLflow is imported on first use."""
        from mlops_assets.stores.model_registry import ModelRegistry

        return ModelRegistry(self.tracking_uri, self.artifact_uri, ui_url=self.ui_url)


class MlflowRunResource(dg.ConfigurableResource):
    """dagster-mlflow's resource: one MLflow run for a whole Dagster run, tagged with its id.

    For jobs that ask for it by their hook; an asset alone writes its own run by the registry.
    """

    registry: dg.ResourceDependency[ModelRegistryResource]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """Start the run in the experiment of the job's product, and end it where a step fails."""
        from dagster_mlflow.resources import MlFlow

        run = context.dagster_run
        if run is None:
            raise ValueError("mlflow_run is the MLflow run of a Dagster run; there is none here")
        product = run.job_name.removesuffix("_retrain")
        self.registry.store.experiment_id(product)
        config = {
            "experiment_name": product,
            "mlflow_tracking_uri": self.registry.tracking_uri,
            "extra_tags": {"product": product, "role": "retraining"},
        }
        with _as_it_was("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
            mlflow_run = MlFlow(
                SimpleNamespace(
                    log=context.log, dagster_run=run, run_id=run.run_id, resource_config=config
                )
            )
            yield mlflow_run
            mlflow_run.cleanup_on_error()


@contextmanager
def _as_it_was(*variables: str) -> Iterator[None]:
    """Put environment variables back: MLflow sets them for whatever the process does next."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class BentoStoreResource(dg.ConfigurableResource):
    """Where built Bentos are kept."""

    home: str = Field(description="Folder of the Bento store (BENTOML_HOME).")

    @cached_property
    def store(self) -> "BentoStore":
        """The store itself; BentoML is imported on first use."""
        from mlops_assets.stores.bento_store import BentoStore

        return BentoStore(Path(self.home))


class OnlineStoreResource(dg.ConfigurableResource):
    """Where servers read the newest features by key."""

    uri: str = Field(description="lmdb:///folder, or redis://host:port/db.")

    @cached_property
    def store(self) -> "OnlineStore":
        """The store itself; a writer may take its time."""
        from mlops_assets.stores.online_store import open_store

        return open_store(self.uri, timeout=30)


class RequestLogResource(dg.ConfigurableResource):
    """Where servers log requests until they are in the lake."""

    folder: str = Field(description="Folder that the servers of this environment write to.")

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)
