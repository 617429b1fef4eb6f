"""source_files.py: what is read, and the sentence with which anything else is refused."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.stores.source_files import UTC_TIME, SourceError, read_table, state_of

SCHEMA = {"n": pl.Int64(), "x": pl.Float64(), "t": UTC_TIME, "s": pl.String()}
GOOD = "n,x,t,s\n1,2.5,2013-01-01T10:00:00Z,a\nNA,,2013-01-01T05:00:00-05:00,b\n"
TEN = datetime(2013, 1, 1, 10, tzinfo=UTC)
ROWS = [(1, 2.5, TEN, "a"), (None, None, TEN, "b")]
ROW = "3,4,2013-01-01T10:00:00Z,c\n"


@pytest.fixture
def read(tmp_path):
    def written(content):
        path = tmp_path / "readings.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, SCHEMA)

    return written


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace(",s\n", ",s,more\n").replace(",a\n", ",a,1\n").replace(",b\n", ",b,2\n"),
    ],
)
def test_columns_are_read_in_their_declared_types(read, content):
    frame = read(content)
    assert frame.schema == SCHEMA
    assert frame.rows() == ROWS


def test_a_quoted_field_may_hold_a_comma_and_a_line(read):
    assert read(GOOD + '3,4,2013-01-01T10:00:00Z,"c, d\ne"\n')["s"].to_list() == [
        "a", "b", "c, d\ne",
    ]  # fmt: skip


def test_a_header_alone_is_no_rows(read):
    assert read("n,x,t,s\n").is_empty()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no header line (0 characters)"),
        (GOOD.replace("n,x", "n,n"), "line 1: two columns are named n"),
        (GOOD.replace("n,x", "N,x"), "no column 'n' (renamed to 'N'?); the file has N, x, t, s."),
        (GOOD.replace("n,x", "q,r"), "line 1: there is no column 'n', 'x'; the file has q, r"),
        (GOOD[:-1], "line 3: the last line has no end ('NA,,2013-01-01T05:00:00-05:00,b')"),
        (GOOD + "\0\0", r"line 4: the last line has no end ('\x00\x00'), so the file is truncated"),
        (GOOD + "3,4\n", "line 4: the row has 2 fields, the header 4"),
        (GOOD + "\n" + ROW, "line 4: the row has 0 fields, the header 4"),
        (GOOD + "3,4\n" + ROW[:-1] + ",5,6\n", "line 4: the row has 2 fields, the header 4"),
        (GOOD + '3,4,2013-01-01T10:00:00Z,"c\n' + ROW, "line 4: a quote is not closed"),
        (GOOD + '3,4,2013-01-01T10:00:00Z,"c"d\n', "line 4: a quote is not closed or stands insid"),
        (GOOD + ROW.replace("3,4", "3.5,4"), "line 4: column 'n' is '3.5', expected a whole numb"),
        (GOOD + ROW.replace("3,4", "3,four") * 2, "'four', expected a number (and 1 more); mend"),
        (GOOD + ROW.replace("3,", "9" * 30 + ","), f"column 'n' is '{'9' * 30}', expected a whole"),
        (GOOD + ROW.replace("Z", ""), "column 't' is '2013-01-01T10:00:00', expected a time with"),
        (GOOD.encode() + b"3,4,2013-01-01T10:00:00Z,\xe9\n", "line 4: the bytes e9 0a are not UTF"),
        (GOOD.encode("utf-16"), "line 1: the bytes ff fe 6e 00 are not UTF-8; convert the file"),
    ],
)
def test_what_is_not_as_declared_is_refused_with_its_line(read, content, said):
    with pytest.raises(SourceError) as refused:
        read(content)
    assert said in str(refused.value)
    assert "readings.csv" in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"none\.csv: No such file or directory; fetch it again"):
        read_table(tmp_path / "none.csv", SCHEMA)


class Rewritten(type(Path())):
    """A stand-in for bad luck: the first `times` reads are each followed at once by a write."""

    times = 0

    def read_bytes(self):
        content = super().read_bytes()
        if Rewritten.times:
            Rewritten.times -= 1
            self.write_text(GOOD + ROW * (3 - Rewritten.times))
        return content


@pytest.fixture
def rewritten(tmp_path, request, monkeypatch):
    path = Rewritten(tmp_path / "readings.csv")
    path.write_text(GOOD)
    monkeypatch.setattr(Rewritten, "times", request.param)
    return path


@pytest.mark.parametrize("rewritten", [1], indirect=True)
def test_a_file_that_changed_while_it_was_read_is_read_again(rewritten):
    assert read_table(rewritten, SCHEMA).height == 5


@pytest.mark.parametrize("rewritten", [2], indirect=True)
def test_a_file_that_keeps_changing_is_refused(rewritten):
    with pytest.raises(SourceError, match="it changes while it is read; let the new file be wri"):
        read_table(rewritten, SCHEMA)
    assert read_table(rewritten, SCHEMA).height == 5


def test_the_state_of_a_file_tells_a_change(tmp_path):
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    states = []
    for write in (path, other):
        write.write_text(GOOD)
        states.append(state_of(path))
    assert states[0] == states[1]
    other.rename(path)
    assert state_of(path) != states[0]
