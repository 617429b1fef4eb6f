"""Stage 7: the champion, which is what the registry's alias says, if it was promoted here.

A version is promoted only when each required gate has passed for it, by its rows in `gate_results`.
The check `alias_passed_gates` says whether what the alias names may serve; it is asked again while
a daemon runs (defs/platform/registry_watch.py), since an alias can be moved by hand.
With `promotion.approval: required` a passed candidate waits as a row in `promotions` until a person
settles it, in the UI or by `mlops approve`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.components.automation import content_changed
from mlops_assets.components.ml_product.incumbent import (
    ALIAS_CHECK,
    PROMOTED,
    PROMOTIONS,
    WAITING,
    alias_state,
    incumbent,
    known_version,
    refusals,
)
from mlops_assets.components.ml_product.origin import described
from mlops_assets.components.ml_product.packaging import NAME as BENTO
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion

NAME = "champion"
REQUEST = "promotion_request"
AUTOMATIC = "automation"
ROLLED_BACK = "rolled_back"


class Approval(dg.Config):
    """Who settles a waiting promotion."""

    approved_by: str = Field(description="Name of the person who approves it.", min_length=1)
    reason: str = Field(default="", description="Why, for those who read it later.")


def promote(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    version: ModelVersion,
    by: str,
    reason: str,
    run_id: str,
) -> None:
    """Move the alias to a version that passed every gate, and say so in `promotions`.

    The row is written first: a server loads a version only with such a row, so that a process
    killed in between leaves a permission that the next run uses, never an alias without one.

    Raises:
        dagster.Failure: naming the gates that it did not pass.
    """
    if refused := refusals(store, product.name, version):
        raise dg.Failure(
            f"{product.name} version {version.version} is not promoted: {'; '.join(refused)}",
            allow_retries=False,
        )
    if by == AUTOMATIC and withdrawn(store, product, version):
        raise dg.Failure(
            f"{product.name} version {version.version} was rolled back and does not come back by"
            f" itself; `mlops rollback {product.name} --to {version.version}` brings it back.",
            allow_retries=False,
        )
    write_promotion(store, product, version, PROMOTED, by, reason, run_id)
    models.set_alias(product.name, CHAMPION, version.version)


def write_promotion(
    store: Lakehouse,
    product: Product,
    version: ModelVersion,
    status: str,
    by: str,
    reason: str,
    run_id: str,
) -> None:
    """Append a row to `promotions`: a version waits, or was promoted, by whom and why."""
    row = {
        "model_version": version.version,
        "digest": version.digest,
        "status": status,
        "by": by,
        "reason": reason,
        "decided_at": moment(store, product),
        "run_id": run_id,
    }
    store.append(product.table(PROMOTIONS), pl.DataFrame([row]), Commit(run_id=run_id, note=status))


def moment(store: Lakehouse, product: Product) -> datetime:
    """The time of a new row of `promotions`: now, or just after the newest row.

    The order of the rows says what serves, also where the clock was set back in between.
    """
    now = datetime.now(UTC)
    if not store.exists(product.table(PROMOTIONS)):
        return now
    newest: datetime | None = (
        store.scan(product.table(PROMOTIONS)).select(pl.col("decided_at").max()).collect().item()
    )
    return max(now, newest + timedelta(microseconds=1)) if newest else now


def withdrawn(store: Lakehouse, product: Product, version: ModelVersion) -> bool:
    """Whether the newest word on a version is that it was rolled back."""
    if not store.exists(product.table(PROMOTIONS)):
        return False
    of_it = store.scan(product.table(PROMOTIONS)).filter(pl.col("digest") == version.digest)
    statuses = of_it.sort("decided_at").select("status").collect().to_series()
    return bool(len(statuses)) and statuses[-1] == ROLLED_BACK


def waiting(store: Lakehouse, product: Product) -> dict[str, Any] | None:
    """The newest row of `promotions` if it waits for a person."""
    if not store.exists(product.table(PROMOTIONS)):
        return None
    row = (
        store.scan(product.table(PROMOTIONS)).sort("decided_at").last().collect().row(0, named=True)
    )
    return row if row["status"] == WAITING else None


def champion_assets(product: Product) -> list[dg.AssetsDefinition]:
    """The champion; where a person must approve, the request that waits for one too."""
    if product.promotion.approval == "none":
        return [_promoted_at_once(product)]
    return [_request(product), _promoted_by_a_person(product)]


def _champion(product: Product, **options: Any) -> Any:
    return product.asset(
        NAME,
        product.code_version(promote, product.promotion),
        kinds=["mlflow"],
        description="The promoted model: what serves and what scores.",
        check_specs=[
            dg.AssetCheckSpec(
                ALIAS_CHECK,
                asset=product.key(NAME),
                blocking=True,
                description="What the registry's alias names was promoted, and no gate failed it.",
            )
        ],
        **options,
    )


def _promoted_at_once(product: Product) -> dg.AssetsDefinition:
    @_champion(
        product,
        deps=[product.key(BENTO)],
        automation_condition=content_changed(product.table(BENTO), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        store, models = lakehouse.store, registry.store
        version = _packaged(store, models, product)
        promote(store, models, product, version, AUTOMATIC, passed(version), context.run.run_id)
        yield _result(store, models, product, version, AUTOMATIC)

    return asset


def _request(product: Product) -> dg.AssetsDefinition:
    @product.asset(
        REQUEST,
        product.code_version(waiting, product.promotion),
        description="A candidate that passed every gate and waits for a person.",
        deps=[product.key(BENTO)],
        automation_condition=content_changed(product.table(BENTO), gated=True),
    )
    def asset(
        context: dg.AssetExecutionContext,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models = lakehouse.store, registry.store
        version = _packaged(store, models, product)
        # What serves already, say since before approval was required, waits for nobody.
        if incumbent(store, models, product.name) != version:
            write_promotion(
                store, product, version, WAITING, AUTOMATIC, passed(version), context.run.run_id
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(combine(waiting=version.digest)),
            metadata={
                "model_version": version.version,
                "next": f"materialize {product.table(NAME)} with approved_by, or run"
                f" `mlops approve {product.name} --by NAME`",
            },
        )

    return asset


def _promoted_by_a_person(product: Product) -> dg.AssetsDefinition:
    @_champion(product, deps=[product.key(REQUEST)])
    def asset(
        context: dg.AssetExecutionContext,
        config: Approval,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        store, models = lakehouse.store, registry.store
        row = waiting(store, product)
        if row is None:
            raise dg.Failure(
                f"{product.name}: no promotion waits for approval", allow_retries=False
            )
        version = known_version(store, models, product.name, row["model_version"])
        promote(
            store, models, product, version, config.approved_by, config.reason, context.run.run_id
        )
        yield _result(store, models, product, version, config.approved_by)

    return asset


def passed(version: ModelVersion) -> str:
    """Why a version is promoted, and what is special about it."""
    return f"passed every gate; fitted on {described(version)}"


def _packaged(store: Lakehouse, models: ModelRegistry, product: Product) -> ModelVersion:
    row = store.scan(product.table(BENTO)).collect().row(0, named=True)
    return known_version(store, models, product.name, row["model_version"])


def _result(
    store: Lakehouse, models: ModelRegistry, product: Product, version: ModelVersion, by: str
) -> dg.MaterializeResult[Any]:
    serves, why = alias_state(store, models, product.name)
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(passed=serves, check_name=ALIAS_CHECK, description=why)],
        data_version=dg.DataVersion(
            combine(model=version.digest, threshold=version.tags["threshold"])
        ),
        metadata={
            "model_version": version.version,
            "family": version.tags["family"],
            "approved_by": by,
            "cutoff": version.tags["cutoff"],
            "fitted_on": described(version),
        },
    )
