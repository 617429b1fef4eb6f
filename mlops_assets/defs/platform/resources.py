"""Where this environment keeps its data: the one file that binds resources.

The local environment keeps everything under one folder, `$MLOPS_HOME` (default `var`, in the
current folder). The variables below point it elsewhere; credentials come from the environment.
"""

import os

import dagster as dg

from mlops_assets.components.io_manager import DeltaIOManager
from mlops_assets.components.resources import (
    BentoStoreResource,
    LakehouseResource,
    MlflowRunResource,
    ModelRegistryResource,
    OnlineStoreResource,
    RequestLogResource,
)
from mlops_assets.local import home, lake_uri, online_store_uri, request_log_folder


@dg.definitions
def resources() -> dg.Definitions:
    """The stores of this environment, under the names that assets ask for."""
    folder = home()
    lakehouse = LakehouseResource(uri=lake_uri())
    registry = ModelRegistryResource(
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"),
        artifact_uri=os.environ.get("MLOPS_ARTIFACT_URI", str(folder / "artifacts")),
        ui_url=os.environ.get("MLOPS_MLFLOW_UI", "http://127.0.0.1:5000"),
    )
    return dg.Definitions(
        resources={
            "lakehouse": lakehouse,
            "registry": registry,
            "mlflow_run": MlflowRunResource(registry=registry),
            "bentos": BentoStoreResource(home=str(folder / "bentos")),
            "online_store": OnlineStoreResource(uri=online_store_uri()),
            "request_log": RequestLogResource(folder=str(request_log_folder())),
            "io_manager": DeltaIOManager(lakehouse=lakehouse),
        },
        executor=dg.in_process_executor,
    )
