"""What is read from packed chunks, row by row, is what `look_up` gives, to the last bit."""

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import TypeAdapter

from mlops_assets.ml.online import Reader, key_of, microseconds
from mlops_assets.ml.online_pack import pack
from mlops_assets.ml.point_in_time import (
    AVAILABLE_AT,
    EVENT_TIME,
    PREDICTION_TIME,
    Latest,
    Trailing,
    look_up,
)
from mlops_assets.ml.serving_contract import LookUp, look_ups

LookUps = TypeAdapter(tuple[tuple[str, LookUp], ...])
KEYS = ("carrier", "flight")
TIME = pl.Datetime("us", "UTC")
HOUR = timedelta(hours=1)
# The nights on which the clocks of New York change lie among the moments.
STARTS = (datetime(2013, 3, 9, tzinfo=UTC), datetime(2013, 11, 2, 12, tzinfo=UTC))
TABLE = {"carrier": pl.String, "flight": pl.Int64, EVENT_TIME: TIME, AVAILABLE_AT: TIME}
SPINE = {"carrier": pl.String, "flight": pl.Int64, PREDICTION_TIME: TIME}
SUMS = {"late": pl.Int64, "arrivals": pl.Int64, "delay": pl.Int16}
VALUES = {"x": pl.Int64, "y": pl.Float64, "text": pl.String, "at": TIME, "yes": pl.Boolean}
RATIOS = {
    "late_rate": ("late", "arrivals"),
    "mean_delay": ("delay", "arrivals"),
    "delay": ("delay", None),
}
WINDOWS = {"2h": 2 * HOUR, "1d": 24 * HOUR, "just": timedelta(microseconds=1)}
MOMENTS = [*range(0, 72 * 3600, 1800)]
LONG = st.integers(-(2**63), 2**63 - 1)
OFF = st.sampled_from([0, 0, 0, 1, -1])
"""Microseconds off a half hour: times tie, and fall just on the edges of windows and stretches."""


@st.composite
def moments(draw):
    start = draw(st.sampled_from(STARTS))
    return start + timedelta(seconds=draw(st.sampled_from(MOMENTS)), microseconds=draw(OFF))


def keys(*more):
    carriers = st.sampled_from(["AA", "A", "é\x00", *more, None])
    return st.tuples(carriers, st.sampled_from([1, 11, None]))


@st.composite
def spines(draw):
    key = keys("ZZ", "1:A")
    rows = draw(st.lists(st.tuples(key, st.none() | moments()), min_size=1, max_size=12))
    return pl.DataFrame([(*key, at) for key, at in rows], schema=SPINE, orient="row")


@st.composite
def sums(draw):
    count, delay = st.none() | st.integers(0, 3), st.none() | st.integers(-60, 60)
    row = st.tuples(keys(), st.none() | moments(), st.tuples(count, count, delay))
    rows = [(*key, at, at, *values) for key, at, values in draw(st.lists(row, max_size=40))]
    return pl.DataFrame(rows, schema=TABLE | SUMS, orient="row")


@st.composite
def readings(draw):
    number = st.none() | st.integers(-(2**40), 2**40)
    fraction = st.none() | st.floats(allow_infinity=True, allow_nan=False)
    values = st.tuples(
        number, fraction, st.none() | st.text(max_size=3), st.none() | moments(),
        st.none() | st.booleans(),
    )  # fmt: skip
    late = st.sampled_from([0, 0, 1, 5, -2])
    row = st.tuples(keys(), moments(), late, values)
    drawn = draw(st.lists(row, max_size=40, unique_by=lambda r: (r[0], r[1])))
    rows = [(*key, at, at + hours * HOUR, *values) for key, at, hours, values in drawn]
    return pl.DataFrame(rows, schema=TABLE | VALUES, orient="row")


def read_row_by_row(spine, table, definition, chunk_rows):
    packed = pack(table, definition, chunk_rows)
    reader = Reader.of(packed.layout, definition)
    rows = []
    for row in spine.iter_rows(named=True):
        key = key_of(tuple(row[k] for k in definition.keys))
        if key is None or row[PREDICTION_TIME] is None:
            rows.append([None] * len(definition.features))
            continue
        at = microseconds(row[PREDICTION_TIME])
        chunks = [packed.chunks.get(name) for name in reader.names(key, at)]
        rows.append(list(reader.values(chunks, at)))
    schema = look_up(spine, table.lazy(), definition).select(definition.features).schema
    return pl.DataFrame(rows, schema=schema, orient="row")


def assert_same(spine, table, definition, chunk_rows):
    expected = look_up(spine, table.lazy(), definition).select(definition.features)
    found = read_row_by_row(spine, table, definition, chunk_rows)
    assert_frame_equal(found, expected, check_exact=True)


@settings(max_examples=80, deadline=None)
@given(spines(), sums(), st.sampled_from([1, 2, 128]))
def test_a_trailing_window_read_online_is_the_one_read_offline(spine, table, chunk_rows):
    assert_same(spine, table, Trailing(KEYS, "p", RATIOS, WINDOWS), chunk_rows)


@settings(max_examples=80, deadline=None)
@given(
    spines(),
    readings(),
    st.sampled_from([None, timedelta(0), 2 * HOUR, 30 * HOUR]),
    st.sampled_from([1, 2, 128]),
)
def test_the_latest_row_read_online_is_the_one_read_offline(spine, table, ttl, chunk_rows):
    columns = {"a": "x", "b": "y", "c": "text", "d": "at", "e": "yes"}
    assert_same(spine, table, Latest(KEYS, columns, ttl), chunk_rows)


