"""A card says what the records say, and says what nobody stated."""

from dataclasses import replace

import polars as pl

from mlops_assets.ml.model_card import NOT_STATED, Card, markdown

CARD = Card(
    name="flight_delays",
    version=3,
    question="Will it be late?",
    owners=["team:data-science"],
    family="xgboost",
    intended_use="Tell passengers.",
    limits=["New York only."],
    licences={"nyc_flights/weather": "CC0-1.0"},
    trained_on={"rows": "1,000 labelled rows of 10 days"},
    made_of={"nyc_flights/flight_events": 7},
    evaluation=pl.DataFrame(
        {
            "model": ["candidate", "baseline"],
            "rows": [1_000, 1_000],
            "auc": [0.74, 0.72],
            "auc_low": [0.7, 0.68],
            "auc_high": [0.78, 0.76],
            "candidate_gain": [None, 0.0146],
            "candidate_gain_low": [None, 0.0103],
            "candidate_gain_high": [None, 0.0186],
        }
    ),
    segments=pl.DataFrame({"segment": ["origin"], "value": ["EWR|x"], "rows": [10], "auc": [0.7]}),
    gates=pl.DataFrame({"gate": ["leak_suspect"], "passed": [True], "detail": ["AUC 0.74"]}),
    leans_on=pl.DataFrame(
        {"column": ["dest"], "rise": [0.01], "weight": [1.0], "contribution": [0.25]}
    ),
)


def test_a_card_holds_what_the_records_say():
    text = markdown(CARD)
    assert text.startswith("# Model card: flight_delays, version 3\n")
    for line in (
        "| candidate | 1,000 | 0.74 [0.7, 0.78] |  |",
        "| baseline | 1,000 | 0.72 [0.68, 0.76] | 0.0146 [0.0103, 0.0186] |",
        "| origin | EWR\\|x | 10 | 0.7000 |",
        "| leak_suspect | passed | AUC 0.74 |",
        "| nyc_flights/flight_events | 7 |  |",
        "| nyc_flights/weather |  | CC0-1.0 |",
        "- New York only.",
        "| column | rise | weight | contribution |",
        "| dest | 0.0100 | 1.0000 | 0.2500 |",
    ):
        assert line in text.splitlines()
    assert markdown(CARD) == text


def test_what_nobody_stated_is_said():
    text = markdown(replace(CARD, intended_use="", limits=[], owners=[]))
    assert text.count(NOT_STATED) == 3


def test_a_family_that_cannot_say_what_it_adds_has_no_such_column():
    for known in (
        CARD.leans_on.drop("contribution"),
        CARD.leans_on.with_columns(pl.lit(None, pl.Float64).alias("contribution")),
    ):
        text = markdown(replace(CARD, leans_on=known))
        assert "| dest | 0.0100 | 1.0000 |" in text.splitlines()
        assert "contribution" not in text
