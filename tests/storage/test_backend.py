"""What file systems and object stores do not give: hard links, and objects that lie at hand."""

from __future__ import annotations

import platform
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from obstore.store import HTTPStore, MemoryStore

from storage import parquet
from storage.backend import Local, Remote
from storage.store import Store
from storage.tables import TABLES

# The kernel is told to answer link(2) and linkat(2) as exFAT does: EPERM. A filter of seccomp, x86-64.
NO_LINKS = """
import ctypes, os, struct, sys
from pathlib import Path
code = [(0x20, 0, 0, 0), (0x15, 2, 0, 86), (0x15, 1, 0, 265),
        (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050001)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0
here = Path(sys.argv[1])
here.mkdir()
(here / "a").write_text("a")
try:
    os.link(here / "a", here / "b")
except PermissionError:
    print("no links")
from storage.backend import Local
from storage.store import Store
with Store.writing(str(here / "store")) as store:
    store.put("x", b"1")
backend = Local(here / "store")
assert backend.create_exclusive("new", b"whole") and not backend.create_exclusive("new", b"other")
assert backend.get("new").read() == b"whole"
assert not list(backend.scratch.iterdir())
print("made")
"""


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="a filter for x86-64")
def test_a_file_system_without_hard_links_will_do(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NO_LINKS, str(tmp_path / "d")],
                          capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["no links", "made"], done.stderr


def test_a_store_that_cannot_be_made_leaves_nothing() -> None:
    """/proc has no room for files of ours, whoever asks."""
    from simsong.errors import StoreError

    with pytest.raises(StoreError, match="cannot be written"), Store.writing("/proc/store"):
        pass
    assert not Path("/proc/store").exists()


def test_disks_of_this_machine_are_known(tmp_path: Path) -> None:
    assert not Local(Path("/proc")).is_on_own_disk()
    if sys.platform == "linux":
        assert Local(Path("/dev/shm")).is_on_own_disk()


class Ranges(BaseHTTPRequestHandler):
    """Serves `files`, whole or in ranges, and counts the bytes."""

    files: dict[str, bytes] = {}            # noqa: RUF012
    served = 0

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start, end = 0, len(data)
        if answer := self.headers.get("Range"):
            first, last = answer.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 00:00:00 GMT")
        self.send_header("ETag", f'"{hash(data)}"')
        self.end_headers()
        if body:
            type(self).served += end - start
            self.wfile.write(data[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Ranges.files, Ranges.served = {}, 0
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_of_a_large_object_what_is_asked_for_is_fetched(site: str, tmp_path: Path) -> None:

    rng = random.Random(0)
    songs = ([{"track_id": f"T{i}", "segment": 0, "start_s": 0, "end_s": 30, "audio": rng.randbytes(500_000)}]
             for i in range(8))
    parquet.write(tmp_path / "large", TABLES["segments"], songs, "id")
    key = "tables/segments/00000.parquet"
    Ranges.files = {f"/{key}": (tmp_path / "large").read_bytes(), "/empty": b""}
    store = Store(Remote(site, HTTPStore.from_url(site, client_options={"allow_http": True})))
    assert store.size(key) == len(Ranges.files[f"/{key}"]) and Ranges.served == 0, "a head is enough"
    assert store.size("empty") == 0 and store.size("nothing") is None and Ranges.served == 0
    assert store.backend.get("empty").read() == b""
    assert store.seal(key) is not None and Ranges.served < 200_000, "the footer"
    Ranges.served = 0
    assert len(store.read("segments", 0, columns=["track_id"])) == 8 and Ranges.served < 300_000
    Ranges.served = 0
    assert len(store.read("segments", 0)) == 8
    assert Ranges.served < 1.1 * len(Ranges.files[f"/{key}"]), "read twice for its seal, fetched once"


def test_an_object_that_is_replaced_is_not_read_in_two_versions() -> None:
    backend = Remote("memory://x", MemoryStore())
    backend.put_atomic("a", bytes(300_000))
    file = backend.get("a")
    assert file.read(10) == bytes(10)
    backend.put_atomic("a", b"1" * 300_000)
    with pytest.raises(OSError, match="was replaced while it was read"):
        file.read()
