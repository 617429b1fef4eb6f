"""`MLProduct`: a defs.yaml becomes the assets, checks and jobs of a product's whole lifecycle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import dagster as dg
from dagster.components.core.decl import YamlDecl
from dagster_shared.yaml_utils.source_position import SourcePosition
from pydantic import BaseModel, ConfigDict, Field

from mlops_assets.components.loading import BrokenDeclaration, Problem
from mlops_assets.components.ml_product import declaration as d
from mlops_assets.components.ml_product.calendar_retrain import calendar_retrain
from mlops_assets.components.ml_product.drift import drift_asset
from mlops_assets.components.ml_product.evaluation import evaluation_asset
from mlops_assets.components.ml_product.feature_view import feature_view
from mlops_assets.components.ml_product.importance import importance_asset
from mlops_assets.components.ml_product.model_card import model_card_asset
from mlops_assets.components.ml_product.online_features import online_features_asset
from mlops_assets.components.ml_product.online_performance import online_performance_asset
from mlops_assets.components.ml_product.packaging import bento_asset
from mlops_assets.components.ml_product.performance import performance_asset
from mlops_assets.components.ml_product.problem import Unresolved
from mlops_assets.components.ml_product.problems import problems
from mlops_assets.components.ml_product.product import PRODUCTS, Product
from mlops_assets.components.ml_product.promotion import champion_assets
from mlops_assets.components.ml_product.reading import Finding, read
from mlops_assets.components.ml_product.refit import refit_asset
from mlops_assets.components.ml_product.requests import (
    requests_asset,
    requests_job,
    requests_sensor,
)
from mlops_assets.components.ml_product.retrain_decisions import consider_job, decisions_asset
from mlops_assets.components.ml_product.retraining import approve_job, retrain_job
from mlops_assets.components.ml_product.rollback import rollback_job, rollbacks_asset
from mlops_assets.components.ml_product.scoring import predictions_asset
from mlops_assets.components.ml_product.selection import candidate_asset, leaderboard_asset
from mlops_assets.components.ml_product.sensors import retrain_sensor, watch_sensor
from mlops_assets.components.ml_product.shadow import shadow_asset
from mlops_assets.components.ml_product.skew import skew_asset
from mlops_assets.components.ml_product.training import fit_asset
from mlops_assets.components.ml_product.training_set import training_set
from mlops_assets.components.ml_product.usual import with_usual
from mlops_assets.components.scaffold.scaffolder import MLProductScaffolder


class Attributes(BaseModel):
    """What a defs.yaml gives, whatever it is; described as what `MLProduct` takes."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """The fields with their types as help for editors and the UI, none of them binding."""
        schema = MLProduct.model_json_schema(*args, **options)
        said = ("title", "description", "default")
        described = {
            name: {k: field[k] for k in said if k in field} | {"anyOf": [field, {}]}
            for name, field in schema["properties"].items()
        }
        return schema | {"properties": described, "additionalProperties": True, "required": []}


@dg.scaffold_with(MLProductScaffolder)
class MLProduct(dg.Component, dg.Model):
    """A prediction problem: what to predict, from what, how well, and when to say yes."""

    description: str = Field(description="The question that a prediction answers.")
    owners: list[str] = Field(default=[], description="Teams (team:NAME) or e-mail addresses.")
    problem: str = Field(
        default="",
        description="Python module with DAYS, spine(...) and label(...), where columns alone"
        " (spine.time, label.column) do not say it.",
    )
    task: Literal["binary", "multiclass", "regression"] = Field(
        default="binary", description="What kind of label it is."
    )
    spine: d.Spine = Field(description="The rows to predict.")
    label: d.Label = Field(description="What is to be predicted.")
    features: d.Features = Field(description="What the model reads.")
    training: d.Training = Field(description="How a candidate comes about.")
    evaluation: d.Evaluation = Field(
        default=d.Evaluation(), description="What the report on a candidate shows."
    )
    gates: d.Gates = Field(default=d.Gates(), description="What a candidate must meet.")
    compliance: d.Compliance = Field(
        default=d.Compliance(), description="What is asked of people's data and of licences."
    )
    serving: d.Serving = Field(default=d.Serving(), description="What the served model may cost.")
    promotion: d.Promotion = Field(default=d.Promotion(), description="Who says yes.")
    monitoring: d.Monitoring = Field(default=d.Monitoring(), description="What is watched.")
    retraining: d.Retraining = Field(default=d.Retraining(), description="When to train anew.")
    card: d.Card = Field(default=d.Card(), description="What stands on a champion's model card.")

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Anything, so that `load` can name everything that is wrong and not only the first."""
        return Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> MLProduct:
        """The declaration, read and checked.

        Raises:
            BrokenDeclaration: with everything that is wrong.
        """
        tables_beside(context)
        given = (
            context.resolution_context.resolve_value(attributes.model_dump()) if attributes else {}
        )
        declared, findings = read(cls, given)
        findings += [*problems(declared.product(context.path.name)), *_namesakes(context)]
        if findings:
            raise BrokenDeclaration(_placed(finding, context) for finding in findings)
        return declared

    def product(self, name: str) -> Product:
        """The declaration under its name; what it lacks is empty."""
        names = (f.name for f in fields(Product) if f.name != "name")
        declared: dict[str, Any] = {name: getattr(self, name, "") for name in names}
        label, table = declared["label"], getattr(declared["spine"], "table", None)
        if table and getattr(label, "table", None) == "":
            label = label.model_copy(update={"table": table})
        said = declared | {"owners": tuple(declared["owners"]), "label": label}
        product = Product(name=name, **said)
        every = _every(product)
        parts: dict[str, Any] = {
            n: with_usual(v, every) for n, v in said.items() if isinstance(v, d.Part)
        }
        return replace(product, **parts)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets of the product that its folder names, stage by stage."""
        product = PRODUCTS[context.path.name] = self.product(context.path.name)
        retrain, consider, roll_back, ship = (
            retrain_job(product), consider_job(product), rollback_job(product),
            requests_job(product),
        )  # fmt: skip
        beside = dg.load_assets_from_modules(tables_beside(context))
        return dg.Definitions(
            assets=[
                *beside,
                feature_view(product),
                training_set(product),
                *(fit_asset(product, family) for family in product.fits),
                leaderboard_asset(product),
                candidate_asset(product),
                evaluation_asset(product),
                *([refit_asset(product)] if product.training.refit_on_all else []),
                bento_asset(product),
                *champion_assets(product),
                predictions_asset(product),
                performance_asset(product),
                drift_asset(product),
                importance_asset(product),
                model_card_asset(product),
                shadow_asset(product),
                decisions_asset(product),
                rollbacks_asset(product),
                online_features_asset(product),
                requests_asset(product),
                skew_asset(product),
                online_performance_asset(product),
            ],
            jobs=[
                retrain,
                consider,
                roll_back,
                ship,
                *([approve_job(product)] if product.promotion.approval == "required" else []),
            ],
            schedules=[calendar_retrain(product, self.retraining.calendar)],
            sensors=[
                watch_sensor(product, consider, roll_back),
                retrain_sensor(product, retrain),
                requests_sensor(product, ship),
            ],
        )


_NO_TABLES = {"__init__", "problem", "expressions"}
"""Modules of a product's folder that declare no tables."""


