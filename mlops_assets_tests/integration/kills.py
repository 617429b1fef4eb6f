"""kill -9 at random moments of `mlops demo`, an audit after each, and a comparison at the end.

    python -m mlops_assets_tests.integration.kills --kills 50 --seed 1

One home takes several kills, in the order of the flow: the command is started, killed at a moment
that the seed draws, looked at from outside (audit.py), started again, and so on until it ends by
itself. Then nothing may be owed, a further run recomputes nothing, and each table is as that of a
run that nobody disturbed. A moment is a stage of the flow and a share of the time that it takes
undisturbed, so that stages are hit alike, short or long. Every other kill takes the whole tree of
processes; the rest takes the command alone, and what it leaves behind must end by itself.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlops_assets_tests.integration.audit import audit, differences, made_again
from mlops_assets_tests.integration.small_demo import BEGINS, WHOLE, command, environment

START = "start"
STAGES = (
    START, "raw", "features", "online_features", "feature_view", "training_set", "fit",
    "leaderboard", "candidate", "evaluation", "bento", "champion", "importance", "model_card",
    "predictions", "drift", "performance", "shadow_predictions",
)  # fmt: skip
RAW = {"airlines", "airports", "planes", "flight_events", "flight_schedule", "weather"}
KILLS_A_HOME = 5
# Seconds that a stage takes where nobody measures it: two cores with little else to do.
TYPICAL = dict(
    zip(
        STAGES,
        (3, 3, 5, 0.5, 1, 0.3, 8, 0.2, 0.8, 1.5, 7, 0.4, 1, 0.5, 0.3, 6, 3, 0.3),
        strict=True,
    )
)
ORPHANS_END_WITHIN = 30.0
LIMIT = 600.0
# A search of so many seconds ends differently from one time to the next, and so does what follows.
AFTER_A_TIMED_SEARCH = [
    f"flight_delays/{name}" for name in (
        "fit_xgboost", "fit_hist_gradient_boosting", "fit_embedding_mlp", "leaderboard",
        "candidate", "evaluation", "evaluation_segments", "gate_results", "bento", "promotions",
        "importance", "predictions", "performance", "drift",
    )
]  # fmt: skip
_POLL = 0.01


def stage_of(asset: str) -> str:
    """The stage that an asset stands in."""
    domain, name = asset.split("/")
    if domain == "flight_delays":
        return "fit" if name.startswith("fit_") else name
    return "raw" if name in RAW else "features"


@dataclass(frozen=True)
class Moment:
    """When to kill: a stage, the share of its time that has passed, and whether all of the tree."""

    stage: str
    share: float
    whole: bool


def plan(kills: int, seed: int, a_home: int = KILLS_A_HOME) -> list[list[Moment]]:
    """The moments of each home, in the order of the flow."""
    draw = random.Random(seed)
    # Each stage as often as another, or once less.
    deck = [stage for _ in range(kills // len(STAGES) + 1) for stage in _shuffled(draw)]
    moments = [Moment(s, draw.random(), n % 2 == 0) for n, s in enumerate(deck[:kills])]
    homes = [moments[n : n + a_home] for n in range(0, kills, a_home)]
    return [sorted(home, key=lambda m: (STAGES.index(m.stage), m.share)) for home in homes]


def _shuffled(draw: random.Random) -> list[str]:
    return draw.sample(STAGES, len(STAGES))


class Demo:
    """A running `mlops demo`, and what it has said."""

    def __init__(self, home: Path, whole: bool) -> None:
        self._log = home.with_name(f"{home.name}.log")
        self._started = time.monotonic()
        self.began: list[tuple[str, float]] = [(START, 0.0)]
        with self._log.open("w") as output:
            self.process = psutil.Popen(
                command(
                    *([WHOLE] if whole else []), "demo",
                    "--json", str(home.with_name(f"{home.name}.json")),
                ),
                env=environment(home), stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def output(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def ended(self) -> bool:
        """Note the stages that have begun; say whether the command has ended."""
        over = self.process.poll() is not None
        lines = [n for n in self.output().splitlines() if n.startswith(BEGINS)]
        for line in lines[len(self.began) - 1 :]:
            self.began.append((stage_of(line.removeprefix(BEGINS)), self.seconds))
        return over

    def wait_for(self, moment: Moment, lengths: dict[str, float]) -> bool:
        """Wait for the moment, at most for the end of its stage; False if there is none to come."""
        while not self.ended():
            stages = dict(reversed(self.began))
            if (first := stages.get(moment.stage)) is not None:
                due = self.seconds >= first + moment.share * lengths[moment.stage]
                if due or self.began[-1][0] != moment.stage:
                    return True
            self._sleep()
        return False

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        while not self.ended():
            self._sleep()
        return self.process.wait()

    def kill(self, *, whole: bool) -> list[psutil.Process]:
        """Kill the command, or all of its tree; return what is left of the tree."""
        children = self.process.children(recursive=True)
        self.process.kill()
        for child in children if whole else ():
            child.kill()
        self.process.wait()
        if whole:
            psutil.wait_procs(children, timeout=ORPHANS_END_WITHIN)
        return [child for child in children if child.is_running()]

    def _sleep(self) -> None:
        if self.seconds > LIMIT:
            self.process.kill()
            raise TimeoutError(f"not at rest after {LIMIT:.0f} s:\n{self.output()[-2000:]}")
        time.sleep(_POLL)


@dataclass
class Summary:
    """What came of all kills."""

    kills: Counter[str] = field(default_factory=Counter)
    whole: int = 0
    orphans: int = 0
    homes: int = 0
    again: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        by_stage = ", ".join(f"{stage} {self.kills[stage]}" for stage in STAGES)
        return (
            f"{self.kills.total()} kills, {self.whole} of the whole tree, {self.orphans} processes"
            f" outlived the rest; {self.homes} homes\n  {by_stage}\n"
            f"  made more than once: {dict(self.again) or 'nothing'}\n"
            f"  {len(self.problems)} problems"
        )


class Campaign:
    """Kills on homes below a folder, all compared with one control, made here unless given."""

    def __init__(
        self, folder: Path, say=print, *, whole: bool = False, control: Path | None = None
    ) -> None:
        self._folder = folder
        self._whole = whole
        self._say = say
        self.summary = Summary()
        self._given = control
        self.control = control or folder / "control"

    def run(self, homes: Sequence[Sequence[Moment]]) -> Summary:
        """Kill at all moments."""
        self._lengths = TYPICAL if self._given else self._undisturbed()
        self._say(f"control: { ({k: round(v, 1) for k, v in self._lengths.items()}) } s")
        for number, moments in enumerate(homes, start=1):
            home = self._folder / f"home-{number}"
            problems = [f"home {number}: {found}" for found in self._one(home, moments)]
            for problem in problems:
                self._say(f"  PROBLEM {problem}")
            self.summary.problems += problems
            self.summary.homes += 1
            if not problems:
                shutil.rmtree(home)
        return self.summary

    def _undisturbed(self) -> dict[str, float]:
        """Make the control; return the seconds that each stage takes."""
        demo = Demo(self.control, self._whole)
        if status := demo.wait():
            raise RuntimeError(f"the control ended with {status}:\n{demo.output()[-3000:]}")
        lengths = dict.fromkeys(STAGES, 0.0)
        ends = [at for _, at in demo.began[1:]] + [demo.seconds]
        for (stage, begin), end in zip(demo.began, ends, strict=True):
            lengths[stage] += end - begin
        return lengths

    def _one(self, home: Path, moments: Sequence[Moment]) -> Iterator[str]:
        for moment in moments:
            demo = Demo(home, self._whole)
            if not demo.wait_for(moment, self._lengths):
                self._say(f"  {home.name}: {moment.stage} was over")
                if demo.process.returncode:
                    yield f"it ended with {demo.process.returncode}:\n{demo.output()[-3000:]}"
                continue
            left = demo.kill(whole=moment.whole)
            hit = demo.began[-1][0]
            started = time.monotonic()
            found = _audited(home)
            self._note(moment, hit, len(left))
            self._say(
                f"{self.summary.kills.total():4} {home.name} killed {hit} at {demo.seconds:.1f} s"
                f"{', the whole tree' if moment.whole else ''}; {len(left)} left;"
                f" audit {time.monotonic() - started:.1f} s: {'; '.join(found) or 'whole'}"
            )
            yield from found
            _, alive = psutil.wait_procs(left, timeout=ORPHANS_END_WITHIN)
            for process in alive:
                yield f"left after {hit} was killed: {process.cmdline()}"
                process.kill()
        yield from self._finish(home)

    def _note(self, moment: Moment, hit: str, left: int) -> None:
        self.summary.kills[hit] += 1
        self.summary.whole += moment.whole
        self.summary.orphans += left

    def _finish(self, home: Path) -> Iterator[str]:
        """Let it end; run it once more; compare it with the control."""
        for more in (False, True):
            demo = Demo(home, self._whole)
            if status := demo.wait():
                yield f"it ended with {status}:\n{demo.output()[-3000:]}"
                return
            done = json.loads(home.with_name(f"{home.name}.json").read_text())
            if more and done["recomputed"]:
                yield f"a further run recomputed {done['recomputed']}"
        yield from _audited(home)
        but = AFTER_A_TIMED_SEARCH if self._whole else ()
        yield from differences(home, self.control, but=but)
        self.summary.again.update(made_again(home))


def _audited(home: Path) -> list[str]:
    try:
        return audit(home)
    except Exception as error:
        return [f"the audit could not end: {error!r}"]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m mlops_assets_tests.integration.kills",
        description="Kill `mlops demo` at random moments and look whether it matters.",
    )
    parser.add_argument("--kills", type=int, default=50, help="how many (50)")
    parser.add_argument("--seed", type=int, default=1, help="which moments (1)")
    parser.add_argument(
        "--whole", action="store_true", help="the demo as it is, not five weeks with a small search"
    )
    parser.add_argument("--folder", type=Path, help="where to work; what went wrong stays there")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="mlops-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    campaign = Campaign(folder, lambda line: print(line, flush=True), whole=given.whole)
    summary = campaign.run(plan(given.kills, given.seed))
    print(f"\n{summary}, {time.monotonic() - started:.0f} s")
    if summary.problems:
        sys.exit(f"look into {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
