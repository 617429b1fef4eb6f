"""FastAPI as its manual has it: a pydantic model of the features, and the model called.

It is given the features and answers the probability: it neither looks up nor logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import create_model

from benchmarks.rivals import settings
from mlops_assets.ml.families import Rows, load_model

MODEL = load_model(Path(settings()["model"]))
COLUMNS = MODEL.columns
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
    return {"probability": float(MODEL.predict(Rows([features.model_dump()]))[0])}