def test_definitions_survive_the_contract():
    definitions = {
        "d/trailing": Trailing(KEYS, "p", RATIOS, WINDOWS),
        "d/latest": Latest(KEYS, {"a": "x"}, 2 * HOUR),
    }
    stored = LookUps.validate_json(LookUps.dump_json(look_ups(definitions)))
    assert {table: each.definition() for table, each in stored} == definitions


@given(st.lists(st.tuples(st.text(), st.text() | LONG), min_size=2, max_size=2))
def test_only_equal_entities_have_equal_keys(pair):
    one, other = pair
    assert (key_of(one) == key_of(other)) == (one == other)


def test_keys_of_other_types_are_other_keys():
    values = [1, "1", 1.5, True, datetime(2013, 1, 1, tzinfo=UTC), "a" * 10_000, "a" * 10_001]
    assert len({key_of((value,)) for value in values}) == len(values)
    assert all(len(key_of((value,))) <= 200 for value in values)
    zone = datetime(2013, 1, 1, 1, tzinfo=UTC).astimezone().tzinfo
    there = datetime(2013, 1, 1, tzinfo=UTC)
    assert key_of((there,)) == key_of((there.astimezone(zone),))


@pytest.mark.parametrize("nobody", ["\ud800", 10**30, -(10**30), None])
def test_what_no_table_can_hold_is_nobodys_key(nobody):
    assert key_of(("UA", nobody)) is None


@pytest.mark.parametrize("at", [datetime.min, datetime(1969, 1, 1), datetime.max], ids=str)
def test_far_off_times_find_what_was_there_by_then(at):
    at = at.replace(tzinfo=UTC)
    begin = STARTS[0]
    table = pl.DataFrame(
        [("AA", 1, begin + n * HOUR, begin + n * HOUR, 1, 2, 3) for n in range(50)],
        schema=TABLE | SUMS,
        orient="row",
    )
    spine = pl.DataFrame([("AA", 1, at)], schema=SPINE, orient="row")
    assert_same(spine, table, Trailing(KEYS, "p", RATIOS, WINDOWS), 2)
    assert_same(spine, table, Latest(KEYS, {"a": "arrivals"}), 2)
    assert_same(spine, table, Latest(KEYS, {"a": "arrivals"}, 2 * HOUR), 2)


def test_a_chunk_stays_small_however_many_rows_a_key_has():
    begin = STARTS[0]
    rows = [("AA", 1, begin + timedelta(minutes=n), 1, 2, 3) for n in range(5000)]
    schema = {"carrier": pl.String, "flight": pl.Int64, AVAILABLE_AT: TIME} | SUMS
    table = pl.DataFrame(rows, schema=schema, orient="row")
    packed = pack(table, Trailing(KEYS, "p", RATIOS, WINDOWS))
    assert packed.layout.stretch == HOUR // timedelta(microseconds=1)
    assert max(map(len, packed.chunks.values())) < 60 * 4 * 8 + 100


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (pl.col("late").cast(pl.Float64), "the sum 'late' is Float64; keep whole numbers"),
        (pl.col("flight").cast(pl.Float64), "the key 'flight' is Float64; use text"),
    ],
)
def test_types_that_have_no_place_are_refused(change, error):
    table = pl.DataFrame(schema=TABLE | SUMS).with_columns(change)
    with pytest.raises(TypeError, match=error):
        pack(table, Trailing(KEYS, "p", RATIOS, WINDOWS))


def test_a_list_cannot_be_looked_up():
    table = pl.DataFrame(schema=TABLE | {"x": pl.List(pl.Int64)})
    with pytest.raises(TypeError, match=r"'x' is List\(Int64\); what is looked up is numbers"):
        pack(table, Latest(KEYS, {"a": "x"}))


def test_sums_that_floating_numbers_cannot_hold_are_refused():
    rows = [("AA", 1, STARTS[0], STARTS[0], 2**52, 1, 1)] * 3
    table = pl.DataFrame(rows, schema=TABLE | SUMS, orient="row")
    with pytest.raises(ValueError, match=r"the sums of 'late' pass 2\*\*53"):
        pack(table, Trailing(KEYS, "p", RATIOS, WINDOWS))


def test_chunks_that_lack_what_is_read_are_refused():
    table = pl.DataFrame(schema=TABLE | SUMS)
    layout = pack(table, Trailing(KEYS, "p", {"a": ("late", "arrivals")}, WINDOWS)).layout
    with pytest.raises(ValueError, match="is kept without delay, which the model reads"):
        Reader.of(layout, Trailing(KEYS, "p", RATIOS, WINDOWS))
    with pytest.raises(ValueError, match=r"is kept by \('carrier', 'flight'\), and read by"):
        Reader.of(layout, Trailing(("flight",), "p", {"a": ("late", "arrivals")}, WINDOWS))


def test_not_a_number_stays_one():
    rows = [("AA", 1, STARTS[0], STARTS[0], math.nan)]
    table = pl.DataFrame(rows, schema=TABLE | {"y": pl.Float64}, orient="row")
    spine = pl.DataFrame([("AA", 1, STARTS[0])], schema=SPINE, orient="row")
    assert_same(spine, table, Latest(KEYS, {"a": "y"}), 128)


def test_a_busy_key_does_not_cut_many_quiet_ones_into_empty_chunks():
    begin = STARTS[0]
    busy = [("busy", 1, begin + timedelta(minutes=n), 1, 2, 3) for n in range(9 * 1440)]
    quiet = [("quiet", n, begin, 1, 2, 3) for n in range(20_000)]
    schema = {"carrier": pl.String, "flight": pl.Int64, AVAILABLE_AT: TIME} | SUMS
    packed = pack(
        pl.DataFrame([*busy, *quiet], schema=schema, orient="row"),
        Trailing(KEYS, "p", RATIOS, WINDOWS),
    )
    assert len(packed.chunks) < 4 * (len(busy) + len(quiet))
