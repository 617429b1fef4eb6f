"""What an asset shows of itself: the same metadata keys everywhere.

`rows`, `delta_version`, `metric`, `model_version` are numbers or short texts; `sample` is a table;
a picture is Markdown with an inline PNG, which the Dagster UI renders.
"""

from __future__ import annotations

import base64
from typing import Any

import dagster as dg
import polars as pl


def table_schema(frame: pl.DataFrame) -> dict[str, Any]:
    """The columns and types, where Dagster looks for them."""
    columns = [dg.TableColumn(name, str(dtype)) for name, dtype in frame.schema.items()]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def preview(frame: pl.DataFrame, rows: int = 5) -> dict[str, Any]:
    """The first rows, as a table."""
    return {"sample": table(frame.head(rows))} if frame.height else {}


def table(frame: pl.DataFrame) -> dg.TableMetadataValue:
    """A small frame as a table: numbers stay numbers, other values become text."""
    records = [
        dg.TableRecord({k: _cell(v) for k, v in row.items()}) for row in frame.iter_rows(named=True)
    ]
    columns = [dg.TableColumn(name, str(dtype)) for name, dtype in frame.schema.items()]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG that shows in the UI."""
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded})")


def _cell(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, int | float | bool) or value is None else str(value)
