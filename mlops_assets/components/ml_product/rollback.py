"""Stage 14: the predecessor comes back, by itself when the new champion is worse, or by a person.

What serves is the registry's alias. Two rows in `promotions` say which version went and which came,
by whom and why; a version that was rolled back is not promoted again by itself. Predictions that
were made stay.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.components.ml_product import scoring, shadow
from mlops_assets.components.ml_product.incumbent import incumbent
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.promotion import (
    AUTOMATIC,
    PROMOTIONS,
    ROLLED_BACK,
    moment,
    refusals,
    withdrawn,
)
from mlops_assets.components.ml_product.promotion import NAME as CHAMPION
from mlops_assets.components.ml_product.shadow import first_scored, gain_over_shadow, serving
from mlops_assets.components.resources import LakehouseResource, ModelRegistryResource
from mlops_assets.ml.bootstrap import Interval
from mlops_assets.stores.content import combine
from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets.stores.model_registry import CHAMPION as ALIAS
from mlops_assets.stores.model_registry import ModelRegistry, ModelVersion

NAME = "rollbacks"


@dataclass(frozen=True)
class Worse:
    """A champion that is worse than its predecessor, which is to come back."""

    champion: ModelVersion
    predecessor: ModelVersion
    since: date
    gain: Interval
    unit: str = "nats"

    @property
    def reason(self) -> str:
        """Why, with the numbers."""
        gain = self.gain
        return (
            f"since {self.since} version {self.champion.version} gains {gain.value:+.4f}"
            f" [{gain.low:+.4f}, {gain.high:+.4f}] {self.unit} over version"
            f" {self.predecessor.version}"
        )


class RolledBack(dg.Config):
    """Who asks for it; empty for the shadow's comparison."""

    by: str = Field(default="", description="Name of the person who rolls back.")
    to: int = Field(
        default=0, description="Version that is to serve again; 0 for the one that served before."
    )
    reason: str = Field(default="", description="Why, for those who read it later.")


def worse_champion(store: Lakehouse, models: ModelRegistry, product: Product) -> Worse | None:
    """The champion if it is surely worse than its predecessor in the shadow, else None."""
    champion = incumbent(store, models, product.name)
    scored = first_scored(store, product)
    found = serving(scored, scored[shadow.DAY][-1], product.periods) if scored.height else None
    # A champion that has scored no new day yet has not been compared.
    if champion is None or found is None or found.version != champion.version:
        return None
    gain = gain_over_shadow(store, product, found)
    if gain is None or gain.high >= -product.margins.rollback:
        return None
    assert found.predecessor is not None
    before = models.get(product.name, found.predecessor)
    return Worse(champion, before, found.since, gain, product.target.unit)


def served_before(store: Lakehouse, models: ModelRegistry, product: Product) -> ModelVersion:
    """The newest version but the champion that was promoted and not rolled back.

    Where the alias was moved by hand to one that may not serve, the champion itself.

    Raises:
        dagster.Failure: there is none.
    """
    champion = incumbent(store, models, product.name)
    if champion is not None and ALIAS not in champion.aliases:
        return champion
    if store.exists(product.table(PROMOTIONS)):
        rows = store.scan(product.table(PROMOTIONS)).filter(pl.col("status") == "promoted")
        ordered = rows.sort("decided_at", descending=True).select("model_version").collect()
        for number in ordered.to_series():
            version = models.get(product.name, number)
            is_champion = champion is not None and version.version == champion.version
            if not is_champion and not withdrawn(store, product, version):
                return version
    raise dg.Failure(
        f"{product.name}: no earlier champion that could come back; name a version with --to",
        allow_retries=False,
    )


