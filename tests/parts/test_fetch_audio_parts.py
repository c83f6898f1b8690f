"""Downloads that broke off: continued where it is the same version, begun anew where that is not sure."""

from __future__ import annotations

import http.server
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simsong.audio.fetch import AudioFetcher
from simsong.config import FetchSettings, NetworkSettings
from simsong.errors import FetchError
from simsong.records import Wanted
from tests.audio.test_fetch_audio import WAV, tone


class Partly(http.server.BaseHTTPRequestHandler):
    """/<how>/x.wav: cut short until `whole` is set, with what `how` names as the version; heeds Range."""

    server: PartSite                    # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        how, body = self.path.split("/")[1], self.server.body
        answer, condition = self.headers.get("Range"), self.headers.get("If-Range")
        versions = {"etag": {"ETag": f'"{zlib.crc32(body)}"'}, "weak": {"ETag": f'W/"{zlib.crc32(body)}"'},
                    "date": {"Last-Modified": self.server.changed}, "none": {}}
        self.server.asked.append((answer, condition))
        current = next(iter(versions[how].values()), None)
        start = int(answer.removeprefix("bytes=").rstrip("-")) if answer and condition in (None,
                                                                                           current) else 0
        self.send_response(206 if start else 200)
        for name, value in {**versions[how], "Content-Type": "audio/wav",
                            "Content-Length": str(len(body) - start)}.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start:] if self.server.whole else body[start:9000])


class PartSite(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Partly)
        self.body, self.whole = WAV, False
        self.changed = "Sun, 01 Nov 2026 10:00:00 GMT"
        self.asked: list[tuple[str | None, str | None]] = []


@pytest.fixture
def parts() -> Iterator[PartSite]:
    site = PartSite()
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


def two_runs(parts: PartSite, folder: Path, how: str, between: Callable[[], None] = lambda: None) -> bytes:
    """What a second run gets, after a first in which the connection broke."""
    wanted = Wanted("t", "A", "B", url=f"http://127.0.0.1:{parts.server_port}/{how}/x.wav")
    network = NetworkSettings(retries=0, timeout_s=5)
    with pytest.raises(FetchError) as caught:
        AudioFetcher(FetchSettings(), network, folder).fetch(wanted)
    assert caught.value.reason == "truncated"
    parts.whole = True
    parts.asked.clear()
    between()
    later = AudioFetcher(FetchSettings(), network, folder)
    content = later.fetch(wanted).path.read_bytes()
    later.done(wanted)
    assert list(folder.iterdir()) == []
    return content


@pytest.mark.parametrize(("how", "condition"), [
    ("etag", f'"{zlib.crc32(WAV)}"'), ("date", "Sun, 01 Nov 2026 10:00:00 GMT")])
def test_the_next_run_asks_for_the_rest_of_the_same_version(parts: PartSite, tmp_path: Path, how: str,
                                                            condition: str) -> None:
    assert two_runs(parts, tmp_path, how) == WAV
    byte_range, named = parts.asked[-1]
    assert byte_range is not None and 5000 < int(byte_range.removeprefix("bytes=").rstrip("-")) <= 9000
    assert named == condition


@pytest.mark.parametrize("how", ["weak", "none"])
def test_what_no_version_is_known_of_is_begun_anew_by_the_next_run(parts: PartSite, tmp_path: Path,
                                                                   how: str) -> None:
    assert two_runs(parts, tmp_path, how) == WAV
    assert all(request is None for request, _ in parts.asked)


@pytest.mark.parametrize("how", ["etag", "date", "none"])
def test_never_a_mixture_of_two_versions(parts: PartSite, tmp_path: Path, how: str) -> None:
    other = tone(1.0)[:44] + bytes(len(WAV) - 44)           # as long, and silent

    def change() -> None:
        parts.body, parts.changed = other, "Mon, 02 Nov 2026 10:00:00 GMT"

    assert two_runs(parts, tmp_path, how, change) == other
