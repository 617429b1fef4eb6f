"""FastAPI as its manual has it: a pydantic model of the features, and the model called on a frame.

It is given the features and answers the probability: it neither looks up nor logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from fastapi import FastAPI
from pydantic import create_model

from benchmarks.rivals import settings
from mlops_assets.ml.families import load_model

MODEL = load_model(Path(settings()["model"]))
COLUMNS = MODEL.columns
SCHEMA: dict[str, Any] = dict.fromkeys(COLUMNS.numeric, pl.Float64()) | dict.fromkeys(
    COLUMNS.categorical, pl.String()
)
FIELDS: dict[str, Any] = dict.fromkeys(COLUMNS.numeric, (float | None, None)) | dict.fromkeys(
    COLUMNS.categorical, (str | None, None)
)
Features: Any = create_model("Features", **FIELDS)
app = FastAPI()


@app.get("/readyz")
async def ready() -> dict[str, bool]:
    """That it is there."""
    return {"ready": True}


@app.post("/predict")
async def predict(features: Features) -> dict[str, float]:
    """The probability of one row."""
    frame = pl.DataFrame([features.model_dump()], schema=SCHEMA)
    return {"probability": float(MODEL.predict(frame)[0])}
