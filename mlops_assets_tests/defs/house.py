"""A lake for tests of the flights domain, and a copy of the source's files to break."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl

from mlops_assets.components.resources import LakehouseResource
from mlops_assets.defs.nyc_flights.source import data_folder
from mlops_assets.stores.lakehouse import Lakehouse

Text = Callable[[str], str | bytes]


@dataclass
class House:
    """A lake and the instance that knows what was published in it."""

    lake: Lakehouse
    instance: dg.DagsterInstance

    def attempt(self, assets, first=None, last=None):
        """Materialize for the days `first` to `last` in one run, which may fail."""
        ends = {"start": first, "end": last or first} if first else {}
        return dg.materialize(
            assets,
            instance=self.instance,
            resources={"lakehouse": LakehouseResource(uri=self.lake.uri)},
            tags={f"dagster/asset_partition_range_{k}": str(day) for k, day in ends.items()},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def make(self, assets, first=None, last=None):
        """Materialize as `attempt`; return the check evaluations of the run, which succeeded."""
        result = self.attempt(assets, first, last)
        assert result.success, reason(result)
        return result.get_asset_check_evaluations()

    def rows(self, table, **scan):
        return self.lake.scan(f"nyc_flights/{table}", **scan).collect()

    def published(self, asset):
        """What must not change when a run fails: the rows' Delta version, and the days."""
        name = "/".join(asset.key.path)
        version = self.lake.version(name) if self.lake.exists(name) else None
        records = self.instance.fetch_materializations(asset.key, 1000).records
        return version, self.instance.get_materialized_partitions(asset.key), len(records)


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """A house whose lake is in the folder."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield House(Lakehouse(folder), instance)


def reason(result) -> str:
    """What the run says it failed of."""
    error = next(e for e in result.all_events if e.is_step_failure).step_failure_data.error
    return (error.cause or error).message


def failed(result) -> dict[tuple[str, str | None], str]:
    """The checks that failed, by name and day, with what they say."""
    checks = result.get_asset_check_evaluations()
    return {(c.check_name, c.partition): c.description for c in checks if not c.passed}


@dataclass(frozen=True)
class Files:
    """A copy of the source's files, small, that may be broken and mended."""

    folder: Path
    whole: Path

    @classmethod
    def copy(cls, folder: Path, last: date) -> Files:
        """The days through `last`; flights as a zip, as in the package."""
        files, whole = cls(folder / "source", folder / "whole"), folder / "whole"
        whole.mkdir()
        until = pl.date("year", "month", "day") <= last
        for name in ("planes", "airports", "airlines"):
            shutil.copy(data_folder() / f"{name}.csv", whole)
        rows = pl.scan_csv(data_folder() / "weather.csv", infer_schema=False)
        day = pl.date(*(pl.col(c).cast(pl.Int32) for c in ("year", "month", "day")))
        rows.filter(day <= last).sink_csv(whole / "weather.csv")
        with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
            flights = pl.read_csv(archive.read("flights.csv"), null_values="NA")
        text = flights.filter(until).write_csv(null_value="NA").encode()
        (whole / "flights.csv.zip").write_bytes(zipped(text))
        shutil.copytree(whole, files.folder)
        return files

    def mend(self) -> None:
        """The files as they were."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.whole, self.folder)

    def text(self, name: str) -> str:
        """The CSV of one file as it was."""
        if name == "flights":
            with zipfile.ZipFile(self.whole / "flights.csv.zip") as archive:
                return archive.read("flights.csv").decode()
        return (self.whole / f"{name}.csv").read_text()

    def write(self, name: str, text: str | bytes) -> None:
        """Put another CSV in the place of one file."""
        content = text if isinstance(text, bytes) else text.encode()
        if name == "flights":
            (self.folder / "flights.csv.zip").write_bytes(zipped(content))
        else:
            (self.folder / f"{name}.csv").write_bytes(content)

    def change(self, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Change the rows of one file as it was; all columns that are numbers are numbers."""
        rows = pl.read_csv(io.StringIO(self.text(name)), null_values="NA", infer_schema_length=None)
        self.write(name, change(rows).select(rows.columns).write_csv(null_value="NA"))


def zipped(content: bytes, name: str = "flights.csv", how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip that holds the content under the name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        archive.writestr(name, content)
    return stream.getvalue()
