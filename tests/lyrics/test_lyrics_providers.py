"""What every provider of lyrics must do, whichever site it asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from simsong.config import NetworkSettings
from simsong.errors import FetchError, LyricsJunk, LyricsNotFound
from simsong.fetching import Held, Site, fetch_all
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.genius import GeniusLyrics
from simsong.lyrics.lrclib import Lrclib
from simsong.lyrics.provider import LyricsProvider
from simsong.records import Wanted
from tests import lyrics_site
from tests.lyrics_site import Fault, Known, LyricsSite, status

TOKEN = "tok-5f2c9e"
TEXT = """I left the harbour with the morning tide
A paper lantern burning at my side
The gulls were calling out the names of towns
And every bell was ringing as it drowned"""
FRENCH = """Je suis parti du port avec la marée du matin
Une lanterne de papier brûlait entre mes mains
Les mouettes criaient le nom de toutes les villes
Et chaque cloche sonnait pendant que nous partions"""
WANTED = Wanted("T1", "Lena Orsa", "Harbour", 200.0)
HARBOUR = Known("Lena Orsa", "Harbour", TEXT)

MAKERS: dict[str, Callable[[str, NetworkSettings], LyricsProvider]] = {
    "genius": lambda root, network: GeniusLyrics(TOKEN, f"{root}/genius", network, 70.0),
    "lrclib": lambda root, network: Lrclib(root, network, 70.0),
}
Make = Callable[..., LyricsProvider]


@pytest.fixture
def site() -> Iterator[LyricsSite]:
    with lyrics_site.serve() as site:
        site.known = [HARBOUR]
        yield site


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, site: LyricsSite) -> Make:
    def made(**network: Any) -> LyricsProvider:
        settings = {"retries": 0, "timeout_s": 2.0, "pause_s": 0.1, **network}
        return MAKERS[request.param](site.root, NetworkSettings.model_validate(settings))
    return made


# ---- songs ----

def test_words_of_the_song(make: Make, site: LyricsSite) -> None:
    lyrics = make().lyrics(WANTED)
    assert (lyrics.kind, lyrics.text, lyrics.match_score, lyrics.language) == ("text", TEXT, 100.0, "en")
    assert (lyrics.url or "").startswith(site.root)


@pytest.mark.parametrize(("raw", "text", "language"), [
    (f"[Verse 1]\n{TEXT}\n\n[Chorus]", TEXT, "en"),
    ("\n".join(f"[00:{n:02d}.00]{line}" for n, line in enumerate(TEXT.split("\n"), 10)), TEXT, "en"),
    (FRENCH, FRENCH, "fr"),
    (TEXT.replace("\n", "\r\n") + "  ", TEXT, "en"),
])
def test_words_are_cleaned_and_their_language_told(make: Make, site: LyricsSite, raw: str, text: str,
                                                   language: str) -> None:
    site.known = [Known("Lena Orsa", "Harbour", raw)]
    lyrics = make().lyrics(WANTED)
    assert (lyrics.text, lyrics.language) == (text, language)


def test_an_instrumental_is_a_result(make: Make, site: LyricsSite) -> None:
    for text in (None, "[Instrumental]"):
        site.known = [Known("Lena Orsa", "Harbour", text)]
        lyrics = make().lyrics(WANTED)
        assert lyrics == Lyrics("instrumental", None, lyrics.url, 100.0, None)


@pytest.mark.parametrize(("artist", "title", "taken"), [
    ("lena orsa", "HARBOUR (Remastered 2011)", True),
    ("Lena Orsa", "Harbour (feat. Ole)", True),
    ("Ole Lund", "Harbour", False),             # the same title by another artist
    ("Lena Orsa", "Winter", False),             # the same artist, another title
    ("Lena Orsa", "Harbour (Live in Bergen)", False),
])
def test_only_the_song_that_was_asked_for_is_taken(make: Make, site: LyricsSite, artist: str, title: str,
                                                   taken: bool) -> None:
    site.known = [Known(artist, title, TEXT)]
    if taken:
        assert make().lyrics(WANTED).text == TEXT
        return
    with pytest.raises(LyricsNotFound) as caught:
        make().lyrics(WANTED)
    assert caught.value.subject == "Lena Orsa - Harbour"
    assert f"{artist} - {title}" in caught.value.detail         # the nearest, for whoever wonders


def test_the_best_wins_wherever_it_stands(make: Make, site: LyricsSite) -> None:
    site.known = [Known("Ole Lund", "Harbour", FRENCH), Known("Lena Orsa", "Harbor", FRENCH), HARBOUR]
    assert make().lyrics(WANTED).text == TEXT


def test_a_song_that_nobody_knows(make: Make, site: LyricsSite) -> None:
    site.known = []
    with pytest.raises(LyricsNotFound, match="does not know it"):
        make().lyrics(WANTED)


def test_a_song_without_words(make: Make, site: LyricsSite) -> None:
    for text in ("", "[Intro]\n[Verse 1]"):
        site.known = [Known("Lena Orsa", "Harbour", text)]
        with pytest.raises(LyricsNotFound) as caught:
            make().lyrics(WANTED)
        assert caught.value.subject == "Lena Orsa - Harbour"


@pytest.mark.parametrize(("junk", "why"), [
    ("\n".join(f"{n}. {line}" for n, line in enumerate(TEXT.split("\n"), 1)), "a track list"),
    ("Around the world\n" * 144, "repeats itself"),
    ("la la la", "too short"),
    ("Lyrics for this song have yet to be released. Please check back once it has been.", "a notice"),
])
def test_what_is_no_lyrics_is_junk(make: Make, site: LyricsSite, junk: str, why: str) -> None:
    site.known = [Known("Lena Orsa", "Harbour", junk)]
    with pytest.raises(LyricsJunk, match=why) as caught:
        make().lyrics(WANTED)
    assert caught.value.subject == "Lena Orsa - Harbour"


def test_words_in_another_script_than_the_title_are_junk(make: Make, site: LyricsSite) -> None:
    site.known = [Known("Лена", "Море", TEXT)]
    with pytest.raises(LyricsJunk, match="wrong script"):
        make().lyrics(Wanted("T", "Лена", "Море"))


def test_signs_in_names_arrive_whole(make: Make, site: LyricsSite) -> None:
    site.known = [Known("AC/DC & Söhne", "What? #1 100%", TEXT)]
    assert make().lyrics(Wanted("T", "AC/DC & Söhne", "What? #1 100%")).text == TEXT


# ---- faults ----

FAULTS: list[tuple[Fault, str, bool]] = [
    (status(403, "<title>Just a moment...</title>", "text/html"), "blocked", True),
    (status(429, "slow down"), "rate_limited", True), (status(500), "server_error", False),
    (status(503), "server_error", False), (status(408), "timeout", False),
    (status(200, "<html>about us</html>", "text/html"), "server_error", False),
    (status(200, '"words"'), "server_error", False), (status(200, '{"a": [1'), "server_error", False),
    (status(200, "[1, 2]"), "server_error", False), (status(400), "server_error", False),
    (lyrics_site.cut, "truncated", False), (lyrics_site.hang, "timeout", False),
    (lyrics_site.drip, "timeout", False), (lyrics_site.drip_headers, "timeout", False),
    (lyrics_site.hang_up, "connection", False), (lyrics_site.circle, "server_error", False),
]


@pytest.mark.parametrize(("fault", "reason", "stop"), FAULTS)
def test_every_fault_has_its_type(make: Make, site: LyricsSite, fault: Fault, reason: str,
                                  stop: bool) -> None:
    site.always = fault
    start = time.monotonic()
    with pytest.raises(FetchError) as caught:
        make(timeout_s=0.4, song_timeout_s=0.8).lyrics(WANTED)
    assert (caught.value.reason, caught.value.stop) == (reason, stop)
    assert caught.value.subject == "Lena Orsa - Harbour"
    assert caught.value.__suppress_context__ and TOKEN not in repr(caught.value)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("fault", [status(503), lyrics_site.hang_up, lyrics_site.cut])
def test_a_fault_that_passes_is_got_over(make: Make, site: LyricsSite, fault: Fault) -> None:
    site.faults = [fault]
    assert make(retries=1).lyrics(WANTED).text == TEXT


def test_being_told_to_slow_down_is_not_answered_by_asking_again(make: Make, site: LyricsSite) -> None:
    site.always = status(429)
    with pytest.raises(FetchError):
        make(retries=3).lyrics(WANTED)
    assert len(site.asked) == 1


# ---- politeness ----

def test_a_wish_to_be_left_alone_is_obeyed(make: Make, site: LyricsSite) -> None:
    provider = make(retries=1)
    site.faults = [status(429, Retry_After="1")]
    out = list(fetch_all([WANTED] * 3, provider.lyrics, provider.site, "lyrics"))
    assert [getattr(result, "text", result) for _, result in out] == [TEXT] * 3
    assert max(b.at - a.at for a, b in pairwise(site.asked)) > 0.8


def test_a_site_that_refuses_all_is_left_alone(make: Make, site: LyricsSite) -> None:
    provider = make(give_up_s=0, workers=2)
    site.always = status(429)
    out = list(fetch_all([WANTED] * 50, provider.lyrics, provider.site, "lyrics"))
    assert {getattr(result, "reason", None) for _, result in out} == {"rate_limited"}
    assert len(site.asked) <= 2
    with pytest.raises(Held):
        provider.lyrics(WANTED)


def test_every_request_keeps_the_pace(make: Make, site: LyricsSite) -> None:
    provider = make(requests_per_minute=600)
    for _ in range(4):
        provider.lyrics(WANTED)
    times = [request.at for request in site.asked]
    assert times[-1] - times[0] > 0.07 * (len(times) - 1)       # 0.1 s apart, more or less


def test_many_threads_share_one(make: Make, site: LyricsSite) -> None:
    provider, results = make(), list[str | None]()
    threads = [threading.Thread(target=lambda: results.append(provider.lyrics(WANTED).text))
               for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [TEXT] * 16


def test_it_has_a_site_of_its_own_name(make: Make) -> None:
    provider = make()
    assert isinstance(provider.site, Site)
    assert provider.site.name in ("Genius", "LRCLIB")
