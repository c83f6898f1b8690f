"""What a query may be, and what people may type for spans, years and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsong.errors import QueryError
from simsong.search.song_query import (
    SongFilters,
    SongQuery,
    Span,
    clock,
    range_of,
    span_of,
    years_of,
)


@pytest.mark.parametrize(("text", "span"), [
    ("song.mp3@1:10-1:40", Span("song.mp3", 70, 100)), ("a@b - c@70-100", Span("a@b - c", 70, 100)),
    ("/x/y.flac@0:05.5-", Span("/x/y.flac", 5.5, None)), ("TR1@1:02:03-1:02:04", Span("TR1", 3723, 3724)),
    ("song.mp3", None), ("Ann @ Home - 1-2", None), ("me@home", None), ("@1-2", None)])
def test_spans(text: str, span: Span | None) -> None:
    assert span_of(text) == span


@given(st.integers(0, 86_000), st.integers(1, 9_999), st.text(min_size=1).filter(str.strip))
def test_a_span_that_is_written_is_read(first: int, length: int, song: str) -> None:
    span = span_of(f"{song}@{clock(first)}-{clock(first + length)}")
    assert span == Span(song.lstrip(), first, first + length)


@pytest.mark.parametrize("text", ["x@1:40-1:10", "x@5-5"])
def test_a_span_ends_after_it_begins(text: str) -> None:
    with pytest.raises(QueryError, match="ends before it begins"):
        span_of(text)


def test_years_and_ranges() -> None:
    assert [years_of(text) for text in ("1994", "1990-1999", "1990-", "-1999")] == [
        (1994, 1994), (1990, 1999), (1990, None), (None, 1999)]
    assert [range_of(text) for text in ("tempo_bpm=90-110", "key=3", "e=0.5-", "l=-20..-10", "l=..-10")] == [
        ("tempo_bpm", 90, 110), ("key", 3, 3), ("e", 0.5, None), ("l", -20, -10), ("l", None, -10)]
    for text in ("", "-", "90s", "1990-1980-", "19901"):
        with pytest.raises(QueryError, match="years are"):
            years_of(text)
    assert [range_of(text) for text in ("mode=minor", "key=C#", " voice=sung ")] == [
        ("mode", "minor"), ("key", "C#"), ("voice", "sung")]
    for text in ("", "tempo", "tempo=", "tempo=-", "tempo=x y", "=3", "key=#"):
        with pytest.raises(QueryError, match="is not like"):
            range_of(text)


@pytest.mark.parametrize("wrong", [
    {}, {"like": ("a",), "k": 0}, {"like": ("a",), "k": 10_001}, {"like": ("a",), "diversity": 1.1},
    {"like": ("a",), "diversity": float("nan")}, {"like": ("a",), "per_artist": 0},
    {"like": ("a",), "lyrics": "b"}, {"lyrics": "a", "text": "b"}, {"lyrics": " "}, {"unlike": ("a",)},
    {"genres": ("a",), "text": "b"},
    {"vector": np.ones(2), "lyrics": "a"}, {"like": ("a",) * 1001}])
def test_what_does_not_go_together(wrong: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        SongQuery(**wrong)


def test_filters() -> None:
    right: list[dict[str, Any]] = [{"genres": ("x",)}, {"years": (None, 1990)}, {"tags": ("x",)},
                                   {"traits": (("t", None, 2.0),)}, {"without_artists": ("x",)}]
    wrong_ones: list[dict[str, Any]] = [{"years": (1999, 1990)}, {"traits": (("t", 2.0, 1.0),)},
                                        {"traits": (("t", float("nan"), None),)}]
    assert not SongFilters() and all(SongFilters(**one) for one in right)
    for wrong in wrong_ones:
        with pytest.raises(QueryError, match="there is nothing from"):
            SongFilters(**wrong)
    assert SongQuery(filters=SongFilters(genres=("x",))).k == 10, "filters alone are a question"
