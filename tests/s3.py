"""An S3 on loopback (moto's), that counts the bytes which it sends."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class Counted:
    """A WSGI application around another one. Attributes: sent: bytes of answers' bodies."""

    def __init__(self) -> None:
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.sent = 0

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        for block in self._inner(environ, start):
            with self._lock:
                self.sent += len(block)
            yield block


@contextmanager
def serving() -> Generator[tuple[Counted, dict[str, str]]]:
    """Yields the server, which has a bucket, and the variables by which it is found."""
    app = Counted()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)     # pyright: ignore
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    root = f"http://127.0.0.1:{server.server_port}"
    try:
        urlopen(Request(f"{root}/moto-api/reset", method="POST")).close()      # it is one for a whole process
        urlopen(Request(f"{root}/{BUCKET}", method="PUT")).close()
        yield app, {"AWS_ENDPOINT_URL": root, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "id",
                    "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_ALLOW_HTTP": "true"}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
