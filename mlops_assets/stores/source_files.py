"""Reading a file of a source as it was declared: CSV, or a zip that holds the CSV of its name.

Nothing is inferred: each column has a type, and what does not fit is refused with one sentence that
names the file, the line and the value, and says what to do. polars reads a short row as nulls and
knows no line numbers, so rows and values are looked at here. Lines count from 1, the header's.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import polars as pl
from polars.exceptions import ComputeError

UTC_TIME = pl.Datetime("us", "UTC")
"""A time of the source: text as in 2013-01-01T10:00:00Z, with its zone, becomes UTC."""

State = tuple[int, int, int]
"""What tells that a file is another: inode, size, time of the last change in nanoseconds."""

_EXPECTED = {
    pl.Int64: "a whole number",
    pl.Float64: "a number",
    UTC_TIME: "a time with its zone, as in 2013-01-01T10:00:00Z",
}
_CHANGES = (
    "it changes while it is read; let the new file be written under another name, then renamed"
)
_BROKEN = "fetch it again from where it came, then materialize again"


class SourceError(Exception):
    """A file of the source is not as declared; the message says which, where and what to do."""


def state_of(path: Path) -> State:
    """What the file is now; another state is another content.

    Raises:
        SourceError: when there is no such file.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; {_BROKEN}") from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read_table(
    path: Path, schema: Mapping[str, pl.DataType], null_values: Sequence[str] = ("NA", "")
) -> pl.DataFrame:
    """Read the columns of `schema` from a `.csv` or a `.csv.zip`; further columns are left out.

    Args:
        path: the file; a zip holds one CSV, named like the zip without its ".zip".
        schema: column to type: String, Int64, Float64 or `UTC_TIME`.
        null_values: texts that stand for a missing value.

    Raises:
        SourceError: when the file cannot be read, changes meanwhile, or is not as declared.
    """
    content = _read_unchanged(path)
    if path.suffix == ".zip":
        content = _unzipped(path, content)
    content = content.removeprefix(b"\xef\xbb\xbf")
    text = _decoded(path, content)
    width = len(_header(path, text, schema))
    _require_an_end(path, text)
    # polars refuses a long row itself, so that an equal count means that no row is short either.
    if b'"' in content or content.count(b",") != (width - 1) * content.count(b"\n"):
        _require_whole_rows(path, text, width)
    try:
        return _typed(path, content, schema, list(null_values))
    except ComputeError as error:
        _require_whole_rows(path, text, width)
        raise SourceError(f"{path}: polars cannot read it ({error})") from None


def _read_unchanged(path: Path) -> bytes:
    for _ in range(2):
        before = state_of(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}; {_BROKEN}") from None
        if state_of(path) == before and len(content) == before[1]:
            return content
    raise SourceError(f"{path}: {_CHANGES}")


def _unzipped(path: Path, content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if path.stem not in archive.namelist():
                held = ", ".join(archive.namelist()) or "nothing"
                raise SourceError(f"{path}: the zip holds {held}, expected {path.stem}")
            return archive.read(path.stem)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(
            f"{path}: the zip is truncated or corrupt ({error}; {len(content)} bytes); {_BROKEN}"
        ) from None
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise SourceError(f"{path}: the zip cannot be read ({error})") from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = " ".join(f"{byte:02x}" for byte in content[error.start : error.start + 4])
        raise SourceError(
            f"{path}, line {line}: the bytes {found} are not UTF-8; convert the file to UTF-8"
        ) from None


def _header(path: Path, text: str, schema: Mapping[str, pl.DataType]) -> list[str]:
    columns = next(csv.reader([text[: text.find("\n") + 1]]), [])
    if not columns:
        raise SourceError(
            f"{path}: the file has no header line ({len(text)} characters); {_BROKEN}"
        )
    if doubled := sorted({c for c in columns if columns.count(c) > 1}):
        raise SourceError(f"{path}, line 1: two columns are named {', '.join(doubled)}")
    missing = [c for c in schema if c not in columns]
    if not missing:
        return columns
    others = {c.lower(): c for c in columns if c not in schema}
    near = {c: get_close_matches(c.lower(), others, n=1) for c in missing}
    named = ", ".join(
        f"{c!r} (renamed to {others[found[0]]!r}?)" if found else repr(c)
        for c, found in near.items()
    )
    raise SourceError(
        f"{path}, line 1: there is no column {named}; the file has {', '.join(columns)}. Give it"
        " the declared names, or declare its own"
    )


def _require_an_end(path: Path, text: str) -> None:
    if text.endswith("\n"):
        return
    last = text[text.rfind("\n") + 1 :]
    raise SourceError(
        f"{path}, line {text.count(chr(10)) + 1}: the last line has no end ({last[-60:]!r}), so the"
        f" file is truncated; {_BROKEN}"
    )


def _require_whole_rows(path: Path, text: str, width: int) -> None:
    rows, start = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for row in rows:
            if len(row) != width:
                raise SourceError(
                    f"{path}, line {start}: the row has {len(row)} fields, the header {width}; the"
                    f" file is truncated or damaged there; {_BROKEN}"
                )
            start = rows.line_num + 1
    except csv.Error as error:
        raise SourceError(
            f"{path}, line {start}: a quote is not closed or stands inside a field ({error});"
            f" {_BROKEN}"
        ) from None


def _typed(
    path: Path, content: bytes, schema: Mapping[str, pl.DataType], null_values: list[str]
) -> pl.DataFrame:
    as_read = {c: pl.String() if kind == UTC_TIME else kind for c, kind in schema.items()}
    named = list(schema)
    try:
        frame = pl.read_csv(
            content, columns=named, schema_overrides=as_read, null_values=null_values
        )
    except ComputeError:
        texts = pl.read_csv(content, columns=named, null_values=null_values, infer_schema=False)
        _require_types(path, texts, schema)
        raise
    times = [c for c, kind in schema.items() if kind == UTC_TIME]
    _require_types(path, frame, dict.fromkeys(times, UTC_TIME))
    return frame.select(named).with_columns(_parsed(c, UTC_TIME) for c in times)


def _parsed(column: str, kind: pl.DataType) -> pl.Expr:
    text = pl.col(column)
    if kind == UTC_TIME:
        return text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return text.str.strip_chars().cast(kind, strict=False)


def _require_types(path: Path, texts: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    """Refuse the first value of each column that is not of its type."""
    found = []
    for column, kind in schema.items():
        wrong = pl.col(column).is_not_null() & _parsed(column, kind).is_null()
        bad = texts.with_row_index("line", 2).filter(wrong).select("line", column)
        if bad.height:
            line, value = bad.row(0)
            more = f" (and {bad.height - 1} more)" if bad.height > 1 else ""
            found.append(
                f"line {line}: column {column!r} is {value!r}, expected {_EXPECTED[kind]}{more}"
            )
    if found:
        raise SourceError(f"{path}, {'; '.join(found)}; mend the file or the declared type")
