import dataclasses
import warnings

import numpy as np
import polars as pl
import pytest

from mlops_assets.ml.families import FeatureColumns, FitOptions, Labelled, family
from mlops_assets.ml.search import SearchError, search

COLUMNS = FeatureColumns(("wind",), ())
ROWS = 600
FOLDS = [
    (np.arange(300), np.arange(300, 450)),
    (np.arange(450), np.arange(450, ROWS)),
]


def labelled() -> Labelled:
    rng = np.random.default_rng(0)
    wind = rng.normal(size=ROWS)
    frame = pl.DataFrame({"wind": wind, "row": np.arange(ROWS)})
    return Labelled(frame, (rng.random(ROWS) < 1 / (1 + np.exp(-wind))).astype(np.int8))


TRAIN = labelled()


@dataclasses.dataclass
class Slope:
    """Predicts by a slope that is a parameter, and remembers what it was fitted on."""

    name: str = "slope"
    breaks: bool = False
    seen: list[tuple[list[int], float]] = dataclasses.field(default_factory=list)

    def defaults(self):
        return {"slope": 0.5, "fixed": 3}

    def suggest(self, trial):
        return self.defaults() | {"slope": trial.suggest_float("slope", -1.0, 2.0)}

    def fit(self, train, valid, columns, params, options):
        self.seen.append((train.frame["row"].to_list(), params["slope"]))
        if self.breaks or params["slope"] < 0:
            raise ValueError(f"slope {params['slope']} is negative")
        return Sloped(params["slope"])


@dataclasses.dataclass
class Sloped:
    slope: float

    def predict(self, frame):
        return 1 / (1 + np.exp(-self.slope * frame["wind"].to_numpy()))


def look(model_family, **changes):
    asked = {"trials": 12, "seconds": 60.0, "options": FitOptions(seed=7, threads=1)} | changes
    return search(model_family, TRAIN, FOLDS, COLUMNS, **asked)


def test_the_defaults_are_trial_0_and_the_best_is_no_worse():
    result = look(Slope())
    assert result.trials[0].params == {"slope": 0.5, "fixed": 3}
    assert result.best.value <= result.trials[0].value
    assert result.best.value == min(t.value for t in result.trials if t.value is not None)
    assert [t.number for t in result.trials] == list(range(12))


def test_it_finds_what_is_there():
    assert look(Slope(), trials=25).best.params["slope"] == pytest.approx(1, abs=0.35)


def test_the_value_is_the_mean_over_the_folds():
    for trial in look(Slope()).trials:
        if trial.state == "complete":
            assert len(trial.fold_values) == 2
            assert trial.value == pytest.approx(np.mean(trial.fold_values))


def test_the_same_seed_gives_the_same_trials():
    def untimed(seed):
        found = look(Slope(), options=FitOptions(seed=seed)).trials
        return [dataclasses.replace(trial, seconds=0.0) for trial in found]

    assert untimed(7) == untimed(7)
    assert untimed(7) != untimed(8)


def test_a_longer_search_begins_with_the_shorter_one():
    short, long = look(Slope(), trials=6).trials, look(Slope(), trials=12).trials
    assert [t.params for t in long[:6]] == [t.params for t in short]


def test_a_trial_that_raises_is_recorded_and_the_search_goes_on():
    told = []
    result = look(Slope(), on_trial=told.append)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert all("is negative" in trial.error and trial.value is None for trial in failed)
    assert result.best.state == "complete"
    assert told == result.trials


def test_all_failed_is_an_error_with_the_first_message():
    with pytest.raises(SearchError, match=r"slope: all 3 trials failed, first ValueError: slope 0"):
        look(Slope(breaks=True), trials=3)


def test_the_first_trial_completes_whatever_the_seconds():
    result = look(Slope(), seconds=0.0)
    assert len(result.trials) == 1
    assert result.best.state == "complete"


def test_rows_are_capped_once_by_the_seed_and_kept_in_order():
    slopes = Slope()
    look(slopes, max_rows=100)
    first_fold = [rows for rows, _ in slopes.seen if max(rows) < 300]
    assert all(len(rows) == 100 and rows == sorted(set(rows)) for rows, _ in slopes.seen)
    assert all(rows == first_fold[0] for rows in first_fold)


def test_rows_fewer_than_the_cap_are_all_used():
    slopes = Slope()
    look(slopes, trials=1, max_rows=400)
    assert [len(rows) for rows, _ in slopes.seen] == [300, 400]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], "0 folds"),
        ([(np.arange(3), np.arange(0))], "3 training and 0 validation rows"),
        ([(np.arange(3), np.arange(2, 5))], "1 rows are in both"),
    ],
)
def test_folds_are_checked(folds, message):
    with pytest.raises(ValueError, match=message):
        search(Slope(), TRAIN, folds, COLUMNS, trials=1, seconds=1.0, options=FitOptions())


def test_counts_are_checked():
    with pytest.raises(ValueError, match="expected at least 1"):
        look(Slope(), trials=0)


@pytest.mark.parametrize("name", ["hist_gradient_boosting", "xgboost", "embedding_mlp"])
def test_a_family_is_searched_from_its_defaults_within_its_space(name, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = look(family(name), trials=3)
    assert result.trials[0].params == family(name).defaults()
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    assert capfd.readouterr().err == ""


def test_a_family_with_nothing_to_tune_is_tried_once():
    result = look(family("logistic_regression"))
    assert len(result.trials) == 1
    assert result.best.params == family("logistic_regression").defaults()
