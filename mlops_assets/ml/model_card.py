"""The model card: what a champion is, from its own records, as Markdown (Mitchell et al. 2019).

Pure: frames and facts in, text out. What nobody stated is said to be not stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

NOT_STATED = "*not stated*"
_TOP_FEATURES = 15
_CONTRIBUTION = ", and how much it moves the answers (mean absolute contribution to the margin)"


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    Attributes:
        name: the product.
        version: of the model in the registry.
        question: what a prediction answers.
        owners: teams or addresses.
        family: of the model.
        intended_use: for whom and for what, as declared.
        limits: what it should not be used for or is known to get wrong, as declared.
        licences: raw table to the licence of its data, as declared.
        trained_on: name to value: rows, days, cut-off, label share.
        made_of: table to Delta version.
        evaluation: rows of the evaluation: model, the figures with `_low` and `_high`, and
            `candidate_gain` with its bounds.
        segments: rows of the evaluation's segments: segment, value, rows, days, and figures with
            `_low` and `_high`.
        gates: gate, passed, detail; each gate's last outcome.
        leans_on: column, rise (of the loss), weight, contribution (mean absolute contribution to
            the answer; null, or left out, where there is none).
    """

    name: str
    version: int
    question: str
    owners: Sequence[str]
    family: str
    intended_use: str
    limits: Sequence[str]
    licences: Mapping[str, str]
    trained_on: Mapping[str, str]
    made_of: Mapping[str, int]
    evaluation: pl.DataFrame
    segments: pl.DataFrame
    gates: pl.DataFrame
    leans_on: pl.DataFrame


def markdown(card: Card) -> str:
    """The card as Markdown, the same text for the same records."""
    leans_on = _leans_on(card.leans_on)
    parts = [
        f"# Model card: {card.name}, version {card.version}",
        card.question,
        _pairs({"family": card.family, "owners": ", ".join(card.owners) or NOT_STATED}),
        "## Intended use",
        card.intended_use or NOT_STATED,
        "## Limits",
        "\n".join(f"- {limit}" for limit in card.limits) or NOT_STATED,
        "## Data",
        _pairs(card.trained_on),
        _table(_tables(card)),
        "## How good it is",
        "On days that it was not trained on, beside the others on the same rows; 95 % intervals by"
        " blocks of days.",
        _table(_figures(card.evaluation)),
        "## Slices",
        _table(_slices(card.segments)),
        "## Gates",
        _table(
            card.gates.select(
                "gate", pl.col("passed").replace_strict({True: "passed", False: "failed"}), "detail"
            )
        ),
        "## What it leans on",
        "How much the loss rises when a column is shuffled among validation rows"
        + _CONTRIBUTION * ("contribution" in leans_on.columns)
        + ". Columns that carry the same share the credit, and neither figure says what causes"
        " what.",
        _table(leans_on),
    ]
    return "\n\n".join(parts) + "\n"


def _leans_on(known: pl.DataFrame) -> pl.DataFrame:
    explained = "contribution" in known.columns and known["contribution"].count() > 0
    columns = ["column", "rise", "weight", *(["contribution"] if explained else [])]
    return known.head(_TOP_FEATURES).select(columns)


def _tables(card: Card) -> pl.DataFrame:
    rows = [
        {"table": t, "Delta version": v, "licence of the data": card.licences.get(t, "")}
        for t, v in sorted(card.made_of.items())
    ]
    stated = [t for t in card.licences if t not in card.made_of]
    rows += [
        {"table": t, "Delta version": None, "licence of the data": card.licences[t]} for t in stated
    ]
    return pl.DataFrame(rows)


def _figures(evaluation: pl.DataFrame) -> pl.DataFrame:
    figures = [name.removesuffix("_low") for name in evaluation.columns if name.endswith("_low")]
    columns = [
        _with_bounds(figure).alias(figure.replace("_", " "))
        for figure in figures
        if figure != "candidate_gain"
    ]
    gain = _with_bounds("candidate_gain").alias("gained over it")
    return evaluation.select("model", "rows", *columns, gain)


def _with_bounds(figure: str) -> pl.Expr:
    numbers = [pl.col(c).round(4) for c in (figure, f"{figure}_low", f"{figure}_high")]
    return pl.format("{} [{}, {}]", *numbers)


def _slices(segments: pl.DataFrame) -> pl.DataFrame:
    left_out = ("_low", "_high")
    wanted = [c for c in segments.columns if not c.endswith(left_out) and c != "model_version"]
    return segments.select(wanted)


def _pairs(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}:** {value}" for name, value in facts.items())


def _table(frame: pl.DataFrame) -> str:
    if frame.is_empty():
        return NOT_STATED
    lines = [_row(frame.columns), _row(["---"] * frame.width)]
    return "\n".join([*lines, *(_row(_cell(v) for v in row) for row in frame.iter_rows())])


def _row(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
