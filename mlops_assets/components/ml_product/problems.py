"""What can be wrong with a product's declaration, found before any data is there.

Each check yields what it finds; all of them run. One that needs a field which is itself wrong or
missing finds nothing: that field is reported already.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import polars as pl
from pydantic import BaseModel

from mlops_assets.components.loading import told
from mlops_assets.components.ml_product import problems_of_days as days
from mlops_assets.components.ml_product import problems_of_serving as serving
from mlops_assets.components.ml_product.problem import Unresolved
from mlops_assets.components.ml_product.product import Product
from mlops_assets.components.ml_product.reading import Finding, Path, unknown
from mlops_assets.components.tables.feature_table import DEFINITIONS
from mlops_assets.components.tables.quality import DAY
from mlops_assets.components.tables.table_asset import TABLES
from mlops_assets.ml.families import families, family
from mlops_assets.ml.point_in_time import PREDICTION_TIME
from mlops_assets.ml.targets import TARGETS

GREATEST_GAIN = math.log(2)
"""Log loss (nats) of saying one half to everything; no gain over a sound baseline is greater."""

Check = Callable[[Product], Iterator[Finding]]


def problems(product: Product) -> list[Finding]:
    """All findings on a declaration whose fields may be partly absent, see `reading.read`."""
    return [finding for check in CHECKS for finding in _found(check, product)]


def _found(check: Check, product: Product) -> Iterator[Finding]:
    try:
        yield from check(product)
    except Unresolved:
        return
    except AttributeError as error:
        if not isinstance(error.obj, BaseModel):
            raise


def name(product: Product) -> Iterator[Finding]:
    """The folder names assets and jobs."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", product.name):
        yield Finding(
            (), f"the product's name {product.name!r} names assets; use letters, digits and _"
        )


