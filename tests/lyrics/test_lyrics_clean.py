"""Cleaning, junk and language, by cases; properties by hypothesis."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsong.lyrics.clean import clean, is_instrumental, junk_reason, language

SONG = """I left the harbour with the morning tide
A paper lantern burning at my side
The gulls were calling out the names of towns
And every bell was ringing as it drowned

Oh carry me over, carry me home
The sea has a language, the shore has a stone
Carry me over, the night is long
The wind in the rigging is singing our song"""


@pytest.mark.parametrize(("raw", "expected"), [
    # Genius' furniture
    ("12 ContributorsTranslationsEnglishDeutschHarbour LyricsI left the harbour", "I left the harbour"),
    ("1 ContributorHarbour Lyrics\nI left the harbour", "I left the harbour"),
    ("3 Contributors\nI left the harbour", "I left the harbour"),
    ("I have 12 Contributors to thank", "I have 12 Contributors to thank"),
    ("217 ContributorsTranslationsEspañolHarbour Lyrics“Harbour” is a song by Lena. It is about\nthe sea, "
     "and about… Read More\u00a0\n[Verse 1]\nI left the harbour", "I left the harbour"),
    ("2 ContributorsHarbour LyricsI left the harbour\nRead More", "I left the harbour\nRead More"),
    ("one\nYou might also like\ntwo", "one\n\ntwo"),
    ("oneYou might also like[Chorus]\ntwo", "one\ntwo"),
    ("You might also likeTwo", "Two"),
    ("You might also like me", "You might also like me"),
    ("See Lena Live in TownSee Lena LiveGet tickets as low as $50one", "one"),
    ("the last line123Embed", "the last line"),
    ("the last line1.2KEmbedShare URLCopyEmbedCopy", "the last line"),
    ("the last line\nEmbed", "the last line"),
    ("Embed me in amber\nand go", "Embed me in amber\nand go"),
    # headers
    ("[Chorus]\none\n[Verse 2: Lena & Ole]\ntwo", "one\n\ntwo"),
    ("[Refrain] one [Strophe 1]two", "one two"),
    ("Chorus:\none\nVerse 2\ntwo\n(Bridge)\nthree", "one\n\ntwo\n\nthree"),
    ("Break\nthe chorus of the sea", "Break\nthe chorus of the sea"),
    ("one (two) three", "one (two) three"),
    # LRC
    ("[ar:Lena]\n[ti:Harbour]\n[offset:+120]\n[00:12.00]one\n[01:02.5] two", "one\ntwo"),
    ("[00:30.00][00:10.00]chorus\n[00:20.00]verse", "chorus\nverse\nchorus"),
    ("[00:01.00]<00:01.00>one <00:01.50>two", "one two"),
    ("[0:05]one", "one"),
    # HTML
    ("one<br>two<BR/>three", "one\ntwo\nthree"),
    ("<p>one</p><p>two &amp; three</p>", "one\ntwo & three"),
    ("don&#39;t &lt;b&gt;go&lt;/b&gt;", "don't go"),
    ("one<script>alert(1)</script><!-- x --> two", "one two"),
    ("I <3 you and 1 < 2", "I <3 you and 1 < 2"),
    # characters
    ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
    ("\ufeffo\x00n\x07e\u200b t\u00adw\u00a0o", "one tw o"),
    ("lone \ud800surrogate", "lone surrogate"),
    ("cafe\u0301", "café"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("one\n\n\n\n  \n two  three \n", "one\n\ntwo three"),
    ("one • two • three", "one\ntwo\nthree"),
    (SONG, SONG),
    ("", ""),
])
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


PIECES = [*SONG.split(), "\n", "\n\n", "[Chorus]", "[00:01.00]", "<b>", "&amp;", "12 Contributors", "Lyrics",
          "You might also like", "3Embed", "Verse 1", "é", "\u200b", "\x00", "• ", "<"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_cleaning_what_is_clean_changes_nothing(raw: str) -> None:
    assert clean(clean(raw)) == clean(raw)


@given(st.text(max_size=200))
def test_clean_text_can_be_stored(raw: str) -> None:
    cleaned = clean(raw)
    cleaned.encode("utf-8")
    assert cleaned == cleaned.strip()
    assert "\n\n\n" not in cleaned
    assert not any(ord(c) < 32 and c != "\n" for c in cleaned)


@pytest.mark.parametrize("piece", ["<", "[", "&amp;", "amp;", "[00:01]", "See ", "<a ", "<!--", "<script>",
                                   "1Embed", "You might also like", "\n ", "(verse", "1 Contributors", "[ar:",
                                   "\u0301"])
def test_hostile_text_takes_no_long_time(piece: str) -> None:
    raw = "&" + piece * (100_000 // len(piece))
    start = time.process_time()
    clean(raw)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(("raw", "expected"), [
    ("[Instrumental]", True),
    ("(Instrumental)", True),
    ("Instrumental", True),
    ("This song is an instrumental", True),
    ("[Intro]\n\n[Instrumental]\n\n[Outro]", True),
    ("[00:00.00] Instrumental", True),
    ("", False),
    ("[Intro]", False),
    (f"{SONG}\n[Instrumental Break]", False),
    ("My love is instrumental to your pain", False),
])
def test_instrumental(raw: str, expected: bool) -> None:
    assert is_instrumental(raw) is expected


RUSSIAN = ("Я вышел в море рано утром\nи ветер пел о доме мне\nгорели окна перламутром\n"
           "на той далёкой стороне\nи я вернусь когда растает снег")
JAPANESE = "さよならと言えないままで海を見ていた\n夜が明けるまで君の名前を呼んだ\n風が答えるカモメが飛ぶ"
CHINESE = "我在清晨离开港口\n海风轻轻吹过窗前\n远方的灯火还在等候\n我会在雪化的时候回来"
KOREAN = "나는 아침에 항구를 떠났네\n바람은 집을 노래하고\n먼 곳의 불빛은 나를 기다려\n눈이 녹으면 돌아가리라"


@pytest.mark.parametrize(("text", "title", "artist", "expected"), [
    (SONG, "Harbour", "Lena", None),
    (RUSSIAN, "Море", "Лена", None),
    (JAPANESE, "海", "レナ", None),
    (JAPANESE, "Lemon", "Kenshi Yonezu", None),             # a Latin title of a song that is not
    (CHINESE, "海", "", None),
    (KOREAN, "항구", "레나", None),
    (f"{KOREAN}\nGo my way tonight", "항구", "레나", None),
    ("\n".join(["la la la, hey", "one more time now", "we are alive"] * 8), "", "", None),     # songs do
    # junk
    ("", "", "", "too short (0 words)"),
    ("la la la", "", "", "too short (3 words)"),
    ("…", "", "", "too short (0 words)"),
    ("Around the world\n" * 144, "", "", "repeats itself"),
    ("x y z, " * 20_000, "", "", "too long"),
    ("\n".join(f"{i}. {line}" for i, line in enumerate(SONG.split("\n"), 1)), "", "", "a track list"),
    ("\n".join(f"{i:02d} - {line}" for i, line in enumerate(SONG.split("\n"), 1)), "", "", "a track list"),
    ("\n".join(f"{line} ({i}:0{i})" for i, line in enumerate(SONG.split("\n"), 1)), "", "", "a track list"),
    ("\n".join(f"{line} 3:4{i}" for i, line in enumerate(SONG.split("\n"))), "", "", "a track list"),
    ("Lyrics for this song have yet to be released. Please check back once it has been released.", "", "",
     "a notice"),
    ("Sorry, we do not have the lyrics of this song, come back another day to see", "", "", "a notice"),
    ("Error 429: Too Many Requests. Please slow down and try again in some minutes", "", "", "a notice"),
    ("{'a': 1, 'b': [1, 2, 3], 'c': {'d': 0.5, 'e': 0.25}} [] () // == 12 34 56 " * 3 + SONG[:60], "", "",
     "too few letters"),
    ("See https://example.org/a and https://example.org/b for the words of this song and many others", "", "",
     "a page of links"),
    (SONG, "Море", "Лена", "wrong script (latin words for a title in cyrillic)"),
    (RUSSIAN, "海辺のうた", "レナ", "wrong script (cyrillic words for a title in cjk)"),
])
def test_junk(text: str, title: str, artist: str, expected: str | None) -> None:
    reason = junk_reason(clean(text), title, artist)
    assert reason == expected if expected is None else (reason or "").startswith(expected)


def test_noise_is_junk() -> None:
    noise = random.Random(0).randbytes(4000).decode("latin-1")
    assert junk_reason(clean(noise)) is not None


@pytest.mark.parametrize(("text", "expected"), [
    (SONG, "en"), (SONG.upper(), "en"), (RUSSIAN, "ru"), (JAPANESE, "ja"), (CHINESE, "zh"), (KOREAN, "ko"),
    ("J'ai quitté le port avec la marée du matin\nune lanterne de papier brûlait dans ma main", "fr"),
    ("Ich verließ den Hafen mit der Flut am Morgen\nund die Möwen riefen alle meine Sorgen", "de"),
    ("Dejé el puerto con la marea de la mañana\ny las gaviotas gritaban en mi ventana", "es"),
    ("la la la", None), ("", None),
])
def test_language(text: str, expected: str | None) -> None:
    assert language(text) == expected
