"""The Genius client against a server on loopback: the right song, and a type for every fault of HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from simsong.config import NetworkSettings
from simsong.errors import ConfigError, FetchError, LyricsJunk, LyricsNotFound, SimSongError
from simsong.lyrics.clean import Lyrics
from simsong.lyrics.genius import GeniusLyrics, match_score
from simsong.records import Wanted

TOKEN = "tok-5f2c9e"
WANTED = Wanted("T1", "Lena Orsa", "Harbour")
LINES = ["I left the harbour with the morning tide", "A paper lantern burning at my side",
         "The gulls were calling out the names of towns", "And every bell was ringing as it drowned"]
PAGE = ('<html><head><title>Lena Orsa – Harbour Lyrics</title></head><body>'
        '<div class="LyricsHeader__Container">12 Contributors Harbour Lyrics</div>'
        f'<div data-lyrics-container="true">[Verse 1]<br>{LINES[0]}<br/>{LINES[1]}</div>'
        '<div data-exclude-from-selection="true">You might also like</div>'
        f'<div data-lyrics-container="true"><a href="/1"><span>{LINES[2]}</span></a><br>{LINES[3]} ♥</div>'
        '</body></html>')
TEXT = "\n".join(LINES) + " ♥"


def hit(title: str, artist: str, path: str = "/Lena-orsa-harbour-lyrics", **more: Any) -> dict[str, Any]:
    return {"index": "song", "type": "song", "result": {
        "title": title, "title_with_featured": title, "artist_names": artist, "instrumental": False,
        "primary_artist": {"name": artist}, "path": path, "url": "https://genius.com" + path,
        "lyrics_state": "complete", **more}}


def state_page(html: str) -> str:
    state = json.dumps({"songPage": {"lyricsData": {"body": {"html": html}}}})
    return "<script>window.__PRELOADED_STATE__ = JSON.parse('" + state.replace("\\", "\\\\") + "');</script>"


class Site:
    """A Genius under /genius: what it answers is data, what it was asked is kept."""

    def __init__(self) -> None:
        self.hits: Any = [hit("Harbour", "Lena Orsa")]
        self.pages: dict[str, str] = {"/Lena-orsa-harbour-lyrics": PAGE}
        self.faults: dict[str, list[Any]] = {"api": [], "page": []}     # answers that come first, in turn
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}/genius"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        self.asked.append((request.path, request.headers.get("Authorization")))
        kind = "api" if url.path == "/genius/search" else "page"
        if self.faults[kind]:
            fault = self.faults[kind].pop(0)
            fault(request) if callable(fault) else send(request, *fault)
        elif kind == "api":
            assert parse_qs(url.query)["q"], request.path
            send(request, 200, json.dumps({"meta": {"status": 200}, "response": {"hits": self.hits}}))
        else:
            page = self.pages.get(url.path.removeprefix("/genius"))
            send(request, 200 if page else 404, page or "gone", kind="text/html")


def send(request: BaseHTTPRequestHandler, status: int, text: str = "", kind: str = "application/json",
         length: int | None = None, **headers: str) -> None:
    body = text.encode()
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def genius(site: Site, **network: Any) -> GeniusLyrics:
    return GeniusLyrics(TOKEN, site.root, calmly(**network), 70.0)


def calmly(**network: Any) -> NetworkSettings:
    return NetworkSettings.model_validate({"retries": 0, "timeout_s": 2.0, **network})


def test_words_of_the_song(site: Site) -> None:
    url = site.root + "/Lena-orsa-harbour-lyrics"
    assert genius(site).lyrics(WANTED) == Lyrics("text", TEXT, url, 100.0, "en")


def test_the_token_goes_to_the_api_alone(site: Site) -> None:
    genius(site).lyrics(WANTED)
    assert [authorization for _, authorization in site.asked] == [f"Bearer {TOKEN}", None]


@pytest.mark.parametrize(("title", "artist", "taken"), [
    ("Harbour", "Lena Orsa", True),
    ("HARBOUR (Remastered 2011)", "lena orsa", True),
    ("Harbour (feat. Ole)", "Lena Orsa", True),
    ("Harbour", "Ole Lund", False),             # the same title by another artist
    ("Winter", "Lena Orsa", False),             # the same artist, another title
    ("Harbour (Tracklist)", "Lena Orsa", False),
    ("Lena Orsa - Harbour (Deutsche Übersetzung)", "Genius Deutsche Übersetzungen", False),
])
def test_only_the_song_that_was_asked_for_is_taken(site: Site, title: str, artist: str, taken: bool) -> None:
    site.hits = [hit(title, artist)]
    if taken:
        assert genius(site).lyrics(WANTED).kind == "text"
    else:
        with pytest.raises(LyricsNotFound) as caught:
            genius(site).lyrics(WANTED)
        assert caught.value.subject == "Lena Orsa - Harbour"
        assert len(site.asked) == 1             # its page was not even read


def test_the_best_hit_wins_wherever_it_stands(site: Site) -> None:
    site.pages = {"/right": PAGE}
    site.hits = [hit("Harbour", "Ole Lund", "/wrong"), hit("Harbor", "Lena Orsa", "/near"),
                 hit("Harbour", "Lena Orsa", "/right"), hit("Harbour", "Lena Orsa", "/twin")]
    assert (genius(site).lyrics(WANTED).url or "").endswith("/right")


def test_match_score_is_the_weaker_of_title_and_artist() -> None:
    song = hit("Harbour", "Lena Orsa")["result"]
    assert match_score(WANTED, song) == 100
    assert match_score(Wanted("", "Lena Orsa", "Winter"), song) < 40
    assert match_score(Wanted("", "Lena Orsa & Ole Lund", "Harbour"), song) < 70
    assert match_score(Wanted("", "Lena Orsa & Ole Lund", "Harbour"),
                       {**song, "artist_names": "Lena Orsa & Ole Lund"}) == 100
    assert match_score(Wanted("", "Metallica", "Harbour"), song) < 40


def test_a_word_that_the_title_has_itself_is_no_reason_to_refuse(site: Site) -> None:
    site.hits = [hit("Interview", "Lena Orsa")]
    assert genius(site).lyrics(Wanted("T", "Lena Orsa", "Interview")).kind == "text"


def test_no_hits(site: Site) -> None:
    site.hits = []
    with pytest.raises(LyricsNotFound, match="does not know it"):
        genius(site).lyrics(WANTED)


@pytest.mark.parametrize("page", [
    '<div data-lyrics-container="true">[Instrumental]</div>',
    '<div class="LyricsPlaceholder__Message-x">This song is an instrumental</div>',
    state_page("<p>[Instrumental]</p>"),
    None,
])
def test_an_instrumental_is_a_result(site: Site, page: str | None) -> None:
    site.hits = [hit("Harbour", "Lena Orsa", instrumental=page is None)]
    site.pages = {"/Lena-orsa-harbour-lyrics": page} if page else {}
    url = site.root + "/Lena-orsa-harbour-lyrics"
    assert genius(site).lyrics(WANTED) == Lyrics("instrumental", None, url, 100.0, None)


def test_lyrics_in_the_state_of_a_page(site: Site) -> None:
    site.pages = {"/Lena-orsa-harbour-lyrics": state_page("<p>" + "<br>\n".join(LINES) + "</p>")}
    assert genius(site).lyrics(WANTED).text == "\n".join(LINES)


@pytest.mark.parametrize("page", [
    '<div class="LyricsPlaceholder__Message">Lyrics for this song have yet to be transcribed.</div>',
    '<div data-lyrics-container="true"></div>',
    '<div data-lyrics-container="true">[Intro]<br>[Verse 1]</div>',
    None,                                       # 404
])
def test_a_song_page_without_words(site: Site, page: str | None) -> None:
    site.pages = {"/Lena-orsa-harbour-lyrics": page} if page else {}
    with pytest.raises(LyricsNotFound) as caught:
        genius(site).lyrics(WANTED)
    assert caught.value.subject == "Lena Orsa - Harbour"


def test_unreleased_lyrics_are_not_fetched(site: Site) -> None:
    site.hits = [hit("Harbour", "Lena Orsa", lyrics_state="unreleased")]
    with pytest.raises(LyricsNotFound):
        genius(site).lyrics(WANTED)
    assert len(site.asked) == 1


def test_a_track_list_is_junk(site: Site) -> None:
    tracks = "<br>".join(f"{n}. {line}" for n, line in enumerate(LINES, 1))
    site.pages = {"/Lena-orsa-harbour-lyrics": f'<div data-lyrics-container="true">{tracks}</div>'}
    with pytest.raises(LyricsJunk, match="a track list"):
        genius(site).lyrics(WANTED)


CAPTCHA = "<html><title>Just a moment...</title>Make sure you are a human</html>"


def hang(request: BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def cut_chunk(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf of it")
    request.close_connection = True


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    try:
        for _ in range(30):
            request.wfile.write(b" ")
            time.sleep(0.05)
    except OSError:
        pass


def circle(request: BaseHTTPRequestHandler) -> None:
    send(request, 302, Location=request.path)


FAULTS = [
    ((403, CAPTCHA), "blocked", True), ((429, "slow down"), "rate_limited", True),
    ((429, PAGE, "text/html"), "rate_limited", True), ((200, CAPTCHA, "text/html"), None, None),
    ((500, "oops"), "server_error", False), ((503, PAGE), "server_error", False),
    ((408,), "timeout", False), ((200, PAGE[:300], "text/html", len(PAGE.encode())), "truncated", False),
    (cut_chunk, "truncated", False), (hang, "timeout", False), (drip, "timeout", False),
    (hang_up, "connection", False), (circle, "server_error", False),
    ((200, "<html>about us</html>", "text/html"), "server_error", False),
    ((200, '"words"'), "server_error", False), ((200, "x", "text/html"), "server_error", False),
]


@pytest.mark.parametrize("kind", ["api", "page"])
@pytest.mark.parametrize(("fault", "reason", "stop"), FAULTS)
def test_every_fault_has_its_type(site: Site, kind: str, fault: Any, reason: str | None,
                                  stop: bool | None) -> None:
    if reason is None:                          # a bot check with status 200 is known as such among pages
        reason, stop = ("blocked", True) if kind == "page" else ("server_error", False)
    site.faults[kind] = [fault] * 40            # a circle asks again and again
    patience = {"timeout_s": 0.3, "song_timeout_s": 0.5} if fault in (hang, drip) else {"timeout_s": 10}
    with pytest.raises(FetchError) as caught:
        genius(site, **patience).lyrics(WANTED)
    assert (caught.value.reason, caught.value.stop) == (reason, stop)
    assert caught.value.subject == "Lena Orsa - Harbour"
    assert caught.value.__suppress_context__ and TOKEN not in repr(caught.value)


@pytest.mark.parametrize("hits", [None, {}, "x", [1], [{"type": "song"}], [{"type": "song", "result": {}}]])
def test_an_answer_in_an_unknown_form(site: Site, hits: Any) -> None:
    site.hits = hits
    with pytest.raises((FetchError, LyricsNotFound)) as caught:
        genius(site).lyrics(WANTED)
    assert hits == {} or isinstance(caught.value, FetchError)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = GeniusLyrics(TOKEN, f"http://127.0.0.1:{port}/genius", calmly(), 70.0)
    with pytest.raises(FetchError, match=r"no connection to Genius \(ConnectionRefusedError\)") as caught:
        client.lyrics(WANTED)
    assert caught.value.reason == "connection"


def test_a_fault_that_passes_is_got_over(site: Site) -> None:
    site.faults = {"api": [(503, "busy")], "page": [hang_up]}
    assert genius(site, retries=1).lyrics(WANTED).kind == "text"
    assert len(site.asked) == 4


def test_being_told_to_slow_down_is_not_answered_by_asking_again(site: Site) -> None:
    site.faults["api"] = [(429, "", "text/html", 0)] * 5
    with pytest.raises(FetchError):
        genius(site, retries=3).lyrics(WANTED)
    assert len(site.asked) == 1


def test_a_refused_token_is_a_matter_of_configuration(site: Site) -> None:
    site.faults["api"] = [(401, '{"error": "invalid_token"}')]
    with pytest.raises(ConfigError, match="GENIUS_ACCESS_TOKEN") as caught:
        genius(site).lyrics(WANTED)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "smörgås", "nul\0"])
def test_what_cannot_be_a_token_is_not_quoted(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GeniusLyrics(token, None, calmly(), 70.0)
    assert not token.strip() or token not in str(caught.value)


def test_white_space_around_a_token_is_forgiven(site: Site) -> None:
    GeniusLyrics(f" {TOKEN}\n", site.root + "/", calmly(), 70.0).lyrics(WANTED)
    assert site.asked[0][1] == f"Bearer {TOKEN}"


def test_pages_may_move(site: Site) -> None:
    site.faults["page"] = [lambda request: send(request, 301, Location="/genius/moved")]
    site.pages = {"/moved": PAGE}
    assert genius(site).lyrics(WANTED).kind == "text"


def test_many_threads_share_one_client(site: Site) -> None:
    client, results = genius(site), []

    def ask() -> None:
        try:
            results.append(client.lyrics(WANTED).text)
        except SimSongError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [results[0]] * 16 and LINES[0] in results[0]
