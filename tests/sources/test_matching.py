"""Names as catalogues and sites write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsong.matching import core, normalise, presence, query, similarity


@pytest.mark.parametrize(("text", "words"), [
    ("Beyoncé – Halo", "beyonce halo"), ("ＡＢＣ　Ｄ", "abc d"), ("Simon & Garfunkel", "simon and garfunkel"),
    ("Don’t Stop 'Til", "dont stop til"), ("AC/DC", "ac dc"), ("Sigur Rós", "sigur ros"), ("Mø", "mo"),
    ("P!nk", "pink"), ("Ke$ha", "kesha"), ("5$ a day", "5 a day"), ("!!!", "!!!"), ("Straße", "strasse"),
    ("がらくた", "がらくた"), ("Мой Друг", "мой друг"), ("हिन्दी (गाना)", "हिन्दी गाना"),
    ("방탄소년단", "방탄소년단"), ("tab\tand\x00nul", "tab and nul"), ("", ""),
])
def test_normalise(text: str, words: str) -> None:
    assert normalise(text) == words


@given(st.text())
def test_normalise_is_idempotent_and_never_empties_what_was_not(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(text.strip()) or not once.strip()


@pytest.mark.parametrize(("name", "kept"), [
    ("Crazy in Love (feat. JAY-Z)", "Crazy in Love"), ("Song ft. X - Remastered 2009", "Song"),
    ("Song (feat. X) [Album Version]", "Song"), ("A Song featuring B (Remix)", "A Song (Remix)"),
    ("Song (2011 Remaster)", "Song"), ("Song (Digitally Remastered 99)", "Song"), ("X (LP Version)", "X"),
    ("Song (Explicit Album Version)", "Song"), ("Calvin Harris feat. Rihanna", "Calvin Harris"),
    ("(I Can't Get No) Satisfaction (Mono Version)", "(I Can't Get No) Satisfaction"),
    ("Song - Live", "Song - Live"), ("Song (Acoustic Version)", "Song (Acoustic Version)"),
    ("(Explicit)", "(Explicit)"), ("Left of Center", "Left of Center"), ("Soft Defeat", "Soft Defeat"),
])
def test_core_drops_guests_and_editions_alone(name: str, kept: str) -> None:
    assert core(name) == kept


@pytest.mark.parametrize(("a", "b"), [
    ("The Beatles", "Beatles, The"), ("AC/DC", "ACDC"), ("Hello (feat. X)", "HELLO"), ("Beyonce", "Beyoncé"),
    ("Hey Jude - Remastered 2015", "Hey Jude"), ("残酷な天使のテーゼ", "残酷な天使のテーゼ"), ("!!!", "!!!"),
    ("The The", "the the"),
])
def test_similarity_of_the_same_name_is_100(a: str, b: str) -> None:
    assert similarity(a, b) == pytest.approx(100)


@pytest.mark.parametrize(("a", "b"), [
    ("Moments", "Moments of Pleasure"), ("Hello", "Yellow Submarine"), ("The The", "The Who"), ("", "Hello"),
    ("残酷な天使のテーゼ", "千本桜"), ("Queen", "Queens of the Stone Age"), ("Мой друг", "Моя песня"),
])
def test_similarity_of_other_names_is_low(a: str, b: str) -> None:
    assert similarity(a, b) < 70


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert 0 <= similarity(a, b) <= 100 + 1e-9
    assert similarity(a, b) == pytest.approx(similarity(b, a))


def test_presence_counts_words_by_length() -> None:
    assert presence("Adele", "Adele - Hello (Official Video)") == 100
    assert presence("AC/DC", "ACDC Thunderstruck") == 100
    assert presence("Daft Punk", "Punk covers") == pytest.approx(50)       # 4 of 8 letters
    assert presence("Live", "Oliver Twist") == 0
    assert presence("Metallica", "Metalica - One") == 100                  # one letter off
    assert presence("宇多田ヒカル", "【MV】宇多田ヒカル『First Love』") == 100
    assert presence("", "anything") == presence("Adele", "") == 0


def test_query() -> None:
    assert query("Calvin Harris feat. Rihanna", "This Is What You Came For (Album Version)") == (
        "Calvin Harris - This Is What You Came For")
    assert query("", "Hello") == "Hello"
