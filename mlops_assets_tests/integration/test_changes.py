"""A list of changes: the plan foresees them, and what then runs is what had to, once, no more.

In process by the engine, and by a real daemon with a code server and runs of their own, on a copy
of the package whose code is really changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES, DagsterRunStatus, RunsFilter

from mlops_assets.cli.processes import Processes
from mlops_assets.components.engine import Report
from mlops_assets.components.plan import plan
from mlops_assets.components.watchdog import AUTOMATION
from mlops_assets.defs.nyc_flights.source import FOLDER
from mlops_assets.local import repository
from mlops_assets_tests.defs.house import Files
from mlops_assets_tests.integration import small_demo
from mlops_assets_tests.integration.audit import audit
from mlops_assets_tests.integration.changes import (
    PRODUCT,
    Cell,
    contents,
    made_since,
    minimal,
    newest,
)
from mlops_assets_tests.integration.conftest import SMALL, TODAY, Flow, copied, opened

CORRECTED, LATE, NEW, NEWER = (TODAY + timedelta(days=n) for n in (-8, 1, 2, 3))
FEATURE = "mlops_assets/defs/nyc_flights/features.py"
METRIC = "mlops_assets/ml/metrics.py"
SETTINGS = "mlops_assets_tests/integration/conftest.py"


@dataclass
class World:
    """A home, the source's files, and the package as a code server reads it."""

    flow: Flow
    files: Files
    package: Path = Path()

    def arrive(self, day: date) -> None:
        report = Report()
        self.flow.engine.arrive([day], report)
        assert report.errors == []

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.package / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new))


def new_day(world: World) -> set[str]:
    """Of the day after tomorrow; tomorrow's comes late."""
    world.arrive(NEW)
    return set()


def newer_day(world: World) -> set[str]:
    world.arrive(NEWER)
    return set()


def late_day(world: World) -> set[str]:
    world.arrive(LATE)
    return set()


def corrected_day(world: World) -> set[str]:
    """A flight to Hawaii arrived an hour and a half late after all."""
    day, hawaii = CORRECTED.day, pl.col("carrier") == "HA"
    theirs = hawaii & (pl.col("month") == CORRECTED.month) & (pl.col("day") == day)
    late = pl.when(theirs).then(90).otherwise("arr_delay").alias("arr_delay")
    world.files.change("flights", lambda rows: rows.with_columns(late))
    world.arrive(CORRECTED)
    return set()


def same_day_again(world: World) -> set[str]:
    world.arrive(CORRECTED)
    return set()


def fewer_rows(world: World) -> set[str]:
    """Flights of a day vanish from the source, few enough to be a correction."""
    theirs = (pl.col("month") == 1) & (pl.col("day") == CORRECTED.day) & (pl.col("carrier") == "HA")
    world.files.change("flights", lambda rows: rows.filter(~theirs))
    world.arrive(CORRECTED)
    return set()


def code_of_a_feature(world: World) -> set[str]:
    whole = "    return weather.with_columns(pl.col('temperature_f').round(0))\n"
    world.edit(FEATURE, "    return weather\n", whole)
    return {"nyc_flights/weather_known"}


def code_of_a_metric(world: World) -> set[str]:
    """What rests on it is fitted and judged anew; the models are the same, and it ends there."""
    world.edit(METRIC, "float(gaps.sum() / truth.size)", "float(gaps.max())")
    names = ("performance", "evaluation", "fit_hist_gradient_boosting", "fit_logistic_regression")
    return {f"{PRODUCT}/{name}" for name in names}


def threshold(world: World) -> set[str]:
    world.edit(SETTINGS, "report_rows=500)", "report_rows=500, drift_threshold=0.2)")
    return {f"{PRODUCT}/drift"}


def new_champion(world: World) -> set[str]:
    """A person retrains; what follows the champion is left to automation."""
    config = world.flow._config("training_set", {"cutoff": "2013-01-26"})
    assert world.flow.engine.run_job(f"{PRODUCT}_retrain", config).error is None
    return set()


def holds(world: World, foreseen: dict[str, set[Cell]], seen: State, code: set[str]) -> None:
    """What ran lies between what must and what may, and is the least, each once."""
    graph, instance = world.flow.engine.graph, world.flow.instance
    made = made_since(instance, graph, seen.mark)
    assert foreseen["rebuild"] <= set(made) <= foreseen["rebuild"] | foreseen["if changed"]
    least = minimal(graph, seen.before, contents(instance, graph), code) - seen.by_hand
    assert Counter(made) == Counter(least)


@dataclass(frozen=True)
class State:
    """The contents before a change, what a person made for it, and the newest event after that."""

    before: dict[Cell, str]
    by_hand: set[Cell]
    mark: int


def changed(world: World, change: Callable[[World], set[str]]) -> tuple[State, set[str]]:
    """Do it; what was before, and the assets whose code it changed."""
    instance, graph = world.flow.instance, world.flow.engine.graph
    before, mark = contents(instance, graph), newest(instance)
    code = change(world)
    return State(before, set(made_since(instance, graph, mark)), newest(instance)), code


def as_sets(steps: list[dict[str, object]]) -> dict[str, set[Cell]]:
    """Verdict to the cells of a plan."""
    found: dict[str, set[Cell]] = {"rebuild": set(), "if changed": set(), "held": set()}
    for step in steps:
        for day in step["partitions"] or [None]:
            found[step["verdict"]].add((step["asset"], day))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    files = Files.copy(tmp_path_factory.mktemp("files"), NEWER)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FOLDER, str(files.folder))
        yield files


