"""A music site on loopback whose every song can have a fault of its own: for fetching as the web really is.

    /search?q=WORDS     an RSS feed with the page of that song
    /watch/SONG         a page with its audio as JSON-LD
    /audio/SONG.wav     the file, whole or by Range, with an ETag

Everything is data: change `faults`, `everything` and `latency_s` while it runs, `heal` it, read `asked`.
"""

from __future__ import annotations

import io
import json
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from simsong.matching import query

RATE_HZ, SECONDS = 8000, 2.0

# Fault → the reason that a song with it must end with.
REASONS = {
    "404": "removed", "403": "private", "429": "rate_limited", "500": "server_error", "503": "server_error",
    "cut": "truncated",             # the connection ends midway, each time
    "short": "truncated",           # promises and sends half of the file
    "long": "truncated",            # promises twice as much as there is
    "drip": "timeout",              # a byte a second
    "never": "timeout",             # takes the request and is silent
    "html": "server_error",         # a page in place of the audio, with status 200 and the audio's type
    "circle": "server_error",       # redirects to itself
}
OF_THE_FILE = frozenset({"cut", "short", "long", "drip", "html"})      # the others hit page and file in turn
PERMANENT = frozenset({"404", "403"})


@dataclass(frozen=True)
class Asked:
    at: float               # time.monotonic() of its arrival
    what: str               # search, watch, audio
    song: str
    range: str | None
    whole: bool = False     # the answer brought the file's last byte


class FaultSite(ThreadingHTTPServer):
    """Songs are named by number: "Artist 7" sings "Song 7".

    Attributes:
        faults: song → fault, for as long as it is not healed.
        everything: a status that all requests are answered with, or None.
        pace: bytes a second of audio, or None: at once.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, songs: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.songs = [str(number) for number in range(songs)]
        self.faults: dict[str, str] = {}
        self.everything: int | None = None
        self.retry_after: str | None = "1"
        self.latency_s = 0.0
        self.pace: int | None = None
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self._by_query = {query(*names(song)): song for song in self.songs}

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def search(self) -> str:
        return f"{self.root}/search?q={{query}}"

    def heal(self) -> None:
        self.faults.clear()
        self.everything = None

    def find(self, words: str) -> str | None:
        return self._by_query.get(words)

    def most_in(self, seconds: float) -> int:
        """The most requests within any span of that length."""
        times = sorted(request.at for request in self.asked)
        first = most = 0
        for last, at in enumerate(times):
            while at - times[first] > seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no event."""


def names(song: str) -> tuple[str, str]:
    """Artist and title: of no two songs alike, since a search goes by likeness."""
    number = int(song)
    syllables = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")
    word = "".join(syllables[int(digit)] for digit in f"{number:04d}")
    return f"{word} quartet", f"{word[::-1]} waltz"


@lru_cache(maxsize=2048)
def audio_of(song: str) -> bytes:
    rng = np.random.default_rng(int(song))
    samples = (8000 * rng.standard_normal(int(RATE_HZ * SECONDS))).clip(-32768, 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())
    return out.getvalue()


@contextmanager
def serve(songs: int) -> Iterator[FaultSite]:
    site = FaultSite(songs)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        site.shutdown()
        thread.join()
        site.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FaultSite                   # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `FaultSite.asked` has them."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, what, *rest = url.path.split("/")
        words = parse_qs(url.query).get("q", [""])[0]
        song = (self.server.find(words) if what == "search" else rest[0].split(".")[0]) or ""
        self.note = Asked(time.monotonic(), what, song, self.headers.get("Range"))
        time.sleep(self.server.latency_s)
        whole = False
        try:
            whole = self.answer(what, song)
        finally:
            self.server.asked.append(Asked(self.note.at, what, song, self.note.range, whole))

    def answer(self, what: str, song: str) -> bool:
        if self.server.everything is not None:
            return self.status(self.server.everything)
        fault = self.server.faults.get(song)
        of_file = fault in OF_THE_FILE or int(song or 0) % 2 == 0
        if fault and what == ("audio" if of_file else "watch"):
            return self.fail(fault, song)
        if what == "search":
            return self.send(self.feed(song).encode(), "application/rss+xml")
        if what == "watch" and song:
            return self.send(self.page(song).encode(), "text/html")
        if what == "audio":
            return self.audio(song)
        return self.status(404)

    def fail(self, fault: str, song: str) -> bool:
        body = audio_of(song)
        if fault in ("404", "403", "429", "500", "503"):
            return self.status(int(fault))
        if fault == "never":
            self.server.over.wait()
        elif fault == "circle":
            self.send(b"", "text/html", 302, {"Location": self.path})
        elif fault == "html":
            self.send(b"<!DOCTYPE html><html><body>Welcome to our new site</body></html>", "audio/wav")
        elif fault == "cut":
            self.audio(song, cut=True)
        elif fault == "short":
            self.send(body[:len(body) // 2], "audio/wav")
        else:                           # long, drip
            self.headers_of(200, "audio/wav", 2 * len(body) if fault == "long" else len(body))
            if fault == "long":
                self.wfile.write(body)
            else:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if self.server.over.wait(1.0):
                        break
        self.close_connection = fault not in ("circle", "html")
        return False

    def audio(self, song: str, cut: bool = False) -> bool:
        body = audio_of(song)
        etag = f'"{song}-{len(body)}"'
        start = 0
        if self.note.range and self.headers.get("If-Range", etag) == etag:
            start = int(self.note.range.removeprefix("bytes=").split("-")[0])
        more = {"ETag": etag, "Accept-Ranges": "bytes"}
        if start:
            more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.headers_of(206 if start else 200, "audio/wav", len(body) - start, more)
        end = (start + len(body)) // 2 if cut else len(body)
        step = self.server.pace // 20 if self.server.pace else end - start
        for at in range(start, end, max(step, 1)):
            self.wfile.write(body[at:min(at + step, end)])
            if self.server.pace:
                time.sleep(0.05)
        self.close_connection = cut
        return not cut

    def feed(self, song: str) -> str:
        item = ""
        if song:
            artist, title = names(song)
            item = (f"<item><title>{artist} - {title}</title><link>{self.server.root}/watch/{song}</link>"
                    f"<itunes:author>{artist}</itunes:author>"
                    f"<itunes:duration>{SECONDS:.0f}</itunes:duration></item>")
        return ('<?xml version="1.0"?><rss version="2.0" '
                'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">'
                f"<channel><title>results</title>{item}</channel></rss>")

    def page(self, song: str) -> str:
        artist, title = names(song)
        data = {"@context": "https://schema.org", "@type": "AudioObject", "name": f"{artist} - {title}",
                "author": {"@type": "Person", "name": artist}, "duration": f"PT{SECONDS:.0f}S",
                "encodingFormat": "audio/wav", "contentUrl": f"{self.server.root}/audio/{song}.wav"}
        return (f"<html><head><title>{title}</title></head><body>"
                f'<script type="application/ld+json">{json.dumps(data)}</script></body></html>')

    def status(self, status: int) -> bool:
        words = {403: "This video is private", 404: "This video has been removed"}.get(status, "")
        after = {"Retry-After": self.server.retry_after} if status == 429 and self.server.retry_after else {}
        return self.send(f"<p>{words}</p>".encode(), "text/html", status, after)

    def send(self, body: bytes, kind: str, status: int = 200, more: dict[str, str] | None = None) -> bool:
        self.headers_of(status, kind, len(body), more or {})
        self.wfile.write(body)
        return False

    def headers_of(self, status: int, kind: str, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