def owners(product: Product) -> Iterator[Finding]:
    """As Dagster wants them."""
    for i, owner in enumerate(product.owners):
        if not re.fullmatch(r"team:\S+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
            says = f"{owner!r} is no owner; write team:NAME or an e-mail address"
            yield Finding(("owners", i), says)


def known_families(product: Product) -> Iterator[Finding]:
    """Families exist, each once, and are for the task."""
    path, named = ("training", "families"), product.training.families
    for i, name in enumerate(named):
        if name in named[:i]:
            yield Finding((*path, i), f"{name!r} stands there twice")
        else:
            yield from _family(product, name, (*path, i))


def known_baseline(product: Product) -> Iterator[Finding]:
    """The baselines exist, are for the task, and do not compete with themselves."""
    path, declared = ("training", "baseline"), product.training.baseline
    for i, name in enumerate(product.baselines):
        here = path if isinstance(declared, str) else (*path, i)
        if name in product.training.families:
            says = f"{name!r} is in families too; it is to beat, so take it out there"
            yield Finding(here, says)
        else:
            yield from _family(product, name, here)


def _family(product: Product, name: str, path: Path) -> Iterator[Finding]:
    if name not in families():
        yield Finding(path, unknown(name, "family", families()))
        return
    tasks = family(name).tasks
    if product.task in TARGETS and product.task not in tasks:
        yield Finding(path, f"{name!r} is for {', '.join(sorted(tasks))}, not for {product.task}")


def family_params(product: Product) -> Iterator[Finding]:
    """Parameters are of families that are fitted, and which these have."""
    for name, params in product.training.params.items():
        path = ("training", "params", name)
        if name not in product.fits:
            yield Finding(path, unknown(name, "family of this product", product.fits))
        elif name in families():
            known = family(name).defaults()
            for param in params.keys() - known.keys():
                yield Finding((*path, param), unknown(param, f"parameter of {name}", list(known)))


def metric(product: Product) -> Iterator[Finding]:
    """The task has it."""
    asked, task = product.training.metric, product.task
    if asked and asked not in TARGETS[task].metrics:
        says = unknown(asked, f"metric that a {task} task is judged by", TARGETS[task].metrics)
        yield Finding(("training", "metric"), says)


def columns_or_module(product: Product) -> Iterator[Finding]:
    """What is to be predicted is said by columns, or by a module."""
    if product.problem:
        return
    declared = TABLES.get(product.label.table)
    if not product.label.column:
        says = "is missing: name the column to predict, or a `problem` module that makes the label"
        yield Finding(("label", "column"), says)
    elif declared and declared.contract:
        columns = declared.contract.columns()
        if product.label.column not in columns:
            says = unknown(product.label.column, "column of the label's table", list(columns))
            yield Finding(("label", "column"), says)
    for part in ("numeric", "categorical"):
        for i, column in enumerate(getattr(product.features, part)):
            if column == product.label.column and product.label.table == product.spine.table:
                yield Finding(("features", part, i), f"{column!r} is the label itself")
    table = TABLES.get(product.spine.table)
    if table and table.contract and product.spine.time:
        columns = table.contract.columns()
        if product.spine.time not in columns:
            says = unknown(product.spine.time, "column of the spine's table", list(columns))
            yield Finding(("spine", "time"), says)
        elif getattr(columns[product.spine.time].dtype, "time_zone", None) != "UTC":
            says = f"{product.spine.time!r} is {columns[product.spine.time].dtype}, not a UTC time"
            yield Finding(("spine", "time"), says)


def segments(product: Product) -> Iterator[Finding]:
    """Figures are split by columns that the feature view has."""
    known = [*product.features.categorical, *product.features.numeric]
    for i, column in enumerate(product.evaluation.segments or ()):
        if column not in known:
            says = unknown(column, "feature of the spine", known)
            yield Finding(("evaluation", "segments", i), says)


def problem_module(product: Product) -> Iterator[Finding]:
    """The problem's module gives days, spine and label."""
    if not product.problem:
        return  # That it is missing is reported.
    try:
        _ = product.module
    except Unresolved as error:
        yield Finding(("problem",), str(error))


def tables(product: Product) -> Iterator[Finding]:
    """Spine and label are read from tables that are declared."""
    for part in ("spine", "label"):
        table = getattr(getattr(product, part), "table", None)
        if table is not None and table not in TABLES:
            yield Finding((part, "table"), unknown(table, "table", list(TABLES)))


def feature_tables(product: Product) -> Iterator[Finding]:
    """Feature tables exist, each once, and their look-ups end somewhere."""
    try:
        product.import_features()
    except Exception as error:
        part = "declared_in" if product.features.declared_in else "tables"
        module = product.features.declared_in or "the module features of a table's domain"
        yield Finding(("features", part), f"{module!r} cannot be imported: {told(error)}")
        return
    named = product.features.tables
    for i, table in enumerate(named):
        path = ("features", "tables", i)
        if table not in DEFINITIONS:
            yield Finding(path, unknown(table, "feature table", list(DEFINITIONS)))
        elif table in named[:i]:
            yield Finding(path, f"{table!r} stands there twice")
        elif DEFINITIONS[table].reach is None:
            yield Finding(path, f"{table!r} has no time to live; give its definition a ttl")


def spine_columns(product: Product) -> Iterator[Finding]:
    """What is read of the spine is there, and of the right kind."""
    schema = _schema(product.module.spine, product.spine.table)
    if isinstance(schema, str):
        shared = ("serving", "on_demand") if product.serving.on_demand else ("spine",)
        yield Finding(("problem",) if product.problem else shared, f"spine(...) of {schema}")
        return
    for column in (DAY, PREDICTION_TIME):
        if column not in schema:
            yield Finding(("problem",), f"spine(...) gives no {column!r}; {_has(schema)}")
    yield from _absent(schema, ("spine", "entity_keys"), product.spine.entity_keys)
    yield from _absent(schema, ("features", "numeric"), product.features.numeric)
    yield from _absent(schema, ("features", "categorical"), product.features.categorical)
    for i, column in enumerate(product.features.numeric):
        if column in schema and not (schema[column].is_numeric() or schema[column] == pl.Boolean):
            says = f"{column!r} is {schema[column]}, not a number; is it categorical?"
            yield Finding(("features", "numeric", i), says)
    for i, table in enumerate(product.features.tables):
        if table in DEFINITIONS and (lost := set(DEFINITIONS[table].keys) - set(schema)):
            says = f"{table!r} is looked up by {', '.join(sorted(lost))}, which the spine lacks"
            yield Finding(("features", "tables", i), f"{says}; {_has(schema)}")


def label_columns(product: Product) -> Iterator[Finding]:
    """What is read of the label is there."""
    schema = _schema(product.module.label, product.label.table)
    if isinstance(schema, str):
        yield Finding(("problem",), f"label(...) of {schema}")
        return
    keys = [k for k in product.spine.entity_keys if not _lost(k, product)]
    for column in (*keys, "label"):
        if column not in schema:
            yield Finding(("problem",), f"label(...) gives no {column!r}; {_has(schema)}")


def each_column_once(product: Product) -> Iterator[Finding]:
    """No column is two features."""
    numeric, categorical = product.features.numeric, product.features.categorical
    for i, column in enumerate(categorical):
        if column in numeric:
            says = f"{column!r} is in numeric too; take it out of one"
            yield Finding(("features", "categorical", i), says)
    for part, columns in {"numeric": numeric, "categorical": categorical}.items():
        for column in (c for c, times in Counter(columns).items() if times > 1):
            i = len(columns) - 1 - columns[::-1].index(column)
            yield Finding(("features", part, i), f"{column!r} stands there twice")
    taken = dict.fromkeys((*numeric, *categorical), "the spine")
    for i, table in enumerate(product.features.tables):
        for feature in DEFINITIONS[table].features if table in DEFINITIONS else ():
            if taken.setdefault(feature, table) != table:
                says = f"{table!r} gives {feature!r}, which {taken[feature]} gives already"
                yield Finding(("features", "tables", i), says)


def sensitive_columns(product: Product) -> Iterator[Finding]:
    """What groups are told apart by is in the feature view, or else in the spine."""
    schema = _schema(product.module.spine, product.spine.table)
    if isinstance(schema, str):
        return  # That is reported.
    looked_up = [
        f for t in product.features.tables if t in DEFINITIONS for f in DEFINITIONS[t].features
    ]
    for column, limit in product.compliance.sensitive.items():
        path = ("compliance", "sensitive", column)
        if column not in (*schema, *looked_up):
            yield Finding(path, unknown(column, "column of the spine", schema.names()))
        elif limit < 0:
            yield Finding(path, f"{limit:g} is no gap; write a share of the mean loss, as 0.2")


def possible_gain(product: Product) -> Iterator[Finding]:
    """A gain over the baseline that a model can have."""
    asked, binary = product.gates.min_gain_over_baseline, product.task == "binary"
    if product.task == "regression" and asked >= 1:
        says = f"{asked:g} is more than all of the baseline's loss; write a share below 1"
        yield Finding(("gates", "min_gain_over_baseline"), says)
    if binary and asked >= GREATEST_GAIN:
        says = f"{asked:g} nats are more than any model gains; log loss itself is below 0.69"
        yield Finding(("gates", "min_gain_over_baseline"), says)


CHECKS: tuple[Check, ...] = (
    name, owners, problem_module, tables, spine_columns, label_columns, feature_tables,
    each_column_once, known_families, known_baseline, family_params, metric, columns_or_module,
    segments, sensitive_columns, possible_gain, *days.CHECKS,
    *serving.CHECKS,
)  # fmt: skip


def _schema(function: Callable[[pl.LazyFrame], pl.LazyFrame], table: str) -> pl.Schema | str:
    """Columns of what a function makes of a table, without data; or why it makes nothing."""
    declared = TABLES.get(table)
    if declared is None or declared.contract is None:
        raise Unresolved(f"{table}: its columns are not declared")
    try:
        return function(declared.contract.create_empty(lazy=True)).collect_schema()
    except Exception as error:
        return f"{table!r} fails: {told(error)}"


def _lost(column: str, product: Product) -> bool:
    """Whether the spine lacks a column, which is reported there."""
    try:
        schema = _schema(product.module.spine, product.spine.table)
    except Unresolved:
        return False
    return not isinstance(schema, str) and column not in schema


def _absent(schema: pl.Schema, path: tuple[str, ...], columns: Sequence[str]) -> Iterator[Finding]:
    for i, column in enumerate(columns):
        if column not in schema:
            yield Finding((*path, i), unknown(column, "column of the spine", schema.names()))


def _has(schema: pl.Schema) -> str:
    return f"it has {', '.join(sorted(schema.names()))}"
