"""No secret is written down anywhere: not in the store, not by Prefect, not in what is printed or logged.

A site that is its own proxy is given a token, a cookie, a proxy's password and signed addresses, and says all
of them again where it fails: in error pages, in the words beside a status, in the places it redirects to.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow.parquet as pq
import pytest

from storage.store import Store
from tests.small_world import write_song

TOKEN, COOKIE, SIGNATURE = "plantedtoken1a2b3c", "plantedcookie4d5e6f", "plantedsignature7a8b"
OWN = "plantedaddress2e3f"      # signs the user's own address of a song, which stands in the catalogue
PASSWORD = "planted@word9c0d"
BASIC = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
ALWAYS = (TOKEN, COOKIE, PASSWORD, quote(PASSWORD, safe=""), BASIC)
SECRETS = (*ALWAYS, OWN, SIGNATURE)     # the last is the site's: it is hidden where it stands in an address
SONGS = {                   # title → the path where its audio is; "": it is searched for
    "Found": "", "Nowhere To Be Found": "", "Signed": f"/song.wav?X-Amz-Signature={OWN}&part=2",
    "Signed But Gone": f"/status/410?X-Amz-Signature={OWN}",
    "Moved": "/moved", "Forbidden": "/status/403", "Broken": "/status/500", "Overcrowded": "/status/404",
    "Circles": "/circles/0", "Dead End": "/dead-end", "Cut": "/cut", "No Way": "/status/407",
    "Forbidden Audio": "/page/status/403", "Broken Audio": "/page/status/500"}
CANARY = "Nowhere To Be Found"          # a title that must be found where the secrets are looked for


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, song: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.song = song
        self.seen: set[str] = set()                 # the secrets that came with requests
        self.paths: list[str] = []

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no event."""


class _Handler(BaseHTTPRequestHandler):
    server: Site                                    # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    @property
    def loud(self) -> str:
        own = [OWN] if OWN in self.path else []
        return " ".join([*ALWAYS, *own, "cannot GET", self.path])

    def do_GET(self) -> None:
        given = f"{self.path}\n{self.headers}"
        self.server.seen |= {secret for secret in SECRETS if secret in given}
        parts = urlsplit(self.path)                 # a proxy is sent whole addresses
        self.server.paths.append(parts.path)
        match parts.path.split("/")[1:]:
            case ["search"]:
                self._reply(200, self._feed(parse_qs(parts.query)["q"][0]), "application/rss+xml")
            case ["song.wav"]:
                self._reply(200, self.server.song, "audio/wav")
            case ["page", *path]:
                data = {"@context": "https://schema.org", "@type": "AudioObject", "name": "Ann - Found",
                        "contentUrl": f"{self.server.root}/{'/'.join(path)}?sig={SIGNATURE}"}
                self._reply(200, f'<script type="application/ld+json">{json.dumps(data)}</script>')
            case ["moved"]:
                self._reply(302, to=f"/page/song.wav?token={SIGNATURE}&cookie={COOKIE}")
            case ["circles", number]:
                self._reply(302, to=f"/circles/{int(number) + 1}?access_token={TOKEN}&sig={SIGNATURE}")
            case ["dead-end"]:
                self._reply(302, to=f"http://ann:{quote(PASSWORD, safe='')}@127.0.0.1:9/x?sig={SIGNATURE}")
            case ["cut"]:
                self.close_connection = True
            case ["genius", "search"]:
                query = parse_qs(parts.query)["q"][0]
                if "Signed" in query:
                    self._reply(302, to=f"/genius/search?q={quote(query)}&access_token={TOKEN}")
                else:
                    self._reply(500 if "Found" in query else 404, self.loud)
            case ["status", status]:
                self._reply(int(status), f"<html><body><h1>{self.loud}</h1></body></html>")
            case _:
                self._reply(404, self.loud)

    do_HEAD = do_GET

    def _feed(self, query: str) -> str:
        title = query if "Nowhere" not in query else f"Somebody Else {self.loud}"
        return ('<?xml version="1.0"?><rss version="2.0"><channel><title>x</title><item>'
                f"<title>{title}</title><link>{self.server.root}/page/song.wav?sig={SIGNATURE}&amp;id=3</link>"
                "</item></channel></rss>")

    def _reply(self, status: int, body: str | bytes = "", kind: str = "text/html",
               to: str | None = None) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status, self.loud if status >= 400 else None)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if to is not None:
            self.send_header("Location", to)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def served(song: bytes) -> Iterator[Site]:
    site = Site(song)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    root = tmp_path_factory.mktemp("secrets")
    song = write_song(root / "music", "ann", seconds=3.0).read_bytes()
    with served(song) as site:
        lines = [f"Ann,{title},{site.root + path if path else ''}" for title, path in SONGS.items()]
        (root / "songs.csv").write_text("\n".join(["artist,title,url", *lines]) + "\n")
        (root / "cookies.txt").write_text("# Netscape HTTP Cookie File\n"
                                          f"127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tsid\t{COOKIE}\n")
        proxy = f"http://ann:{quote(PASSWORD, safe='')}@127.0.0.1:{site.server_address[1]}"
        (root / "simsong.toml").write_text(f"""
store = "store"
[sources]
table = "songs.csv"
[fetch]
search = "{site.root}/search?q={{query}}"
[network]
proxy = "{proxy}"
cookies_file = "{root}/cookies.txt"
retries = 0
stop_after = 100
timeout_s = 10
extractor_args = {{ youtube = {{ po_token = "web.gvs+{TOKEN}" }} }}
[lyrics]
provider = "genius"
genius_root = "{site.root}/genius"
[trim]
mode = "none"
[segments]
length_s = 1.0
hop_s = 1.0
""")
        yield site, root


