"""Downloading recordings: the real yt-dlp against a server on loopback."""

from __future__ import annotations

import errno
import http.server
import io
import os
import pickle
import struct
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError

from simsong.audio.choose import Candidate, CandidateVerdict, score
from simsong.audio.fetch import AudioFetcher, candidate_of, classify, one_line
from simsong.config import FetchSettings, NetworkSettings
from simsong.errors import REASONS, ConfigError, FetchError, FileMissing
from simsong.fetching import Held, Postponed, fetch_all
from simsong.records import Wanted
from tasks.portable import portable

HELLO = Wanted("t", "Adele", "Hello", 295.0)


def tone(seconds: float = 1.0) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<h", 1000) * int(8000 * seconds))
    return out.getvalue()


WAV = tone()


class Site(http.server.ThreadingHTTPServer):
    """Pages with one <audio>, a search as RSS, and faults by path; `asked` lists the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.results: list[tuple[str, str, str | None]] = []    # title, path, itunes:duration
        self.faults = 0                                         # so many requests for /heals fail
        self.over = threading.Event()
        self.page = b""

    def count(self, path: str) -> int:
        return sum(request.startswith(path) for request in self.asked)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site                        # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, kind: str = "text/html", promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        _, kind, *rest = urlsplit(self.path).path.split("/")
        if kind == "search":
            self.answer(200, self.rss().encode(), "application/rss+xml")
        elif kind == "page":                                    # /page/<where the audio is>
            source = "/" + "/".join(rest)
            self.answer(200, f'<title>A page</title><audio src="{source}"></audio>'.encode())
        elif kind == "song":
            self.answer(200, WAV, "audio/wav")
        elif kind == "status":                                  # /status/<code>/<words>
            self.answer(int(rest[0]), f"<p>{unquote(' '.join(rest[1:]))}</p>".encode())
        elif kind == "heals":
            self.server.faults -= 1
            if self.server.faults >= 0:
                self.answer(500, b"")
            else:
                self.answer(200, WAV, "audio/wav")
        elif kind == "cut":
            self.answer(200, WAV[:9000], "audio/wav", promised=len(WAV))
        elif kind == "resumes" and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(WAV) - 1}/{len(WAV)}")
            self.send_header("Content-Length", str(len(WAV) - start))
            self.end_headers()
            self.wfile.write(WAV[start:])
        elif kind == "resumes":
            self.answer(200, WAV[:9000], "audio/wav", promised=len(WAV))
        elif kind == "hang":
            self.server.over.wait(20)
        elif kind == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            self.send_header("Content-Length", str(len(WAV)))
            self.end_headers()
            for start in range(0, len(WAV), 1024):
                if self.server.over.wait(1):
                    return
                self.wfile.write(WAV[start: start + 1024])
        elif kind == "instead":
            self.answer(200, self.server.page, "audio/wav")
        elif kind == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "reset":
            self.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))      # SO_LINGER 0: close sends a reset
            self.connection.close()
        else:
            self.answer(404, b"no such page")

    def rss(self) -> str:
        items = "".join(
            f"<item><title>{title}</title><link>{self.server.root}{path}</link>"
            + (f"<itunes:duration>{duration}</itunes:duration>" if duration else "") + "</item>"
            for title, path, duration in self.server.results)
        return ('<?xml version="1.0"?>'
                '<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">'
                f"<channel><title>results</title>{items}</channel></rss>")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    site.over.set()
    site.shutdown()
    site.server_close()


def fetcher(site: Site, folder: Path, fetch: dict[str, Any] | None = None, **network: Any) -> AudioFetcher:
    settings = {"search": f"{site.root}/search?q={{query}}", **(fetch or {})}
    return AudioFetcher(FetchSettings(**settings),
                        NetworkSettings(**{"retries": 0, "timeout_s": 5, **network}), folder)


def failure(site: Site, folder: Path, path: str, **network: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetcher(site, folder, **network).fetch(Wanted("t", "Adele", "Hello", url=site.root + path))
    assert list(folder.iterdir()) == []                     # nothing is left behind
    assert caught.value.reason in REASONS
    return caught.value


def test_a_known_url_is_downloaded_whole_under_a_name_of_its_own(site: Site, tmp_path: Path) -> None:
    ours = fetcher(site, tmp_path)
    page = ours.fetch(Wanted("t", "Adele", "Hello", url=f"{site.root}/page/song/1.wav"))
    direct = ours.fetch(Wanted("t", "Adele", "Hello", url=f"{site.root}/song/1.wav"))
    assert page.path.read_bytes() == direct.path.read_bytes() == WAV
    assert page.path != direct.path and page.path.parent == direct.path.parent == tmp_path
    assert page.path.suffix == ".wav"
    assert (page.url, page.match_score) == (f"{site.root}/page/song/1.wav", None)
    assert site.count("/search") == 0


def test_a_file_url_is_the_file_itself(site: Site, tmp_path: Path) -> None:
    song = tmp_path / "a song #1 100%.wav"
    song.write_bytes(WAV)
    wanted = Wanted("t", "Adele", "Hello", url=song.as_uri())
    got = fetcher(site, tmp_path).fetch(wanted)
    assert (got.path, got.url, got.match_score) == (song, song.as_uri(), None)
    song.unlink()
    with pytest.raises(FileMissing, match="is not there"):
        fetcher(site, tmp_path).fetch(wanted)
    assert site.asked == []


def test_the_best_of_a_search_is_downloaded_and_no_other(site: Site, tmp_path: Path) -> None:
    site.results = [("Adele - Hello (Karaoke Version)", "/page/song/karaoke.wav", "4:55"),
                    ("Adele - Hello [1 hour]", "/page/song/loop.wav", "1:00:00"),
                    ("Adele - Hello", "/page/song/right.wav", "4:55"),
                    ("Adele - Hello (Live)", "/page/song/live.wav", "4:55")]
    got = fetcher(site, tmp_path).fetch(HELLO)
    assert got.url == f"{site.root}/page/song/right.wav"
    assert got.title == "Adele - Hello"
    # 58 + 24 + no channel, no views; third in the site's own order
    assert got.match_score == pytest.approx(58 + 24 + 7 + 2 - 0.2)
    assert got.path.read_bytes() == WAV
    assert parse_qs(urlsplit(site.asked[0]).query) == {"q": ["Adele - Hello"]}
    assert site.count("/page") == 1


def test_a_title_with_signs_arrives_whole_at_the_search(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError):
        fetcher(site, tmp_path).fetch(Wanted("t", "AC/DC & {results}", "What? #1 100%"))
    assert parse_qs(urlsplit(site.asked[0]).query) == {"q": ["AC/DC & {results} - What? #1 100%"]}


def test_the_second_best_is_taken_where_the_best_may_not_be_had(site: Site, tmp_path: Path) -> None:
    site.results = [("Adele - Hello", "/status/403/this+is+private", "4:55"),
                    ("Adele - Hello", "/song/2.wav", "4:56"), ("Adele - Hello", "/song/3.wav", "4:57")]
    assert fetcher(site, tmp_path).fetch(HELLO).url == f"{site.root}/song/2.wav"
    site.results[1] = ("Adele - Hello", "/status/404", "4:56")
    with pytest.raises(FetchError) as caught:
        fetcher(site, tmp_path).fetch(HELLO)
    assert caught.value.reason == "private"                     # of the best; the third is not asked for
    assert site.count("/song/3") == 0


def test_no_match_keeps_the_best_candidates_and_what_speaks_against_them(site: Site, tmp_path: Path) -> None:
    site.results = [("Adele - Hello (Karaoke Version)", "/song/1.wav", "4:55"),
                    ("Lionel Richie - Hello", "/song/2.wav", "4:11")]
    with pytest.raises(FetchError) as caught:
        fetcher(site, tmp_path).fetch(HELLO)
    error = caught.value
    assert (error.reason, error.stop, error.subject) == ("no_match", False, "Adele - Hello")
    assert error.detail.startswith("none of 2 reaches 60: 46 'Adele - Hello (Karaoke Version)' (karaoke); ")
    assert "'Lionel Richie - Hello' (other artist)" in error.detail
    site.results = []
    with pytest.raises(FetchError, match="no result") as caught:
        fetcher(site, tmp_path).fetch(HELLO)
    assert caught.value.reason == "no_match"
    assert site.count("/song") == 0


def test_what_a_search_found_is_kept_with_what_became_of_each(site: Site, tmp_path: Path) -> None:
    kept: list[CandidateVerdict] = []
    site.results = [("Adele - Hello (Live)", "/song/1.wav", "4:55"), ("Adele - Hello", "/status/410", "4:55"),
                    ("Adele - Hello", "/song/3.wav", "4:57"), ("Adele - Hello", "/song/4.wav", "4:58")]
    fetcher(site, tmp_path).fetch(HELLO, kept.extend)
    assert [(urlsplit(v.candidate.url).path, v.chosen, v.why) for v in kept] == [
        ("/status/410", False, "could not be had: removed"),
        ("/song/3.wav", True, "the best that could be had"),
        ("/song/4.wav", False, "another is better"), ("/song/1.wav", False, "live")]
    assert [v.score for v in kept] == sorted((v.score for v in kept), reverse=True)

    kept.clear()                                                # also where there is nothing to take
    site.results = [("Adele - Hello (Karaoke)", "/song/1.wav", "4:55"), ("Hello", "/song/2.wav", "1:00:00")]
    with pytest.raises(FetchError, match="none of 2"):
        fetcher(site, tmp_path).fetch(HELLO, kept.extend)
    assert {v.candidate.title: v.chosen for v in kept} == {"Adele - Hello (Karaoke)": False, "Hello": False}
    kept.clear()
    fetcher(site, tmp_path).fetch(Wanted("t", "A", "B", url=f"{site.root}/song/1.wav"), kept.extend)
    assert kept == []                                           # nothing was searched


def test_what_a_site_says_is_only_data() -> None:
    hostile = {"url": "http://site/x", "title": "\ud83d" + "\x00<b>'; DROP TABLE candidates; --" * 100,
               "duration": float("nan"), "channel": 7, "view_count": -1, "live_status": "is_live"}
    candidate = candidate_of(hostile, 3)
    assert candidate is not None
    assert candidate.title.startswith("?\x00<b>'; DROP TABLE") and len(candidate.title) == 500
    assert (candidate.duration_s, candidate.channel, candidate.views) == (None, None, None)
    assert (candidate.rank, candidate.live) == (3, True)
    assert 0 <= score(HELLO, candidate) <= 100
    assert candidate_of({"url": "http://site/x", "title": None}, 0) is None
    assert candidate_of({"url": None, "title": "Hello"}, 0) is None
    plain = {"url": "u", "title": "Hello", "duration": 295, "uploader": "Adele", "channel_is_verified": True,
             "view_count": 10}
    assert candidate_of(plain, 0) == Candidate("u", "Hello", 295.0, "Adele", True, 10, 0, False)


@pytest.mark.parametrize(("path", "reason", "stop"), [
    ("/status/404", "removed", False), ("/status/410", "removed", False),
    ("/page/status/404/x.wav", "removed", False),
    ("/status/403/This video is private", "private", False), ("/status/403", "private", False),
    ("/status/403/not available in your country", "geo_blocked", False),
    ("/status/451", "geo_blocked", False),
    ("/status/403/Confirm you are not a bot", "blocked", True),
    ("/status/403/solve this captcha", "blocked", True),
    ("/status/429", "rate_limited", True), ("/page/status/429/x.wav", "rate_limited", True),
    ("/status/500", "server_error", False), ("/status/503/captcha", "server_error", False),
    ("/page/status/500/x.wav", "server_error", False), ("/status/418", "unavailable", False),
    ("/status/200/words but no audio", "unavailable", False), ("/cut/x.wav", "truncated", False),
    ("/page/cut/x.wav", "truncated", False), ("/reset", "connection", False),
    ("/page/reset/x.wav", "connection", False),
])
def test_each_fault_has_its_reason(site: Site, tmp_path: Path, path: str, reason: str, stop: bool) -> None:
    error = failure(site, tmp_path, path.replace(" ", "%20"))
    assert (error.reason, error.stop) == (reason, stop)
    assert error.subject == "Adele - Hello"
    sent = portable(error)
    assert sent is error and pickle.loads(pickle.dumps(sent)).__dict__ == error.__dict__


@pytest.mark.parametrize("path", ["/hang", "/page/hang/x.wav"])
def test_a_site_that_never_answers_times_out(site: Site, tmp_path: Path, path: str) -> None:
    start = time.monotonic()
    error = failure(site, tmp_path, path, timeout_s=0.3, retries=2)
    assert error.reason == "timeout"
    assert time.monotonic() - start < 15                        # it would answer after 20 s


def test_a_download_that_drips_ends_with_the_songs_time(site: Site, tmp_path: Path) -> None:
    start = time.monotonic()
    assert failure(site, tmp_path, "/drip/x.wav", song_timeout_s=0.5).reason == "timeout"
    assert time.monotonic() - start < 10                        # all of it would take 16 s


def test_nobody_at_the_port_is_a_connection_error(tmp_path: Path) -> None:
    gone = Site()
    gone.server_close()
    error = failure(gone, tmp_path, "/page")
    assert error.reason == "connection"
    assert "refused" in error.detail


def test_transient_faults_are_mended_by_retries_and_no_others_repeated(site: Site, tmp_path: Path) -> None:
    site.faults = 2
    ours = fetcher(site, tmp_path, retries=2)
    got = ours.fetch(Wanted("t", "A", "B", url=f"{site.root}/heals/x.wav"))
    assert got.path.read_bytes() == WAV
    assert site.count("/heals") == 4                            # two faults, the look, the download
    got.path.unlink()
    assert failure(site, tmp_path, "/status/404", retries=2).reason == "removed"
    assert site.count("/status/404") == 1


def test_a_download_that_breaks_off_is_resumed_not_begun_anew(site: Site, tmp_path: Path) -> None:
    wanted = Wanted("t", "A", "B", url=f"{site.root}/page/resumes/x.wav")
    got = fetcher(site, tmp_path, retries=1).fetch(wanted)
    assert got.path.read_bytes() == WAV
    assert list(tmp_path.iterdir()) == [got.path]


def test_too_much_is_refused(site: Site, tmp_path: Path) -> None:
    wanted = Wanted("t", "A", "B", url=f"{site.root}/song/x.wav")
    with pytest.raises(FetchError) as caught:           # 16,044 bytes; 0.01 s · 250,000 bytes/s are allowed
        fetcher(site, tmp_path, {"min_duration_s": 0, "max_duration_s": 0.01}).fetch(wanted)
    assert (caught.value.reason, caught.value.detail) == ("too_long", "more than 2500 bytes")
    assert list(tmp_path.iterdir()) == []


def test_no_secret_of_the_network_settings_is_in_an_error(site: Site, tmp_path: Path) -> None:
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2147483647\tsession\tplanted-cookie\n"
    cookies.write_text(text)
    folder = tmp_path / "audio"
    folder.mkdir()
    error = failure(site, folder, "/status/500", cookies_file=str(cookies),
                    proxy="http://me:planted-password@127.0.0.1:9")
    assert error.reason == "connection"
    assert "planted" not in str(error) + repr(error.__dict__)
    failure(site, folder, "/status/500", cookies_file=str(cookies))
    assert cookies.read_text() == text                          # yt-dlp would write it anew
    cookies.write_text("planted-cookie\n")
    with pytest.raises(ConfigError, match="cookies_file") as caught:
        fetcher(site, folder, cookies_file=str(cookies))
    assert "planted" not in str(caught.value)


def test_a_search_without_a_place_for_the_query_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="query"):
        fetcher(site, tmp_path, {"search": f"{site.root}/search"})


def test_a_dead_site_is_left_alone_after_a_few_songs(tmp_path: Path) -> None:
    """Of YouTube behind a proxy that nobody runs: what a machine without a network meets."""
    gone = Site()
    gone.server_close()
    settings: dict[str, Any] = {"proxy": gone.root, "workers": 1, "stop_after": 3, "retries": 1,
                                "give_up_s": 0}
    network = NetworkSettings(**settings)
    ours = AudioFetcher(FetchSettings.model_validate({}), network, tmp_path)
    start = time.monotonic()
    songs = [Wanted(str(number), "Adele", "Hello") for number in range(50)]
    out = list(fetch_all(songs, ours.fetch, ours.site, "audio"))
    took_s = time.monotonic() - start
    assert [result.reason for _, result in out if isinstance(result, Postponed)] == ["connection"] * 50
    assert took_s / 3 < 5                                       # 1 s here, on an idle machine


# ---- telling failures apart ----

def given_up(error: ExtractorError) -> DownloadError:
    """What yt-dlp raises of an extractor's refusal."""
    try:
        raise error
    except ExtractorError:
        kind, value, trace = sys.exc_info()
        assert kind and value and trace
        return DownloadError(f"ERROR: {error}", (kind, value, trace))


