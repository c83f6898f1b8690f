"""What `base` does to one value, done to a column at a time: the catalogues have millions of rows."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported.)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.sources.base import TRACK_ID, is_lost, number, text, year_of

Column = Sequence[Any] | pa.Array       # of at most 2 GB

# What `text` surely leaves as it is: words of printable ASCII without "&", one space between two of them.
_CLEAN = r"^[!-%'-~]+( [!-%'-~]+)*$"
_USABLE_ID = f"^(?:{TRACK_ID.pattern})$"


def clean_column(values: Column) -> pa.Array:
    """`text` of each value, as strings. Only what may need it goes through `text`, equal values once."""
    array = _array(values)
    if array is None or not _is_text(array.type):
        return pa.array([text(value) for value in _list(values)], pa.string())
    raw = array.cast(pa.binary())
    unclean = pc.invert(pc.match_substring_regex(raw, _CLEAN)).fill_null(False)
    odd = raw.filter(unclean).dictionary_encode()
    if not len(odd):
        return raw.cast(pa.string())
    cleaned = pa.array([text(value) for value in odd.dictionary.to_pylist()], pa.string()).take(odd.indices)
    clean = _null_where(unclean, raw).cast(pa.string())
    return pc.replace_with_mask(clean, unclean, cleaned)


def usable_ids(ids: pa.Array) -> np.ndarray:
    """Which of these strings can be a track_id, as booleans; nulls cannot."""
    return pc.match_substring_regex(ids, _USABLE_ID).fill_null(False).to_numpy(zero_copy_only=False)


def year_column(values: Column) -> pa.Array:
    """`year_of` each value, as int16."""
    array = _array(values)
    if array is None or pa.types.is_nested(array.type):
        return pa.array([year_of(value) for value in _list(values)], pa.int16())
    coded = array.dictionary_encode()
    years = pa.array([year_of(value) for value in coded.dictionary.to_pylist()], pa.int16())
    return years.take(coded.indices)


def lost_years(values: Column, years: pa.Array) -> int:
    """How many of these values are of no use (see `is_lost`). years: what `year_column` made of them."""
    array = _array(values)
    if array is None or pa.types.is_nested(array.type):
        return sum(is_lost(value, year) for value, year in zip(_list(values), years.to_pylist(), strict=True))
    unknown = array.filter(pc.is_null(years)).value_counts()
    counts = zip(unknown.field("values").to_pylist(), unknown.field("counts").to_pylist(), strict=True)
    return sum(count for value, count in counts if is_lost(value, None))


def number_column(values: Column) -> pa.Array:
    """`number` of each value, as float64."""
    array = _array(values)
    if array is None or not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        return pa.array([number(value) for value in _list(values)], pa.float64())
    numbers = array.cast(pa.float64(), safe=False)      # integers are rounded, as `float` rounds them
    usable = pc.and_(pc.is_finite(numbers), pc.greater_equal(numbers, 0.0))
    return _null_where(pc.invert(usable).fill_null(False), numbers)


def positive_column(values: Column) -> pa.Array:
    """`positive` of each value, as float64."""
    numbers = number_column(values)
    return _null_where(pc.equal(numbers, 0.0).fill_null(False), numbers)


def _array(values: Column) -> pa.Array | None:
    """None where the values are of several types, or of none that Arrow has."""
    if isinstance(values, pa.Array):
        return values
    if bool in set(map(type, values)):          # which Arrow takes for numbers among numbers
        return None
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _list(values: Column) -> Sequence[Any]:
    return values.to_pylist() if isinstance(values, pa.Array) else values


def _is_text(kind: pa.DataType) -> bool:
    return (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind) or pa.types.is_null(kind))


def _null_where(mask: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, pa.scalar(None, values.type), values)