def tables_beside(context: dg.ComponentLoadContext) -> list[ModuleType]:
    """The Python modules of the product's own folder, which declare its tables."""
    return [
        context.load_defs_relative_python_module(path)
        for path in sorted(context.path.glob("*.py"))
        if path.stem not in _NO_TABLES and not path.stem.startswith("test_")
    ]


def _namesakes(context: dg.ComponentLoadContext) -> Iterator[Finding]:
    """Other products whose folder has the same name, wherever it lies."""
    for decl in context.component_tree.find_root_decl().iterate_all_component_decls():
        if not isinstance(decl, YamlDecl) or decl.loc == context.component_loc:
            continue
        if decl.component_type is MLProduct and decl.context.path.name == context.path.name:
            other = _position(decl, ())
            file = Path(other.filename).relative_to(context.project_root)
            says = f"is that of {file}:{other.start.line} too; rename one of the folders"
            yield Finding((), f"the product's name {context.path.name!r} {says}")


def _placed(finding: Finding, context: dg.ComponentLoadContext) -> Problem:
    path = ("attributes", *finding.path) if finding.path else ()
    position = _position(context.component_decl, path)
    return Problem(Path(position.filename), position.start.line, str(finding))


def _position(decl: Any, path: tuple[str | int, ...]) -> SourcePosition:
    """Where a field stands; where it does not, the nearest that it belongs to."""
    return decl.source_tree.source_position_tree.lookup_closest_and_path(path, None)[0]


def _every(product: Product) -> str:
    """How long the product's periods are; a day where that cannot be told yet."""
    try:
        return product.partitions.every
    except (Unresolved, AttributeError):
        return "day"