@pytest.mark.parametrize(("text", "reason", "stop"), [
    ("Private video. Sign in if you've been granted access to this video", "private", False),
    ("Sign in to confirm your age. This video may be inappropriate for some users.", "age_restricted", False),
    ("Sign in to confirm you’re not a bot. Use --cookies-from-browser", "blocked", True),
    ("Video unavailable. YouTube is requiring a captcha challenge before playback", "blocked", True),
    ("This content isn't available, try again later. The current session has been rate-limited",
     "rate_limited", True),
    ("Video unavailable. This video has been removed by the uploader", "removed", False),
    ("Video unavailable. This video is no longer available because the YouTube account associated with this "
     "video has been terminated.", "removed", False),
    ("Video unavailable. This video contains content from X, who has blocked it in your country on copyright "
     "grounds", "geo_blocked", False),
    ("This video is DRM protected", "drm", False),
    ("Video unavailable", "unavailable", False),
    ("Join this channel to get access to members-only content like this video", "unavailable", False),
    ("Unsupported URL: http://site/captcha-private", "unavailable", False),
])
def test_what_youtube_says(text: str, reason: str, stop: bool) -> None:
    assert classify(given_up(ExtractorError(text, expected=True, video_id="captcha"))) == (reason, stop)


def test_types_outweigh_words() -> None:
    assert classify(given_up(GeoRestrictedError("private video, not a bot"))) == ("geo_blocked", False)
    assert classify(OSError(errno.ENOSPC, "No space left on device")) == ("disk_full", True)
    full = "ERROR: unable to write data: [Errno 28] No space left on device"
    assert classify(DownloadError(full)) == ("disk_full", True)
    assert classify(ValueError("an extractor's bug")) == ("unavailable", False)