@pytest.mark.year
def test_what_the_engine_does_lies_in_the_plan_and_is_the_least(settled, files, tmp_path):
    with copied(settled, tmp_path / "home") as flow:
        world = World(flow, files)
        for change in (new_day, late_day, corrected_day, same_day_again, fewer_rows):
            seen, code = changed(world, change)
            foreseen = as_sets([vars(step) for step in plan(flow.engine).steps])
            report = flow.engine.settle()
            assert report.errors == []
            assert bool(report.runs) is (change is not same_day_again)
            holds(world, foreseen, seen, code)
            assert plan(flow.engine).empty
    limits = {"monitoring": SMALL["monitoring"].model_copy(update={"drift_threshold": 0.2})}
    with opened(tmp_path / "home", **limits) as flow:
        world = World(flow, files)
        seen, code = changed(world, lambda _: {f"{PRODUCT}/drift"})
        foreseen = as_sets([vars(step) for step in plan(flow.engine).steps])
        assert flow.engine.settle().errors == []
        holds(world, foreseen, seen, code)


# --- by a real daemon ---------------------------------------------------------------------------

READY_SECONDS, REST_SECONDS = 120.0, 600.0
SKIPPED = TickStatus.SKIPPED
PYTHON = [sys.executable, "-W", "ignore", "-m"]


@pytest.fixture(scope="module")
def world(settled: Path, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A copy of the package, changed in what no result rests on, and of the settled home."""
    package, home = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("daemon") / "home"
    for name in ("mlops_assets", "mlops_assets_tests", "bentos"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository() / name, package / name, ignore=leave)
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(repository() / name, package)
    files.mend()
    with copied(settled, home) as flow:
        world = World(flow, files, package)
        world.edit(
            FEATURE, '    """The newest weather', '    # Newly said.\n    """The very newest'
        )
        yield world


@pytest.mark.year
@pytest.mark.parametrize(
    "change",
    [
        new_day, late_day, corrected_day, new_champion, threshold, code_of_a_feature,
        code_of_a_metric,
    ],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_what_the_daemon_does_lies_in_the_plan_and_is_the_least(world, change):
    flow = world.flow
    assert planned(world)["empty"]
    seen, code = changed(world, change)
    foreseen = as_sets(planned(world)["steps"])
    with daemon(world) as processes:
        wait_until_at_rest(world, processes)
    assert foreseen["rebuild"]
    holds(world, foreseen, seen, code)
    assert flow.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE])) == []
    assert planned(world)["empty"]


@pytest.mark.year
def test_two_daemons_at_once_leave_what_one_does(world):
    """Dagster only warns of the other: what both begin is made twice, and comes out the same."""
    seen, code = changed(world, newer_day)
    with daemon(world, "daemon", "other-daemon") as processes:
        wait_until_at_rest(world, processes)
    graph, instance = world.flow.engine.graph, world.flow.instance
    least = minimal(graph, seen.before, contents(instance, graph), code) - seen.by_hand
    assert set(made_since(instance, graph, seen.mark)) == least
    assert audit(world.flow.home) == []
    assert planned(world)["empty"]


def variables(world: World) -> dict[str, str]:
    return small_demo.environment(world.flow.home) | {"PYTHONPATH": str(world.package)}


def planned(world: World) -> dict[str, object]:
    """`mlops plan --json` of the package's code, as a process of its own."""
    command = [*PYTHON, "mlops_assets_tests.integration.small_demo", "plan", "--json"]
    done = subprocess.run(
        command,
        cwd=world.package,
        env=variables(world),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def daemon(world: World, *names: str) -> Iterator[Processes]:
    """A code server on the package, and the daemon, or one of each name."""
    location = "mlops_assets"
    with (
        tempfile.TemporaryDirectory(prefix="mlops-") as scratch,
        pytest.MonkeyPatch.context() as environment,
        Processes(world.flow.home / "logs") as processes,
    ):
        for name, value in variables(world).items():
            environment.setenv(name, value)
        code, workspace = Path(scratch) / "code.sock", Path(scratch) / "workspace.yaml"
        served = f"{{socket: {code}, location_name: {location}}}"
        workspace.write_text(f"load_from:\n  - grpc_server: {served}\n")
        server = [*PYTHON, "dagster", "code-server", "start", "--socket", str(code),
                  "--module-name", "mlops_assets_tests.integration.small_location",
                  "--location-name", location, "--log-level", "warning"]  # fmt: skip
        processes.start("code-server", server, world.package)
        processes.wait_for_file("code-server", code, READY_SECONDS)
        command = [*PYTHON, "dagster._daemon", "run", "-w", str(workspace)]
        for name in names or ["daemon"]:
            processes.start(name, command, world.package)
        yield processes


def wait_until_at_rest(world: World, processes: Processes) -> None:
    """Until two looks in a row, after the last run has ended, asked for nothing."""
    instance, started = world.flow.instance, time.time()
    busy = started
    while time.time() < started + REST_SECONDS:
        time.sleep(1)
        processes.check()
        if _at_work(instance):
            busy = time.time()
        elif (
            sum(look.timestamp > busy and look.status == SKIPPED for look in _looks(instance)) >= 2
        ):
            return
    raise AssertionError(f"not at rest after {REST_SECONDS:.0f} s; see {world.flow.home / 'logs'}")


def _at_work(instance: dg.DagsterInstance) -> bool:
    """Whether a run is going on or to come. More days than one are a backfill, which waits."""
    backfills = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    runs = RunsFilter(statuses=NOT_FINISHED_STATUSES)
    return bool(instance.get_runs_count(runs) or instance.get_backfills_count(backfills))


def _looks(instance: dg.DagsterInstance) -> list[InstigatorTick]:
    """The newest two of the automation sensor."""
    states = [s for s in instance.all_instigator_state() if s.instigator_name == AUTOMATION]
    return [
        tick
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
    ]
