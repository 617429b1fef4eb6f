"""What a plan foresees is what a run of the engine then does, on the toy graph of test_engine.

readings (three days) ─▶ scaled ─▶ tens ─▶ total (no days)
"""

import pytest

from mlops_assets.components.engine import Engine, Report
from mlops_assets.components.plan import plan
from mlops_assets_tests.components.test_engine import (
    ALL,
    FAIL,
    KEYS,
    arrive,
    change,
    engine,
    graph,
    home,
    recomputed,
)

__all__ = ["engine", "home"]


def counts(found, verdict):
    return {name.removeprefix("components/"): n for name, n in found.counts(verdict).items()}


def corrected(home, engine):
    change(home, KEYS[1], 50)
    arrive(engine)
    return engine


def corrected_to_the_same_content_downstream(home, engine):
    change(home, KEYS[1], 25)
    arrive(engine)
    return engine


def changed_code(home, engine):
    return Engine(graph(home, factor=2), engine.instance)


def nothing(home, engine):
    arrive(engine)
    return engine


@pytest.mark.parametrize(
    ("act", "surely", "perhaps", "done"),
    [
        (nothing, {}, {}, {}),
        (corrected, {"scaled": 1}, {"tens": 1, "total": 1}, {"scaled": 1, "tens": 1, "total": 1}),
        (
            corrected_to_the_same_content_downstream,
            {"scaled": 1},
            {"tens": 1, "total": 1},
            {"scaled": 1, "tens": 1},
        ),
        (changed_code, {"scaled": 3}, {"tens": 3, "total": 1}, ALL),
    ],
    ids=["the same day again", "a corrected day", "a correction without effect", "code"],
)
def test_what_runs_lies_between_what_must_and_what_may(home, engine, act, surely, perhaps, done):
    arrive(engine)
    engine.settle()
    acted = act(home, engine)
    foreseen = plan(acted)
    assert counts(foreseen, "rebuild") == surely
    assert counts(foreseen, "if changed") == perhaps
    assert recomputed(acted.settle()) == done
    after = plan(acted)
    assert after.empty
    assert after.steps == []
    assert after.skipped == {
        "components/readings": 3, "components/scaled": 3, "components/tens": 3, "total": 1,
    }  # fmt: skip


def test_new_days_are_foreseen_to_their_end(home, engine):
    report = Report()
    engine.arrive(engine.sources[0].days[:2], report)
    foreseen = plan(engine)
    # The total has no days, and waits for all of them.
    assert counts(foreseen, "rebuild") == {"scaled": 2, "tens": 2}
    assert {step.reasons for step in foreseen.steps} == {("missing",)}
    assert recomputed(engine.settle()) == {"scaled": 2, "tens": 2}
    engine.arrive(engine.sources[0].days[2:], report)
    second = plan(engine)
    assert [(step.asset, step.verdict, step.partitions) for step in second.steps] == [
        ("components/scaled", "rebuild", (KEYS[2],)),
        ("components/tens", "rebuild", (KEYS[2],)),
        ("total", "rebuild", ()),
    ]
    assert recomputed(engine.settle()) == {"scaled": 1, "tens": 1, "total": 1}


def test_it_says_why_and_how_long(home, engine):
    arrive(engine)
    engine.settle()
    change(home, KEYS[0], 50)
    change(home, KEYS[2], 50)
    arrive(engine)
    first, second, *_ = plan(engine).steps
    assert (first.partitions, second.partitions) == ((KEYS[0],), (KEYS[2],))
    assert first.reasons == ("content of components/readings",)
    assert first.seconds is not None
    assert 0 < first.seconds < 5
    changed = Engine(graph(home, factor=2), engine.instance)
    reasons = {
        step.partitions: step.reasons for step in plan(changed).steps if "scaled" in step.asset
    }
    assert reasons[(KEYS[1],)] == ("code",)
    assert reasons[(KEYS[0],)] == ("code", "content of components/readings")


def test_planning_changes_nothing(home, engine):
    arrive(engine)
    engine.settle()
    corrected(home, engine)
    first = plan(engine)
    assert plan(engine) == first
    assert recomputed(engine.settle()) == {"scaled": 1, "tens": 1, "total": 1}


def test_what_failed_stays_in_the_plan(home, engine):
    arrive(engine)
    (home / FAIL).touch()
    engine.settle()
    found = plan(engine)
    assert counts(found, "rebuild") == {"tens": 3, "total": 1}