def test_details_are_one_clean_line() -> None:
    text = ("\x1b[0;31mERROR:\x1b[0m [youtube] x: An extractor error\nhas occurred. (caused by KeyError());"
            " please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the form")
    assert one_line(text) == "[youtube] x: An extractor error has occurred."
    assert one_line("proxy http://me:word@host/ failed, word", ["word"]) == "proxy http://host/ failed, ***"
    assert len(one_line("long " * 100)) == 300


# ---- what is no audio, and no room ----

def test_a_page_in_place_of_the_audio_is_no_audio(site: Site, tmp_path: Path) -> None:
    site.page = b"<!DOCTYPE html><p>Our shop is closed today</p>"
    error = failure(site, tmp_path, "/page/instead/x.wav")
    assert (error.reason, error.stop) == ("server_error", False)
    site.page = b"\n<html><p>Solve this captcha</p>"
    error = failure(site, tmp_path, "/page/instead/x.wav")
    assert (error.reason, error.stop) == ("blocked", True)


def test_redirects_in_circles_end_as_a_servers_error(site: Site, tmp_path: Path) -> None:
    assert failure(site, tmp_path, "/circle").reason == "server_error"


def test_nothing_is_downloaded_to_a_disk_that_is_nearly_full(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Held, match="must be") as caught:
        fetcher(site, tmp_path, min_free_mb=10**9).fetch(Wanted("t", "A", "B", url=f"{site.root}/song/x.wav"))
    assert caught.value.postponed.reason == "disk_full"
    assert site.asked == []


def test_old_parts_of_downloads_are_removed(site: Site, tmp_path: Path) -> None:
    for name, days in (("old.wav.part", 31), ("new.wav.part", 29)):
        (tmp_path / name).write_bytes(b"x")
        then = time.time() - days * 86_400
        os.utime(tmp_path / name, (then, then))
    fetcher(site, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.wav.part"]
