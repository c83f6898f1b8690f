"""SQL over an object store: by `connect`, and by DuckDB alone with its httpfs; a small S3 on loopback."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from simsong.errors import QueryError, StoreError
from storage.script import script
from storage.store import Store
from storage.views import connect
from tests.asked_store import write_asked_store
from tests.storage.test_cookbook import duckdb_program

QUERIES = ("SELECT track_id, round(score, 6) FROM similar('TR000', k := 5)",
           "SELECT stage, ok FROM funnel()", "SELECT count(*) FROM outcomes_all",
           "SELECT DISTINCT typeof(embedding) FROM segment_embeddings")


class Bucket(BaseHTTPRequestHandler):
    """Lists and gives the files of a folder, whole or in ranges, and writes nothing."""

    protocol_version = "HTTP/1.1"
    folder: Path
    written: list[str] = []             # noqa: RUF012

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        if "list-type" in query:
            return self._list(query["prefix"][0] if "prefix" in query else "")
        return self._give(body=True)

    def do_HEAD(self) -> None:
        self._give(body=False)

    def do_PUT(self) -> None:
        self.written.append(self.path)
        self._answer(403, b"")

    do_POST = do_DELETE = do_PUT

    def _list(self, prefix: str) -> None:
        files = sorted((path.relative_to(self.folder).as_posix(), path.stat().st_size)
                       for path in self.folder.rglob("*") if path.is_file())
        rows = "".join(f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>\"{size}\"</ETag>"
                       "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                       "<StorageClass>STANDARD</StorageClass></Contents>"
                       for key, size in files if key.startswith(prefix))
        self._answer(200, (f'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false'
                           f"</IsTruncated>{rows}</ListBucketResult>").encode())

    def _give(self, body: bool) -> None:
        path = self.folder / unquote(urlsplit(self.path).path).removeprefix("/bucket/")
        if not path.is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", body)
        data = path.read_bytes()
        headers = {"ETag": f'"{len(data)}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
                   "Accept-Ranges": "bytes"}
        if (answer := self.headers.get("Range")) is None:
            return self._answer(200, data, body, headers)
        first, _, last = answer.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return self._answer(206, data[start:end + 1], body, headers)

    def _answer(self, code: int, data: bytes, body: bool = True,
                headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Store]]:
    """A store on disk, and the same as objects."""
    local = write_asked_store(tmp_path / "bucket" / "a [store]")
    handler = type("Handler", (Bucket,), {"folder": tmp_path / "bucket", "written": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_REGION": "here",
                        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hush-hush",
                        "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    yield local, Store.open("s3://bucket/a [store]")
    server.shutdown()
    server.server_close()
    assert handler.written == [], "nothing is written"


def test_the_answers_are_those_of_the_same_store_on_a_disk(remote: tuple[Store, Store],
                                                           tmp_path: Path) -> None:
    local, objects = remote
    text = script(objects)
    assert "hush-hush" not in text, "keys are not written"
    file = tmp_path / "simsong.sql"
    file.write_text(text)
    with connect(local) as here, connect(objects) as there:
        for query in QUERIES:
            expected = here.execute(query).fetchall()
            assert expected and there.execute(query).fetchall() == expected
            done = subprocess.run([duckdb_program(), "-init", file, "-noheader", "-list", "-separator", "|",
                                   "-c", query], capture_output=True, text=True, cwd=tmp_path)
            assert sorted(done.stdout.split()) == sorted(
                "|".join(map(str, row)) for row in expected), done.stderr
        for query in ("COPY songs TO 's3://bucket/x'", "FROM read_text('s3://bucket/a [store]/store.json')",
                      "FROM 's3://bucket/x.parquet'", "FROM glob('s3://bucket/*')", "LOAD httpfs"):
            with pytest.raises(QueryError):
                there.execute(query).fetchall()


def test_other_object_stores_are_asked_here_alone() -> None:
    with pytest.raises(StoreError, match="DuckDB by itself"), Store.writing("memory:///x") as store:
        script(store)
