"""The content hash: equal for equal content in any order, different for any other content."""

import subprocess
import sys
import time
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_assets.stores.content import combine, content_hash, content_hashes

COLUMNS = {
    "number": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "share": (pl.Float64, st.floats(allow_nan=False)),
    "word": (pl.String, st.text(max_size=3)),
    "late": (pl.Boolean, st.booleans()),
    "day": (pl.Date, st.dates(date(1900, 1, 1), date(2100, 1, 1))),
}
SCHEMA = {name: dtype for name, (dtype, _) in COLUMNS.items()}
CELLS = {name: st.none() | values for name, (_, values) in COLUMNS.items()}
ROWS = st.lists(st.tuples(*CELLS.values()), min_size=1, max_size=8)


def frame_of(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(ROWS, st.randoms())
def test_order_of_rows_and_columns_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    columns = random.sample(list(SCHEMA), len(SCHEMA))
    assert content_hash(frame_of(shuffled).select(columns)) == content_hash(frame_of(rows))


@settings(max_examples=300)
@given(ROWS, st.data())
def test_any_single_changed_cell_changes_the_hash(rows, data):
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(SCHEMA) - 1))
    cell = data.draw(CELLS[list(SCHEMA)[column]])
    changed = [list(values) for values in rows]
    assume(changed[row][column] != cell)
    changed[row][column] = cell
    assert content_hash(frame_of(changed)) != content_hash(frame_of(rows))


@given(ROWS, st.data())
def test_duplicates_count(rows, data):
    row = data.draw(st.sampled_from(rows))
    hashes = {content_hash(frame_of(rows + [row] * copies)) for copies in range(4)}
    assert len(hashes) == 4


@given(ROWS, ROWS)
def test_chunks_and_slices_do_not_matter(rows, others):
    whole = frame_of(rows)
    pieces = pl.concat([whole.slice(at, 1) for at in range(whole.height)], rechunk=False)
    sliced = frame_of(others + rows).slice(len(others))
    assert content_hash(pieces) == content_hash(sliced) == content_hash(whole)


@given(ROWS)
def test_a_partition_hashes_as_its_rows_alone(rows):
    frame = frame_of(rows).filter(pl.col("day").is_not_null())
    alone = {
        day.isoformat(): content_hash(frame.filter(pl.col("day") == day))
        for day in frame["day"].unique()
    }
    assert content_hashes(frame, "day") == alone


def test_equal_floats_are_equal_and_null_is_nothing_else():
    def of(*values):
        return content_hash(pl.DataFrame({"x": values}, schema={"x": pl.Float64}))

    nan = float("nan")
    assert of(0.0, nan) == of(-0.0, -nan)
    assert len({of(None), of(0.0), of(nan)}) == 3
    assert content_hash(pl.DataFrame({"x": [""]})) != content_hash(
        pl.DataFrame({"x": [None]}, schema={"x": pl.String})
    )


def test_categories_count_as_their_strings_also_inside_lists():
    plain = pl.DataFrame({"carrier": ["UA", None], "seen": [["UA"], []]})
    enum = pl.Enum(["B6", "UA"])
    for dtype in (pl.Categorical(), enum):
        typed = plain.cast({"carrier": dtype, "seen": pl.List(dtype)})
        assert content_hash(typed) == content_hash(plain)


def test_names_types_and_time_zones_count():
    number = pl.DataFrame({"x": [1]})
    moment = pl.DataFrame({"x": [1]}).cast(pl.Datetime("us"))
    frames = [
        number,
        number.rename({"x": "y"}),
        number.cast(pl.Int32),
        moment,
        moment.cast(pl.Datetime("us", "UTC")),
        moment.cast(pl.Datetime("us", "America/New_York")),
        number.clear(),
        number.clear().cast(pl.Int32),
        pl.DataFrame(),
    ]
    assert len({content_hash(frame) for frame in frames}) == len(frames)


def test_the_hash_is_the_same_in_another_process():
    code = (
        "import polars as pl; from mlops_assets.stores.content import content_hash; "
        "print(content_hash(pl.DataFrame({'x': [1, None], 's': ['a', '']})))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == content_hash(pl.DataFrame({"x": [1, None], "s": ["a", ""]}))


def test_a_column_without_content_or_a_partition_is_named():
    with pytest.raises(TypeError, match="x: a column of Python objects"):
        content_hash(pl.DataFrame({"x": [object()]}))
    with pytest.raises(TypeError, match="cannot partition by 'x', which is Float64"):
        content_hashes(pl.DataFrame({"x": [1.0]}), "x")
    with pytest.raises(ValueError, match="'x' is null in 1 rows"):
        content_hashes(pl.DataFrame({"x": [1, None]}), "x")


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=4)))
def test_combined_parts_are_framed_and_named(parts):
    assert combine(**parts) == combine(**dict(reversed(parts.items())))
    moved = {name: value + "x" for name, value in parts.items()}
    assert (combine(**moved) == combine(**parts)) == (not parts)


def test_combined_parts_do_not_run_together():
    assert combine(a="ab", b="c") != combine(a="a", b="bc")
    assert combine(a="bc") != combine(ab="c")
    assert combine(a="", b="x") != combine(a="x", b="")


def test_a_year_of_flights_is_hashed_in_under_a_second():
    rows = 337_000
    at = pl.int_range(rows, eager=True)
    day = pl.Series([date(2013, 1, 1) + timedelta(days=offset) for offset in range(365)])
    frame = pl.DataFrame(
        {f"number_{column}": (at * (column + 1)).cast(pl.Float64) for column in range(12)}
        | {f"word_{column}": (at % (column + 700)).cast(pl.String) for column in range(7)}
        | {"date": day.gather(at % 365)}
    )
    start = time.perf_counter()
    hashes = content_hashes(frame, "date")
    assert time.perf_counter() - start < 1.0
    assert len(set(hashes.values())) == 365
