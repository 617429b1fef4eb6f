"""The endpoint of any tabular model: `POST /predict` with rows of features, probabilities back.

The model (`model/`), its contract (`contract.json`) and the image's packages (`requirements.txt`)
lie beside this file in a Bento; without them it does not import. A row has every feature of the
contract and no other, null where the value is unknown; anything else is answered with 400, the
row and the feature named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import bentoml
import polars as pl
from pydantic import BaseModel, FailFast, Field

from bentos.tabular.contract import Contract, Value, row_type
from bentos.tabular.image import image
from mlops_assets.ml.families import load_model

MAX_ROWS = 1024
HERE = Path(__file__).parent
CONTRACT = Contract.read(HERE / "contract.json")
SCHEMA = dict.fromkeys(CONTRACT.numeric, pl.Float64()) | dict.fromkeys(
    CONTRACT.categorical, pl.String()
)

if TYPE_CHECKING:
    Row: TypeAlias = dict[str, Value]
else:
    Row = row_type(CONTRACT)

# One worker answers on one core; more threads would only contend. Polars keeps its own count.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


class Prediction(BaseModel):
    """The answer: one probability and one decision for each row, in the order of the rows."""

    model_version: str
    probabilities: list[float]
    decisions: list[bool]


@bentoml.service(
    name=CONTRACT.product,
    description=f"Predictions of {CONTRACT.product}, model version {CONTRACT.model_version}.",
    image=image(HERE / "requirements.txt"),
    envs=[{"name": name, "value": "1"} for name in THREADS]
    + [{"name": "BENTOML_DO_NOT_TRACK", "value": "True"}],
    workers=1,
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ["predict"]},
)
class Tabular:
    """Predictions of one model, loaded and tried before the service reports that it is ready.

    Raises:
        ValueError: if the model reads other features than its contract names.
    """

    def __init__(self) -> None:
        self._model = load_model(HERE / "model")
        columns = self._model.columns
        if (columns.numeric, columns.categorical) != (CONTRACT.numeric, CONTRACT.categorical):
            raise ValueError(f"the model reads {columns}, its contract says {CONTRACT}")
        # The first prediction also initialises the library; a row of nulls is a row.
        self._model.predict(pl.DataFrame([dict.fromkeys(SCHEMA)], schema=SCHEMA))

    @bentoml.api
    async def predict(
        self, rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS), FailFast()]
    ) -> Prediction:
        """Return each row's probability of the outcome, and whether it reaches the threshold."""
        probabilities = self._model.predict(pl.DataFrame(rows, schema=SCHEMA))
        return Prediction(
            model_version=CONTRACT.model_version,
            probabilities=probabilities.tolist(),
            decisions=(probabilities >= CONTRACT.threshold).tolist(),
        )
