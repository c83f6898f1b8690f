"""What is LRCLIB's alone: one request where the length is known, many records of one song, lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from simsong.config import NetworkSettings
from simsong.errors import FetchError, LyricsNotFound
from simsong.lyrics.lrclib import Lrclib, match_score
from simsong.records import Wanted
from tests import lyrics_site
from tests.lyrics.test_lyrics_providers import FRENCH, HARBOUR, TEXT, WANTED
from tests.lyrics_site import Known, LyricsSite, record, status


@pytest.fixture
def site() -> Iterator[LyricsSite]:
    with lyrics_site.serve() as site:
        site.known = [HARBOUR]
        yield site


def lrclib(site: LyricsSite, **network: Any) -> Lrclib:
    return Lrclib(site.root + "/", NetworkSettings.model_validate({"retries": 0, **network}), 70.0)


def test_the_very_recording_takes_one_request(site: LyricsSite) -> None:
    lyrics = lrclib(site).lyrics(Wanted("T", "Lena Orsa", "Harbour (Remastered 2011)", 200.6))
    assert lyrics.url == f"{site.root}/api/get/0"
    assert [(request.path, request.query) for request in site.asked] == [
        ("/api/get", {"track_name": "Harbour", "artist_name": "Lena Orsa", "duration": "201"})]


def test_it_is_searched_for_where_the_length_is_another_or_unknown(site: LyricsSite) -> None:
    assert lrclib(site).lyrics(Wanted("T", "Lena Orsa", "Harbour", 190.0)).text == TEXT
    assert [request.path for request in site.asked] == ["/api/get", "/api/search"]
    assert site.asked[1].query == {"track_name": "Harbour", "artist_name": "Lena Orsa"}
    site.asked.clear()
    assert lrclib(site).lyrics(Wanted("T", "Lena Orsa", "Harbour")).text == TEXT
    assert [request.path for request in site.asked] == ["/api/search"]


def test_it_says_who_it_is(site: LyricsSite) -> None:
    lrclib(site).lyrics(WANTED)
    assert site.asked[0].agent.startswith("SimSong/")


def test_of_many_records_the_one_of_that_length_counts(site: LyricsSite) -> None:
    site.known = [Known("Lena Orsa", "Harbour", FRENCH, 260.0), Known("Lena Orsa", "Harbour", TEXT, 205.0)]
    assert lrclib(site).lyrics(WANTED).text == TEXT


def test_of_equal_records_the_first_with_words_that_are_no_junk_counts(site: LyricsSite) -> None:
    site.known = [Known("Lena Orsa", "Harbour", None), Known("Lena Orsa", "Harbour", "la la la"),
                  Known("Lena Orsa", "Harbour", TEXT), Known("Lena Orsa", "Harbour", FRENCH)]
    assert lrclib(site).lyrics(Wanted("T", "Lena Orsa", "Harbour")).text == TEXT


def test_synced_words_will_do() -> None:
    with lyrics_site.serve() as site:
        stamped = "\n".join(f"[00:{n:02d}.00] {line}" for n, line in enumerate(TEXT.split("\n"), 10))
        answer = {**record(0, HARBOUR), "plainLyrics": None, "syncedLyrics": stamped}
        site.always = status(200, json.dumps(answer))
        assert lrclib(site).lyrics(WANTED).text == TEXT


@pytest.mark.parametrize(("length_s", "score"), [
    (200.0, 100), (205.0, 100), (195.0, 100), (215.0, 90), (300.0, 70), (3600.0, 70), (None, 100), (0, 100),
    ("x", 100), (float("nan"), 100),
])
def test_match_score_falls_with_the_difference_in_length(length_s: Any, score: float) -> None:
    assert match_score(WANTED, {**record(0, HARBOUR), "duration": length_s}) == score
    assert match_score(Wanted("T", "Lena Orsa", "Harbour"), record(0, HARBOUR)) == 100
    assert match_score(Wanted("T", "Ole Lund", "Harbour", 200.0), record(0, HARBOUR)) < 70


def test_a_get_that_fails_is_not_taken_for_a_song_that_is_not_there(site: LyricsSite) -> None:
    site.faults = [status(500)]
    with pytest.raises(FetchError) as caught:
        lrclib(site).lyrics(WANTED)
    assert caught.value.reason == "server_error"
    site.known = []
    with pytest.raises(LyricsNotFound):
        lrclib(site).lyrics(WANTED)
