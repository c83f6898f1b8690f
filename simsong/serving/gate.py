"""What every request passes: who may ask, from where, how often, how much; counts and a line for each.

One ASGI layer around the application, so that also what the framework answers by itself comes by here.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simsong.config import ServeSettings
from simsong.serving.problems import problem

COOKIE = "simsong"
CLIENTS = 10_000  # whose requests are counted at a time
SAFE = {"GET", "HEAD", "OPTIONS"}
BODY_BYTES = 1 << 20  # of a request that is no upload
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
# Open to everybody: whether it lives, the page's own files (without data), and the door itself.
OPEN = ("/api/health", "/api/ready", "/api/session")
_log = logging.getLogger("simsong.serve")


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "simsong_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "simsong_request_seconds",
            "Seconds until a request was answered",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
        )
        self.refused = Counter(
            "simsong_refused",
            "Requests refused before they were looked at",
            ("reason",),
            registry=self.registry,
        )


class Gate:
    """Args: token: what must be brought; None lets everybody in."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, token: str | None, metrics: Metrics) -> None:
        self.app, self.settings, self.token, self.metrics = app, settings, token, metrics
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if status >= 400 and scope["method"] not in SAFE:  # a body may be on its way, without end
                    headers["Connection"] = "close"
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path_format", None) or (
                "page" if status < 400 and scope["method"] in SAFE else "none"
            )
            method = (
                scope["method"] if scope["method"] in SAFE | {"POST", "PUT", "DELETE", "PATCH"} else "other"
            )
            took_s = time.perf_counter() - began
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.seconds.labels(route).observe(took_s)
            # Without its query, where players put passwords.
            _log.debug("%s %s %d %.1f ms", method, route, status, 1000 * took_s)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if (reason := self._wrong_host(headers)) or (reason := self._foreign(scope, headers)):
            self.metrics.refused.labels("origin").inc()
            return problem(403, "origin", reason)
        if (wait_s := self._too_often(scope)) > 0:
            self.metrics.refused.labels("rate").inc()
            return problem(
                429,
                "too-many-requests",
                f"more than {self.settings.requests_per_minute} requests a minute",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        if not self._may_enter(scope, headers, path):
            self.metrics.refused.labels("token").inc()
            if path.startswith("/rest/"):  # players read an answer, whose status is 200
                return None
            return problem(
                401,
                "token",
                "a token is needed: Authorization: Bearer …",
                {"WWW-Authenticate": 'Bearer realm="simsong"'},
            )
        if self._is_large(scope, headers):
            return problem(413, "too-large", f"a body may have {BODY_BYTES >> 20} MB")
        return None

    def _wrong_host(self, headers: Headers) -> str | None:
        """A page of another site whose name was made to mean this machine asks by that name; without a token
        it is refused, and with one it has none."""
        if self.token is not None:
            return None
        host = (
            (urlsplit(f"//{headers.get('host', '')}").hostname or "")
            if _is_host(headers.get("host", ""))
            else ""
        )
        expected = (
            host in ("localhost", self.settings.host, *self.settings.hosts)
            or host.endswith(".localhost")
            or _is_address(host)
        )
        return None if expected else "asked by a name that serve.hosts does not have"

    def _foreign(self, scope: Scope, headers: Headers) -> str | None:
        """Another site's page may read if serve.cors names it, and changes nothing otherwise."""
        if scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        if origin is None or origin in self.settings.cors or "*" in self.settings.cors:
            return None
        own = urlsplit(origin).netloc if origin != "null" else ""
        return None if own and own == headers.get("host") else "asked from a page of another site"

    def _too_often(self, scope: Scope) -> float:
        """Seconds to wait; 0 where a client may ask now. A bucket of a quarter minute's requests each."""
        if (per_minute := self.settings.requests_per_minute) is None or scope["path"] in OPEN[:2]:
            return 0.0
        client, now = (scope.get("client") or ("",))[0], time.monotonic()
        room = max(1.0, per_minute / 4)
        left, at = self._buckets.pop(client, (room, now))
        left = min(room, left + (now - at) * per_minute / 60)
        wait_s = 0.0 if left >= 1 else (1 - left) * 60 / per_minute
        self._buckets[client] = (left - (wait_s == 0), now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return wait_s

    def _may_enter(self, scope: Scope, headers: Headers, path: str) -> bool:
        scope.setdefault("state", {})["may_enter"] = True
        if self.token is None or path in OPEN or not (path.startswith(("/api", "/rest", "/metrics"))):
            return True
        authorization = headers.get("authorization", "")
        scheme, _, word = authorization.partition(" ")
        may_enter = scheme.lower() == "bearer" and same(word.strip(), self.token)
        may_enter = may_enter or same(_cookie(headers), session_of(self.token))
        if not may_enter and path.startswith("/rest/"):
            may_enter = may_play(parse_qs(scope["query_string"].decode("latin-1")), self.token)
        scope["state"]["may_enter"] = may_enter
        return may_enter

    def _is_large(self, scope: Scope, headers: Headers) -> bool:
        """Of uploads their own route counts the bytes."""
        if scope["method"] in SAFE or scope["path"] == "/api/similar/file":
            return False
        length = headers.get("content-length")
        if length is None:
            return "transfer-encoding" in headers
        return not length.isdigit() or int(length) > BODY_BYTES


def session_of(token: str) -> str:
    """What a browser keeps of a token: it opens this server, and is not the token."""
    return hmac.new(token.encode(), b"simsong session", hashlib.sha256).hexdigest()


def same(word: str, wanted: str) -> bool:
    return hmac.compare_digest(word.encode(), wanted.encode())


def may_play(parameters: dict[str, list[str]], token: str) -> bool:
    """Whether the parameters of a Subsonic request hold the token, as apiKey, as password or salted."""

    def one(name: str) -> str:
        return (parameters.get(name) or [""])[0]

    if same(one("apiKey"), token):
        return True
    if salt := one("s"):
        # The protocol's own way; a salted digest is all that older players send.
        return same(one("t").lower(), hashlib.md5((token + salt).encode(), usedforsecurity=False).hexdigest())
    word = one("p")
    if word.startswith("enc:"):
        try:
            word = bytes.fromhex(word[4:]).decode()
        except ValueError:
            return False
    return bool(word) and same(word, token)


def _cookie(headers: Headers) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _is_host(text: str) -> bool:
    try:
        _ = urlsplit(f"//{text}").port
    except ValueError:
        return False
    return bool(text)


def _is_address(host: str) -> bool:
    """An address names no site that could have been made to mean this machine."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
