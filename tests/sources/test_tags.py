"""Tags of listeners as a vocabulary."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simsong.sources.lastfm.tags import (
    MAX_CHARACTERS,
    MAX_WORDS,
    SAY_NOTHING,
    SPELLINGS,
    clean_tag,
    weights_by_tag,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(("raw", "clean"), [
    ("Rock", "rock"), ("  Female\tVocalists ", "female vocalists"), ("female vocalist", "female vocalists"),
    ("Hip-Hop", "hip hop"), ("hip hop", "hip hop"), ("hiphop", "hip hop"), ("hip_hop", "hip hop"),
    ("R&B", "r&b"), ("rnb", "r&b"), ("R&amp;B", "r&b"), ("R 'n' B", "r&b"), ("#RnB", "r&b"),
    ("Rock & Roll", "rock and roll"), ("rock'n'roll", "rock and roll"), ("Rock n' Roll", "rock and roll"),
    ("drum & bass", "drum and bass"), ("DnB", "drum and bass"), ("Drum'n'Bass", "drum and bass"),
    ("post-punk", "post punk"), ("Singer/Songwriter", "singer/songwriter"), ("lo-fi", "lo fi"),
    ("80s", "80s"), ("80's", "80s"), ("1980s", "80s"), ("1980’s", "80s"), ("'80s", "80s"),
    ("eighties", "80s"), ("2000s", "00s"), ("1969", "1969"), ("2010", "2010"), ("8-bit", "8 bit"),
    ("2 tone", "2 tone"), ("love songs", "love songs"), ("cool jazz", "cool jazz"),
    ("bad religion", "bad religion"), ("my bloody valentine", "my bloody valentine"),
    ("film score", "film score"), ("score", "score"),
    ("Électronique", "électronique"), ("日本語", "日本語"), ("愛", "愛"), ("русский рок", "русский рок"),
    ("one two three four five six", "one two three four five six"), ("a" * 50, "a" * 50), (b"Jazz", "jazz"),
    (b"caf\xe9", "caf\ufffd"),
])
def test_kept(raw: object, clean: str) -> None:
    assert clean_tag(raw) == clean


@pytest.mark.parametrize("raw", [
    "", " ", "\x00", "x", "7", "42", "1234567", "<3", "♥♥♥", "!!!", ":)", "-", "#", None, 3.5, b"\xff",
    "http://www.example.org/x", "www.example.org", "last.fm", "somebody@example.org",
    "a" * 51, "one two three four five six seven", "music to fall asleep to on a rainy day",
    "Seen Live", "saw live", "favourites", "Favorite", "my favorites", "all time favourite songs", "fav",
    "Albums I own", "albums i-own", "songs i love", "i love this", "I've heard", "My Music", "my-songs",
    "Love", "love it", "Awesome", "check out", "to check out", "under 2000 listeners", "spotify",
    "heard on Pandora", "5 stars", "4 star", "five stars", "3.5 stars", "four and a half stars",
    "10/10", "8 of 10", "8 out of 10 stars", "rating: 5", "songs", "untagged",
])
def test_junk(raw: object) -> None:
    assert clean_tag(raw) is None


def test_rules_agree_with_each_other() -> None:
    for right in SPELLINGS.values():
        assert clean_tag(right) == right
    for name, right in SPELLINGS.items():
        assert clean_tag(name) == right
    for name in SAY_NOTHING:
        assert clean_tag(name) is None
        assert name not in SPELLINGS


@given(st.text(max_size=60) | st.text(alphabet="rbn&+'’-_ #80s19", max_size=12))
@example("0 'n&").via("found")
@example("#n' roll").via("found")
def test_clean_is_clean(raw: str) -> None:
    clean = clean_tag(raw)
    if clean is not None:
        assert clean_tag(clean) == clean
        assert 0 < len(clean) <= MAX_CHARACTERS
        assert clean.count(" ") < MAX_WORDS
        assert clean == clean.strip()
        clean.encode()


def test_weights() -> None:
    pairs = [["Rock", "100"], ["rock", "50"], ["hiphop", "10"], ["Hip-Hop", "20"], ["jazz", "0"], ["pop", 33],
             ["seen live", "90"], ["soul", "101"], ["funk", "x"], ["blues"], "no pair", [7, "1"],
             ["dub", True]]
    weights, left_out = weights_by_tag(pairs)
    assert weights == {"rock": 1.0, "hip hop": 0.2, "jazz": 0.0, "pop": 0.33}
    assert left_out == 7


def test_terms_of_professionals_are_no_junk() -> None:
    """The Echo Nest's terms for artists tell of music."""
    path = DATA / "msd" / "text" / "artist_term.csv"
    if not path.is_file():
        pytest.skip("the real data is not on this machine")
    with path.open(encoding="utf-8") as file:
        terms = {row[1] for row in csv.reader(file) if len(row) == 2}
    junk = sorted(term for term in terms if clean_tag(term) is None)
    assert len(terms) > 1000
    assert len(junk) < len(terms) // 100, junk
