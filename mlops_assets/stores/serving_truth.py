"""What may serve, and why another version may not: the alias, the gates' rows and the promotions.

The registry's alias `champion` names what serves, but anybody can move an alias. A version serves
only if a promotion of it is on record in the lake and no gate has failed it since. Everything that
needs to know asks here: assets, the commands, and a server before it loads a version. No writing.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from mlops_assets.ml.gates import REQUIRED
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, ModelVersion

GATE_RESULTS = "gate_results"
PROMOTIONS = "promotions"
PROMOTED, WAITING = "promoted", "waiting"


class MayNotServe(LookupError):
    """No version may serve, or the one that is asked for may not; the message says what to do."""


def refusals(store: Lakehouse, product: str, version: ModelVersion) -> list[str]:
    """Why a version may not be promoted; empty when each required gate passed last time."""
    judged = last_outcomes(store, product, version)
    return [
        f"{gate}: {judged[gate]['detail'] if gate in judged else 'not judged'}"
        for gate in sorted(REQUIRED)
        if gate not in judged or not judged[gate]["passed"]
    ]


def objections(store: Lakehouse, product: str, version: ModelVersion) -> list[str]:
    """Why a version may not serve; empty where it was promoted and no gate failed it since.

    A gate that is new since its promotion does not stop it: the next evaluation judges.
    """
    if _promotions(store, product).filter(digest=version.digest).is_empty():
        return refusals(store, product, version) or ["promotion: nobody promoted it"]
    judged = last_outcomes(store, product, version)
    return [f"{g}: {last['detail']}" for g, last in sorted(judged.items()) if not last["passed"]]


def last_outcomes(
    store: Lakehouse, product: str, version: ModelVersion
) -> dict[str, dict[str, Any]]:
    """Gate to its row of the last time that it judged this very content; empty where none did."""
    table = f"{product}/{GATE_RESULTS}"
    if not store.exists(table):
        return {}
    rows = store.scan(table).filter(digest=version.digest).sort("judged_at").collect()
    return {row["gate"]: row for row in rows.iter_rows(named=True)}


def serving_version(store: Lakehouse, models: ModelRegistry, product: str) -> ModelVersion:
    """The version that serves and scores.

    Raises:
        MayNotServe: nothing was ever promoted, the alias names a version that may not serve or
            none at all, or the registry is not the one that the lake knows.
    """
    require_known_registry(store, models, product)
    version, last = models.champion(product), _last_promoted(store, product)
    if version is None and last is None:
        raise MayNotServe(f"{product} has no champion; materialize one first")
    if version is None:
        raise MayNotServe(
            f"{product}: no version has the alias {CHAMPION}, although version {last} was promoted"
            f" last. Give the alias back to it, in MLflow's UI ({models.ui_url})."
        )
    if against := objections(store, product, version):
        raise MayNotServe(
            f"{product}: the alias {CHAMPION} names version {version.version}, which did not pass"
            f" {'; '.join(against)}. Give the alias back to"
            f" {f'version {last}, which was promoted' if last else 'a version that did'}, in"
            f" MLflow's UI ({models.ui_url}); until then nothing is scored or served."
        )
    return version


def incumbent(store: Lakehouse, models: ModelRegistry, product: str) -> ModelVersion | None:
    """The version that a candidate is compared with: what the alias names if it was promoted.

    Where the alias was moved to one that never was, the last that was; None where none was. Unlike
    `serving_version` it also names a champion that has failed a gate since, so that another can
    take its place.

    Raises:
        MayNotServe: the registry is not the one that the lake knows.
    """
    require_known_registry(store, models, product)
    promoted = _promotions(store, product)
    if promoted.is_empty():
        return None
    version = models.champion(product)
    if version and version.digest in promoted["digest"]:
        return version
    return models.get(product, promoted["model_version"][-1])


def predecessor(
    store: Lakehouse, models: ModelRegistry, product: str, present: ModelVersion
) -> ModelVersion | None:
    """The version that served before `present`, by the order of the promotions; None if none did.

    Raises:
        VersionNotFound: the registry lacks it.
    """
    others = _promotions(store, product).filter(pl.col("digest") != present.digest)
    return None if others.is_empty() else models.get(product, others["model_version"][-1])


def beside_version(
    store: Lakehouse, models: ModelRegistry, product: str, number: int, *, answers: bool
) -> ModelVersion:
    """A version that runs beside the champion: in its shadow, or answering a share of keys.

    A shadow must have passed every gate; one that answers must have been promoted.

    Raises:
        MayNotServe: naming what speaks against it.
        VersionNotFound: naming the versions there are.
    """
    version = models.get(product, number)
    against = objections(store, product, version)
    if against and not answers:
        against = refusals(store, product, version)
    if against:
        part = "answer a share" if answers else "shadow"
        raise MayNotServe(f"{version.label} may not {part}: {'; '.join(against)}")
    return version


def require_known_registry(store: Lakehouse, models: ModelRegistry, product: str) -> None:
    """Refuse a registry that lacks a version which the lake has on record as promoted.

    Predictions and promotions name versions by number. A registry that lost its database would
    give the same numbers to other models.

    Raises:
        MayNotServe: naming the registry, the version and what to do.
    """
    promoted = _promotions(store, product)
    if promoted.is_empty():
        return
    there = {version.version: version.digest for version in models.versions(product)}
    for number, digest in promoted.unique().sort("model_version").iter_rows():
        if there.get(number) == digest:
            continue
        found = f"another model as version {number}" if number in there else f"no version {number}"
        raise MayNotServe(
            f"{product}: MLflow at {models.tracking_uri} has {found}, although"
            f" {product}/{PROMOTIONS} in the lake says that it was promoted (digest {digest[:12]})."
            " Is MLFLOW_TRACKING_URI right? Put the database back from a backup; if it is lost,"
            " begin with a new MLOPS_HOME: the predictions that are there name versions by number,"
            " which no other model may take."
        )


def known_version(
    store: Lakehouse, models: ModelRegistry, product: str, number: int
) -> ModelVersion:
    """One version, of a registry that has all that were promoted.

    Raises:
        MayNotServe: the registry is not the one that the lake knows.
        VersionNotFound: naming the versions there are.
    """
    require_known_registry(store, models, product)
    return models.get(product, number)


def alias_state(store: Lakehouse, models: ModelRegistry, product: str) -> tuple[bool, str]:
    """Whether what the alias names may serve, and a sentence that says so or why not."""
    try:
        version = serving_version(store, models, product)
    except MayNotServe as refused:
        return False, str(refused)
    return True, f"the alias {CHAMPION} names version {version.version}, which was promoted"


def _last_promoted(store: Lakehouse, product: str) -> int | None:
    promoted = _promotions(store, product)
    return None if promoted.is_empty() else promoted["model_version"][-1]


def _promotions(store: Lakehouse, product: str) -> pl.DataFrame:
    """Rows of `promotions` that say promoted, oldest first."""
    table = f"{product}/{PROMOTIONS}"
    if not store.exists(table):
        return pl.DataFrame(schema={"model_version": pl.Int64, "digest": pl.String})
    rows = store.scan(table).filter(pl.col("status") == PROMOTED).sort("decided_at")
    return rows.select("model_version", "digest").collect()
