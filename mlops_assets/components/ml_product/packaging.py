"""Stage 6: the candidate as a Bento, built once for equal content, started and tried.

The trial is four gates: the running Bento answers real requests as the batch path does, with the
features that the batch path has, within its budget of time and of size. Where a check fails nothing
downstream runs. The version's tags in the registry then name its Bento and its contract.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.contract import contract_of
from mlops_assets.components.ml_product.evaluation import NAME as EVALUATION
from mlops_assets.components.ml_product.evaluation import (
    checks,
    judged_rows,
    rival,
    write_outcomes,
)
from mlops_assets.components.ml_product.origin import REFIT, evaluated
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.refit import to_package
from mlops_assets.components.ml_product.selection import CANDIDATE
from mlops_assets.components.ml_product.trial import BULK_ROWS, try_out
from mlops_assets.components.resources import (
    BentoStoreResource,
    LakehouseResource,
    ModelRegistryResource,
)
from mlops_assets.ml.gates import TRIED
from mlops_assets.stores.bento_source import service_version
from mlops_assets.stores.bento_store import BentoBuild, BentoStore
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "bento"
BENTO_TAG, CONTRACT_TAG = "bento", "contract"
"""Tags of a version: its Bento, and the hash of the contract, which says who can take it over."""


def build(
    bentos: BentoStore, models: ModelRegistry, product: Product, version: ModelVersion
) -> BentoBuild:
    """The Bento of a version; the same candidate and code give the same tag."""
    labels = {"product": product.name, "model_version": str(version.version)} | {
        k: version.tags[k] for k in ("family", "cutoff", "training_set_version")
    }
    return bentos.build(
        name=product.name,
        model_folder=models.download(version),
        contract=contract_of(product, version),
        labels=labels | {"mlflow_run": version.run_id},
    )


def bento_asset(product: Product) -> dg.AssetsDefinition:
    """The asset, with its trial as blocking checks."""
    key = product.key(NAME)
    last = REFIT if product.training.refit_on_all else EVALUATION

    @product.asset(
        NAME,
        product.code_version(
            build,
            try_out,
            product.columns,
            product.serving,
            product.spine_contract,
            service_version(),
        ),
        kinds=["bentoml"],
        description="The candidate as a Bento: built, started, and tried on real requests.",
        deps=[product.key(name) for name in dict.fromkeys((CANDIDATE, EVALUATION, last))],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, blocking=True, description=says)
            for name, says in TRIED.items()
        ],
        automation_condition=content_changed(product.table(last), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
        bentos: BentoStoreResource,
    ) -> Iterator[Any]:
        store, models = lakehouse.store, registry.store
        # What is promoted; the rows are those on which its evaluation judged.
        version = to_package(store, models, product)
        built = build(bentos.store, models, product, version)
        judged = evaluated(store, models, product, version)
        present = rival(store, models, product, judged)
        rows = judged_rows(store, product, judged, present).head(BULK_ROWS)
        files = models.download(version)
        outcomes, startup = try_out(store, bentos.store, built.tag, rows, files, product)
        # Before the outcomes, without which it is not promoted: what serves has these tags.
        tags = {BENTO_TAG: built.tag, CONTRACT_TAG: built.contract.hash}
        models.set_tags(product.name, version.version, tags)
        write_outcomes(store, product, version, outcomes, context.run.run_id, NAME)
        row = {"tag": built.tag, "model_version": version.version, "path": str(built.path)}
        store.overwrite(product.table(NAME), pl.DataFrame([row]), Commit(run_id=context.run.run_id))
        passed = all(outcome.passed for outcome in outcomes)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(combine(tag=built.tag, passed=str(passed))),
            metadata={
                "tag": built.tag,
                "path": dg.MetadataValue.path(str(built.path)),
                "model_version": version.version,
                "contract": built.contract.hash,
                "built": built.created,
                "build_seconds": built.seconds,
                "startup_seconds": startup,
            },
        )
        yield from checks(key, TRIED, outcomes)

    return asset
