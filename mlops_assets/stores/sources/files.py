"""Sources that polars scans: CSV, Parquet, Delta. Days are filtered while the file is read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl

from mlops_assets.stores.source_files import SourceError
from mlops_assets.stores.sources.base import NUMBER, ROUGHLY, SPREAD, WHOLE, Days, Source

_END = 65_536
"""Bytes at the end of a file that are looked at."""
NULLS = ["", "NA"]
"""Texts of a CSV that stand for a missing value."""


class _Scanned(Source):
    """A source that is a LazyFrame."""

    def _open(self) -> pl.LazyFrame:
        raise NotImplementedError

    def schema(self) -> pl.Schema:
        """See `Source`."""
        try:
            return self._open().collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self.where}: {self.cause(error)}") from None

    def scan(self, columns: Sequence[str], roughly: Days | None = None) -> pl.LazyFrame:
        """See `Source`; a column with statistics lets whole parts of a file be skipped."""
        rows = self._open().select(columns)
        own = self.own(self.time)
        if roughly is None or own not in columns:
            return rows
        kind = rows.collect_schema()[own]
        if not isinstance(kind, pl.Datetime | pl.Date):
            return rows
        low, high = roughly[0] - ROUGHLY, roughly[1] + ROUGHLY
        if isinstance(kind, pl.Datetime):
            zone = UTC if kind.time_zone else None
            low, high = (datetime.combine(day, time(0), zone) for day in (low, high))
        return rows.filter(pl.col(own).is_between(low, high) | pl.col(own).is_null())

    def sample(self, rows: int) -> tuple[pl.DataFrame, int]:
        """See `Source`."""
        try:
            found = self._open()
            count = int(found.select(pl.len()).collect().item())
            if count > rows:
                chosen = found.with_row_index(NUMBER).filter(
                    pl.col(NUMBER).cast(pl.Int64) * SPREAD % WHOLE < WHOLE * rows // count
                )
                found = chosen.drop(NUMBER).head(rows)
            return found.collect(), count
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self.where}: {self.cause(error)}") from None


class CsvSource(_Scanned):
    """A CSV with a header, in UTF-8; its values are text until they are asked for in a type."""

    def _open(self) -> pl.LazyFrame:
        return pl.scan_csv(
            self.address, separator=self._separator(), infer_schema=False, null_values=NULLS
        )

    def _separator(self) -> str:
        try:
            with Path(self.address).open("rb") as file:
                header = file.readline()
        except OSError as error:
            raise SourceError(f"{self.where}: {error.strerror}") from None
        text = header.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
        if not text:
            raise SourceError(f"{self.where}: the file has no header line")
        separator = max(",;\t|", key=text.count)
        columns = next(csv.reader([text], delimiter=separator))
        if doubled := sorted({c for c in columns if columns.count(c) > 1}):
            raise SourceError(f"{self.where}, line 1: two columns are named {', '.join(doubled)}")
        self._require_whole_end(separator, len(columns))
        return separator

    def _require_whole_end(self, separator: str, width: int) -> None:
        """Refuse a file that was cut off: polars would read what is missing as empty."""
        path = Path(self.address)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _END))
            end = file.read().decode("utf-8", "replace")
        last = end.rstrip("\r\n").rpartition("\n")[2]
        # A quoted field may span lines; whether it is whole cannot be seen from its end.
        if end.endswith("\n") or '"' in last or len(last) == len(end):
            return
        if (found := last.count(separator) + 1) < width:
            raise SourceError(
                f"{self.where}: the last line has {found} fields of {width} and no end"
                f" ({last[-60:]!r}), so the file is cut off; fetch it again"
            )

    def cause(self, error: Exception) -> str:
        """Where the file is not UTF-8, the line; else what polars says."""
        with Path(self.address).open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as wrong:
                    found = line[wrong.start : wrong.start + 4].hex(" ")
                    return f"line {number}: the bytes {found} are not UTF-8; convert it to UTF-8"
        return super().cause(error)


class ParquetSource(_Scanned):
    """A Parquet file."""

    def _open(self) -> pl.LazyFrame:
        if "://" not in self.address and not Path(self.address).exists():
            raise SourceError(f"{self.where}: there is no such file")
        return pl.scan_parquet(self.address)


class DeltaSource(_Scanned):
    """The folder of a Delta table, in its newest version."""

    def _open(self) -> pl.LazyFrame:
        from deltalake.exceptions import DeltaError

        try:
            return pl.scan_delta(self.address)
        except DeltaError as error:
            raise SourceError(f"{self.where}: {self.cause(error)}") from None
