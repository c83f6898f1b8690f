"""The way of every HTTP request: an adapter for sessions of `requests`, which all clients here use.

It sees each request that goes out, redirects included, whichever library sends it.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from simsong.fetching.redact import redact_logs
from simsong.fetching.site import Held, current

MOST_REDIRECTS = 10


def make_polite(session: requests.Session) -> None:
    """Let the session's requests wait for their turn, end with their song's time and obey Retry-After."""
    redact_logs()
    session.max_redirects = MOST_REDIRECTS
    for prefix, adapter in list(session.adapters.items()):
        assert isinstance(adapter, HTTPAdapter)
        session.mount(prefix, _Polite(adapter))


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, by number or date; None where it says neither."""
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            when = parsedate_to_datetime(value or "")
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


class _Polite(BaseAdapter):
    """An adapter around the session's own, which keeps its TLS settings and proxies."""

    def __init__(self, inner: HTTPAdapter) -> None:
        super().__init__()
        self._inner = inner

    def send(self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None,
             verify: Any = True, cert: Any = None, proxies: Any = None) -> requests.Response:
        visit = current()
        assert visit is not None, "asked outside of a visit"
        try:
            visit.admit()
        except Held as refusal:                # in the terms of those who called
            raise requests.ConnectionError(str(refusal), request=request) from refusal
        except TimeoutError as error:
            raise requests.Timeout(str(error), request=request) from error
        pool = self._inner.get_connection_with_tls_context(request, verify, proxies, cert)
        pool.ConnectionCls = _watched(pool.ConnectionCls)
        response = self._inner.send(request, stream, timeout, verify, cert, proxies)
        visit.received(response.status_code, retry_after_s(response.headers.get("Retry-After")))
        return response

    def close(self) -> None:
        self._inner.close()


@cache
def _watched(kind: Any) -> Any:
    """A kind of connection that its visit can cut. A server that sends a byte now and then never runs into a
    socket's timeout, be it in the handshake, the headers or the body."""
    if hasattr(kind, "is_watched"):
        return kind

    class Watched(kind):
        is_watched = True

        def connect(self) -> None:
            self._watch(lambda: getattr(self, "sock", None))
            super().connect()

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            sock = self.sock                # http.client forgets it where the answer ends the connection
            self._watch(lambda: sock)
            return super().getresponse(*args, **kwargs)

        def _watch(self, find: Callable[[], Any]) -> None:
            visit = self.visit = current()

            def cut() -> None:
                # Others may use the connection by now.
                if self.visit is visit and isinstance(sock := find(), socket.socket):
                    with suppress(OSError):
                        # Past ssl's own method, which would let the reader go on with what is encrypted.
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)

            if visit is not None:
                visit.connected(cut)

    return Watched
