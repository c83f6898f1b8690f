"""The columns' functions do to each value what those of `base` do to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.sources.base import TRACK_ID, number, positive, text, year_of
from simsong.sources.columns import clean_column, number_column, positive_column, usable_ids, year_column

FUZZ = settings(max_examples=300, deadline=None)
ODD = st.text(alphabet=" &;ab\x00\x13\x19\x7f\x92\u0301é\ufeff\u200b\u2003\n#38amp", max_size=12)
TEXTS = st.none() | st.text() | ODD
BYTES = st.none() | st.binary(max_size=12) | ODD.map(str.encode)
NUMBERS = st.none() | st.floats() | st.integers() | st.integers(1900, 2030) | st.floats(width=32)
ANYTHING = TEXTS | BYTES | NUMBERS | st.booleans() | st.lists(st.none(), max_size=1)
# Columns of one type take the fast path, others the slow one.
COLUMNS = st.lists(TEXTS) | st.lists(BYTES) | st.lists(NUMBERS) | st.lists(ANYTHING)


@pytest.mark.parametrize(("column", "value"), [
    (clean_column, text), (year_column, year_of), (number_column, number), (positive_column, positive)])
@given(values=COLUMNS)
@FUZZ
def test_a_column_is_its_values(column: Callable[[Any], pa.Array], value: Callable[[Any], Any],
                                values: list[Any]) -> None:
    assert column(values).to_pylist() == [value(v) for v in values]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@given(values=st.lists(TEXTS.filter(lambda v: v is None or not any("\ud800" <= c < "\ue000" for c in v))))
@settings(FUZZ, max_examples=50)
def test_arrays_are_cleaned_alike(kind: pa.DataType, values: list[str | None]) -> None:
    cleaned = clean_column(pa.array(values, kind))
    assert cleaned.type == pa.string()
    assert cleaned.to_pylist() == [text(v) for v in values]


def test_arrays_may_be_parts_of_others() -> None:
    part = pa.array(["x", "R&amp;B", None, " a  b ", "plain one", "\x13"]).slice(1, 4)
    assert clean_column(part).to_pylist() == ["R&B", None, "a b", "plain one"]
    assert number_column(pa.array(np.array([1.5, np.nan, np.inf, -1.0, 0.0], "f4"))).to_pylist() == [
        1.5, None, None, None, 0.0]
    assert year_column(pa.array([1969, 0, 1969, None, 20120306])).to_pylist() == [
        1969, None, 1969, None, 2012]


def test_types_do_not_depend_on_the_values() -> None:
    for values in ([], [None], [None, "x"], ["x", 1]):
        assert clean_column(values).type == pa.string()
        assert year_column(values).type == pa.int16()
        assert number_column(values).type == positive_column(values).type == pa.float64()


@given(st.lists(st.text(max_size=6) | st.from_regex(TRACK_ID) | st.just("A" * 64) | st.just("A" * 65)))
@FUZZ
def test_usable_ids_are_those_that_match(ids: list[str]) -> None:
    array = clean_column(ids)
    assert usable_ids(array).tolist() == [
        clean is not None and TRACK_ID.fullmatch(clean) is not None for clean in map(text, ids)]
