"""Serves a demo world on loopback: an audio site that yt-dlp's generic extractor understands, and a lyrics
site that answers as genius.com and api.genius.com do.

    /search?q=WORDS             an RSS feed of pages, the best word match first; template: `DemoServer.search`
    /watch/PAGE                 a page with its audio as JSON-LD; 404 where removed, 403 where private
    /audio/FILE                 the file, whole or by Range
    /genius/…                   see `simsong.demo.genius`; `DemoServer.genius_root`

Tests change `faults` while it runs, and read `requests`.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from simsong.demo.genius import GeniusSite
from simsong.demo.plan import Page
from simsong.demo.world import World

RESULTS = 10
TYPES = {".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
DROP = 0                               # a fault that closes the connection without an answer
_CHUNK = 1 << 18


class DemoServer(ThreadingHTTPServer):
    """Serves from its own threads between `start` and `stop`; `serve` does both.

    Attributes:
        faults: path prefix → HTTP status to answer with (`DROP`: none, hang up); change it at any time.
        requests: (method, path with query) of every request so far.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, world: World, port: int = 0, token: str | None = None) -> None:
        """port 0 takes a free one; token None lets any bearer token in."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.world = world
        self.genius = GeniusSite(world.genius, token)
        self.faults: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []
        self._index = SearchIndex([(page.page_id, page.title) for page in world.pages])
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05},
                                        daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def search(self) -> str:
        """For `fetch.search`; {query} is to be URL-quoted."""
        return f"{self.url}/search?q={{query}}"

    @property
    def genius_root(self) -> str:
        """For `lyrics.genius_root`: API_ROOT and WEB_ROOT are this + /, PUBLIC_API_ROOT is this + /api/.

        lyricsgenius 3.15 sends its token only from a class that is called Genius, subclasses included.
        """
        return f"{self.url}/genius"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def fault(self, path: str) -> int | None:
        return next((status for prefix, status in list(self.faults.items()) if path.startswith(prefix)), None)

    def find(self, query: str) -> list[Page]:
        return [self.world.page[page_id] for page_id in self._index.find(query, RESULTS)]

    @cached_property
    def files(self) -> frozenset[str]:
        return frozenset(page.file for page in self.world.pages if page.file)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no event."""


@contextmanager
def serve(world: World, port: int = 0, token: str | None = None) -> Iterator[DemoServer]:
    server = DemoServer(world, port, token)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class SearchIndex:
    """Ranks titles by the words they share with a query, rare words counting more, as a simple site would."""

    def __init__(self, titles: list[tuple[str, str]]) -> None:
        self._words = [(page_id, set(_words(title))) for page_id, title in titles]
        count = Counter(word for _, words in self._words for word in words)
        self._weight = {word: math.log(1 + len(titles) / n) for word, n in count.items()}

    def find(self, query: str, limit: int) -> list[str]:
        query_words = set(_words(query))
        scored = []
        for page_id, words in self._words:
            if common := words & query_words:
                score = sum(self._weight[word] for word in sorted(common)) - 0.05 * len(words - query_words)
                scored.append((-round(score, 9), page_id))
        return [page_id for _, page_id in sorted(scored)[:limit]]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer                                      # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {k: v[-1] for k, v in parse_qs(parts.query).items()}
        if (status := self.server.fault(path)) is not None:
            if status == DROP:
                self.close_connection = True
                return
            self._send(status, f"fault {status}")
            return
        match path.split("/")[1:]:
            case ["search"]:
                self._send(200, self._feed(query.get("q", "")), "application/rss+xml; charset=utf-8")
            case ["watch", page_id]:
                self._watch(self.server.world.page.get(page_id))
            case ["audio", name] if name in self.server.files:
                self._file(self.server.world.audio / name)
            case ["genius", *rest]:
                answer = self.server.genius.answer("/".join(rest), query, self.headers.get("Authorization"))
                self._send(answer.status, answer.body, answer.content_type)
            case [""]:
                self._send(200, _html("Demo world", "<p>Synthetic songs. Search them at /search?q=…</p>"))
            case _:
                self._send(404, _html("Not found", "<p>There is no such page</p>"))

    do_HEAD = do_GET

    def _feed(self, query: str) -> str:
        items = "".join(
            f"<item><title>{_xml(page.title)}</title><link>{self.server.url}/watch/{page.page_id}</link>"
            f'<guid isPermaLink="false">{page.page_id}</guid>'
            f"<itunes:author>{_xml(page.uploader)}</itunes:author>"
            f"<itunes:duration>{round(page.duration_s)}</itunes:duration></item>"
            for page in self.server.find(query))
        return ('<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" '
                'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>'
                f"<title>{_xml(query)}</title>{items}</channel></rss>")

    def _watch(self, page: Page | None) -> None:
        if page is None or page.status == 404 or (page.status == 200 and page.file is None):
            self._send(404, _html("Removed", "<p>This video has been removed by the uploader</p>"))
        elif page.status == 403:
            self._send(403, _html("Private", "<p>This video is private</p>"))
        else:
            self._send(200, _watch_page(page, self.server.url))

    def _file(self, path: Path) -> None:
        size = path.stat().st_size
        part = _range(self.headers.get("Range", ""), size)
        start, end = part or (0, size)
        if start >= end:
            self._send(416, "", headers={"Content-Range": f"bytes */{size}"})
            return
        self.send_response(206 if part else 200)
        self.send_header("Content-Type", TYPES[path.suffix])
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (data := file.read(min(_CHUNK, end - start))):
                self.wfile.write(data)
                start += len(data)

    def _send(self, status: int, body: str, content_type: str = "text/html; charset=utf-8",
              headers: dict[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `DemoServer.requests` has them."""


def _range(header: str, size: int) -> tuple[int, int] | None:
    """(start, end) of one byte range, end exclusive; empty where it cannot be met; None: ignore it."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.group(0).endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _watch_page(page: Page, url: str) -> str:
    suffix = Path(page.file or "").suffix
    data = {"@context": "https://schema.org", "@type": "AudioObject", "name": page.title,
            "author": {"@type": "Person", "name": page.uploader}, "duration": f"PT{round(page.duration_s)}S",
            "encodingFormat": TYPES[suffix],
            "contentUrl": f"{url}/audio/{quote(page.file or '')}"}
    script = json.dumps(data).replace("<", "\\u003c")           # a title must not close the script
    body = f"<h1>{escape(page.title)}</h1><p>{escape(page.uploader)}</p>"
    return _html(page.title, f'<script type="application/ld+json">{script}</script>{body}')


def _html(title: str, body: str) -> str:
    head = f'<head><meta charset="utf-8"><title>{escape(title)}</title></head>'
    return f'<!DOCTYPE html><html lang="en">{head}<body>{body}</body></html>'


def _xml(text: str) -> str:
    """Escaped, without the characters that XML 1.0 cannot hold."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text))