def roll_back(
    store: Lakehouse,
    models: ModelRegistry,
    product: Product,
    to: ModelVersion,
    by: str,
    reason: str,
    run_id: str,
) -> None:
    """Let `to` serve instead of the champion, and say so in `promotions`.

    The rows come first, both in one commit; killed after them, the same call moves the alias. An
    alias that was moved by hand is given back by the same call.

    Raises:
        dagster.Failure: `to` serves already, or did not pass its gates.
    """
    champion = incumbent(store, models, product.name)
    serves = champion is not None and champion.version == to.version
    if champion is None or (serves and ALIAS in champion.aliases):
        served = f"version {to.version} serves already" if champion else "there is no champion"
        raise dg.Failure(f"{product.name}: {served}; nothing to roll back", allow_retries=False)
    if refused := refusals(store, product.name, to):
        raise dg.Failure(
            f"{product.name} version {to.version} does not come back: {'; '.join(refused)}",
            allow_retries=False,
        )
    if not withdrawn(store, product, champion):
        at = moment(store, product)
        now = {"by": by, "reason": reason, "decided_at": at, "run_id": run_id}
        went = [] if serves else [(champion, ROLLED_BACK)]
        rows = [
            {"model_version": v.version, "digest": v.digest, "status": status, **now}
            for v, status in (*went, (to, "promoted"))
        ]
        commit = Commit(run_id=run_id, note=ROLLED_BACK)
        store.append(product.table(PROMOTIONS), pl.DataFrame(rows), commit)
    models.set_alias(product.name, ALIAS, to.version)


def rollback_job(product: Product) -> Any:
    """Let the predecessor serve again; in the Launchpad a person says who asks, and why."""
    return dg.define_asset_job(
        f"{product.name}_rollback",
        selection=dg.AssetSelection.assets(product.key(NAME)),
        description="Give the alias champion back to a version that served before.",
    )


def rollbacks_asset(product: Product) -> dg.AssetsDefinition:
    """The asset: each time a champion had to go, and the comparison that said so."""
    champion_key = product.key(CHAMPION)

    @product.asset(
        NAME,
        product.code_version(roll_back, product.margins),
        kinds=["mlflow"],
        description="Champions that went again: which, for which, by whom and why.",
        deps=[product.key(scoring.NAME), product.key(shadow.NAME)],
    )
    def asset(
        context: dg.AssetExecutionContext,
        config: RolledBack,
        lakehouse: LakehouseResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult[Any]:
        store, models, run_id = lakehouse.store, registry.store, context.run.run_id
        found = None
        if config.by:
            to = models.get(product.name, config.to) if config.to else None
            to, reason = to or served_before(store, models, product), config.reason
        else:
            found = worse_champion(store, models, product)
            if found is None:
                return _nothing(store, models, product)
            to, reason = found.predecessor, found.reason
        before = incumbent(store, models, product.name)
        by = config.by or AUTOMATIC
        roll_back(store, models, product, to, by, reason, run_id)
        assert before is not None
        _write(store, product, before, to, found, by, reason, run_id)
        content = combine(model=to.digest, threshold=to.tags["threshold"])
        shown: dict[str, Any] = {"model_version": to.version, "family": to.tags["family"]}
        shown["reason"] = reason
        # The champion is another one from here on: what follows it by content follows.
        context.log_event(
            dg.AssetMaterialization(
                champion_key,
                metadata=shown,
                tags={
                    "dagster/data_version": content,
                    "dagster/data_version_is_user_provided": "true",
                },
            )
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content),
            metadata={**shown, "replaced": before.version, "by": by},
        )

    return asset


def _write(
    store: Lakehouse,
    product: Product,
    champion: ModelVersion,
    to: ModelVersion,
    found: Worse | None,
    by: str,
    reason: str,
    run_id: str,
) -> None:
    row = {
        "champion": champion.version,
        "model_version": to.version,
        "gain": found.gain.value if found else None,
        "gain_low": found.gain.low if found else None,
        "gain_high": found.gain.high if found else None,
        "since": found.since if found else None,
        "by": by,
        "reason": reason,
        "decided_at": datetime.now(UTC),
        "run_id": run_id,
    }
    frame = pl.DataFrame([row], schema=_SCHEMA)
    store.append(product.table(NAME), frame, Commit(run_id=run_id, note=reason))


_SCHEMA: dict[str, Any] = {
    "champion": pl.Int64, "model_version": pl.Int64, "gain": pl.Float64, "gain_low": pl.Float64,
    "gain_high": pl.Float64, "since": pl.Date, "by": pl.String, "reason": pl.String,
    "decided_at": pl.Datetime("us", "UTC"), "run_id": pl.String,
}  # fmt: skip


def _nothing(
    store: Lakehouse, models: ModelRegistry, product: Product
) -> dg.MaterializeResult[Any]:
    champion = incumbent(store, models, product.name)
    content = combine(champion=champion.digest if champion else "")
    shown = {"reason": "the champion is not surely worse than its predecessor; nothing changes"}
    return dg.MaterializeResult(data_version=dg.DataVersion(content), metadata=shown)