def simsong(root: Path, *words: str) -> str:
    """What it prints and logs, as a user sees it who has everything logged."""
    env = {**os.environ, "GENIUS_ACCESS_TOKEN": TOKEN, "PREFECT_HOME": str(root / "prefect"),
           "PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
           "PREFECT_LOGGING_EXTRA_LOGGERS": "urllib3,requests,yt_dlp",
           "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-m", "simsong.cli", *words], cwd=root, env=env, text=True,
                          capture_output=True, check=False, timeout=300)
    return done.stdout + done.stderr


def texts(path: Path) -> Iterator[bytes]:
    """A file's bytes; of Parquet also the columns, which are compressed."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        rows = pq.read_table(path)
        yield json.dumps(rows.select([field.name for field in rows.schema
                                      if str(field.type) == "string"]).to_pylist()).encode()
        yield repr(rows.schema.metadata).encode()


def places(data: bytes, secrets: tuple[str, ...] = SECRETS) -> list[str]:
    """Where around secrets stand, for a message."""
    return [repr(data[max(0, at - 120):at + 60]) for secret in secrets
            if (at := data.find(secret.encode())) >= 0]


def test_no_secret_is_written_down(world: tuple[Site, Path]) -> None:
    site, root = world
    said = simsong(root, "refresh", "--yes")
    assert site.seen == {TOKEN, COOKIE, SIGNATURE, OWN, BASIC}, "the site was shown them"
    store = Store.open(str(root / "store"))
    outcomes = {row["track_id"]: row for row in store.read("outcomes", partition="fetch_audio").to_pylist()}
    titles = {row["track_id"]: row["title"] for row in store.read("tracks").to_pylist()}
    outcome_of = {titles[track_id]: (row["status"], row["reason"]) for track_id, row in outcomes.items()}
    assert set(outcome_of) == set(SONGS)
    assert {title for title, (status, _) in outcome_of.items() if status == "ok"} == {"Found", "Signed",
                                                                                      "Moved"}

    leaks: dict[str, list[str]] = {"printed": places(said.encode())}
    for words in (("status", "--json"), ("explain", "Ann - Moved"),
                  ("doctor", "--live", "--song", "Ann - Found")):
        leaks[" ".join(words)] = places(simsong(root, *words).encode())
    canaries: set[str] = set()
    for folder in (root / "store", root / "prefect"):
        for path in folder.rglob("*"):
            if path.is_file():
                name = str(path.relative_to(root))
                catalogue = name.startswith("store/tables/tracks/")
                for text in texts(path):
                    hidden = [secret for secret in SECRETS if not (catalogue and secret == OWN)]
                    leaks.setdefault(name, []).extend(places(text, tuple(hidden)))
                    if CANARY.encode() in text or b"fetch_audio" in text:
                        canaries.add(path.suffix if folder.name == "store" else folder.name)
    assert {".parquet", ".json", "prefect"} <= canaries, "what is written there can be read here"
    assert "prefect" in said and "DEBUG" in said, "logs are among what was printed"
    lines = [f"{name}: {text}" for name, all_found in leaks.items() for text in all_found]
    assert not lines, "\n".join(lines)
