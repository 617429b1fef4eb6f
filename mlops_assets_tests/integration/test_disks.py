"""A disk that fills up at every stage of the demo, and one that turns read-only: a real tmpfs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
import pytest

from mlops_assets.stores.lakehouse import Commit, Lakehouse
from mlops_assets_tests.integration.audit import audit, differences
from mlops_assets_tests.integration.small_demo import BEGINS, command, environment

# Megabytes. The whole flow leaves some 40, and more where writes were cut short.
FEW, MANY = (20,), (1, 3, 8, 12, 16, 24, 28, 34)
ENOUGH = 200
AIRLINES = pl.DataFrame({"carrier": ["HA"], "name": ["Hawaiian"]})


@dataclass(frozen=True)
class Disk:
    """A tmpfs that its own mount namespace alone sees, and that vanishes with it."""

    namespace: psutil.Popen
    folder: Path

    def copied(self, target: Path) -> Path:
        """A copy of the home on this disk, to look at."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._seen_from_outside / "home", target, symlinks=True)
        return target

    def fill(self, source: Path) -> None:
        """Copy a home to this disk."""
        shutil.copytree(source, self._seen_from_outside / "home")

    def change(self, options: str) -> None:
        """Mount it anew with other options: another size, or read-only."""
        remount = ["mount", "-o", f"remount,{options}", str(self.folder)]
        subprocess.run([*self._inside(), *remount], check=True)

    def mlops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `mlops …` on a home on this disk, to its end."""
        with self.started(*arguments) as process:
            said, _ = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """`mlops …` on a home on this disk, as it runs."""
        return subprocess.Popen(
            [*self._inside(), *command(*arguments)],
            env=environment(self.folder / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def _seen_from_outside(self) -> Path:
        return Path(f"/proc/{self.namespace.pid}/root{self.folder}")

    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.namespace.pid), "-m"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux":
        pytest.skip("mount namespaces are Linux's")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=20m tmpfs {folder} && echo mounted && exec sleep 3600"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with psutil.Popen(["unshare", "-m", "sh", "-c", mount], **pipes) as namespace:
        if (said := namespace.stdout.readline()) != "mounted\n":
            pytest.skip(f"a tmpfs cannot be mounted here: {said}")
        yield Disk(namespace, folder)
        namespace.kill()


@pytest.mark.parametrize(
    "sizes", [pytest.param(FEW, marks=pytest.mark.slow), pytest.param(MANY, marks=pytest.mark.year)]
)
def test_a_disk_that_fills_up_is_said_and_what_is_finished_stays(disk, settled, tmp_path, sizes):
    for size in sizes:
        disk.change(f"size={size}m")
        done = disk.mlops("demo")
        assert done.returncode == 1, done.stdout[-3000:]
        assert "The disk is full" in done.stdout, done.stdout[-3000:]
        assert f"MB are free where {disk.folder / 'home'} lies" in done.stdout
        assert "Traceback" not in done.stdout, done.stdout[-3000:]
        assert audit(disk.copied(tmp_path / "copy")) == []
    disk.change(f"size={ENOUGH}m")
    with disk.started("demo") as last:
        assert any(line.startswith(BEGINS) for line in iter(last.stdout.readline, ""))
        rival = disk.mlops("demo")
        assert f"mlops demo (process {last.pid}) is at work in" in rival.stdout
        said, _ = last.communicate(timeout=600)
    assert last.returncode == 0, said[-3000:]
    home = disk.copied(tmp_path / "copy")
    assert audit(home) == []
    assert differences(home, settled) == []


def test_a_read_only_disk_is_said_and_the_lake_can_be_read(disk, tmp_path):
    Lakehouse(tmp_path / "home" / "lake").overwrite("nyc_flights/airlines", AIRLINES, Commit())
    (tmp_path / "home" / "dagster").mkdir()
    disk.fill(tmp_path / "home")
    disk.change("ro")
    refused = disk.mlops("demo")
    assert refused.returncode == 1
    assert f"{disk.folder / 'home'} lies on a disk that cannot be written" in refused.stdout
    assert "Traceback" not in refused.stdout
    listed = disk.mlops("tables")
    assert (listed.returncode, "nyc_flights/airlines" in listed.stdout) == (0, True), listed.stdout
    asked = disk.mlops("sql", "select name from nyc_flights.airlines", "--csv")
    assert (asked.returncode, asked.stdout) == (0, "name\nHawaiian\n")
    disk.change("rw")
    assert "nyc_flights/airlines" in disk.mlops("tables").stdout
