"""A lyrics site on loopback that answers both as Genius and as LRCLIB do, over the same songs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Fault = Callable[["Request"], None]


@dataclass(frozen=True)
class Known:
    """A song that the site has; text None: it is an instrumental."""

    artist: str
    title: str
    text: str | None
    duration_s: float = 200.0


@dataclass(frozen=True)
class Asked:
    at: float
    path: str
    query: dict[str, str]
    agent: str


class LyricsSite(ThreadingHTTPServer):
    """Attributes:
        faults: what the next requests are answered with, in turn.
        always: what every request is answered with, once `faults` are used up.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.known: list[Known] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.asked: list[Asked] = []
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Request(BaseHTTPRequestHandler):
    server: LyricsSite                  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        site, url = self.server, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        site.asked.append(Asked(time.monotonic(), url.path, query, self.headers.get("User-Agent", "")))
        if fault := site.faults.pop(0) if site.faults else site.always:
            fault(self)
            return
        match url.path.strip("/").split("/"):
            case ["genius", "search"]:
                hits = [{"type": "song", "result": hit(n, song)} for n, song in enumerate(site.known)]
                self.send(200, json.dumps({"meta": {"status": 200}, "response": {"hits": hits}}))
            case ["genius", number]:
                self.send(200, page(site.known[int(number)]), "text/html")
            case ["api", "search"]:
                self.send(200, json.dumps([record(n, song) for n, song in enumerate(site.known)]))
            case ["api", "get"]:
                self.send(*next(((200, json.dumps(record(n, song))) for n, song in enumerate(site.known)
                                 if self.is_meant(song, query)),
                                (404, json.dumps({"statusCode": 404, "name": "TrackNotFound"}))))
            case _:
                self.send(404, "{}")

    def is_meant(self, song: Known, query: dict[str, str]) -> bool:
        return (query["track_name"].lower() == song.title.lower()
                and query["artist_name"].lower() == song.artist.lower()
                and abs(float(query["duration"]) - song.duration_s) <= 2)

    def send(self, status: int, text: str = "", kind: str = "application/json", length: int | None = None,
             **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def hit(number: int, song: Known) -> dict[str, Any]:
    return {"title": song.title, "title_with_featured": song.title, "artist_names": song.artist,
            "primary_artist": {"name": song.artist}, "instrumental": song.text is None, "path": f"/{number}",
            "lyrics_state": "complete"}


def page(song: Known) -> str:
    return f'<div data-lyrics-container="true">{escape(song.text or "").replace(chr(10), "<br>")}</div>'


def record(number: int, song: Known) -> dict[str, Any]:
    return {"id": number, "name": song.title, "trackName": song.title, "artistName": song.artist,
            "albumName": "", "duration": song.duration_s, "instrumental": song.text is None,
            "plainLyrics": song.text, "syncedLyrics": None}


@contextmanager
def serve() -> Iterator[LyricsSite]:
    site = LyricsSite()
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        site.over.set()
        site.shutdown()
        site.server_close()


# ---- faults ----

def status(code: int, text: str = "", kind: str = "application/json", **headers: str) -> Fault:
    return lambda request: request.send(code, text, kind, None, **headers)


def hang(request: Request) -> None:
    request.server.over.wait(5)


def hang_up(request: Request) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def cut(request: Request) -> None:
    request.send(200, '{"half": ', length=5000)


def drip(request: Request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not request.server.over.wait(0.05):
        request.wfile.write(b" ")


def drip_headers(request: Request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not request.server.over.wait(0.05):
        request.wfile.write(b"x")


def circle(request: Request) -> None:
    request.send(302, Location=request.path)
