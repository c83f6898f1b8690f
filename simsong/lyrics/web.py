"""What clients of lyrics sites share: polite sessions, bounded answers, a type for each fault of HTTP."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from simsong.config import NetworkSettings
from simsong.errors import FetchError
from simsong.fetching.http import make_polite
from simsong.fetching.site import current

MAX_BYTES = 10_000_000          # of one answer; song pages have up to 1 MB
USER_AGENT = f"SimSong/{version('simsong')}"

# reason, and whether it concerns the site as a whole; 5xx is `server_error`, what is not here `unavailable`.
_STATUSES = {403: ("blocked", True), 408: ("timeout", False), 429: ("rate_limited", True)}


def prepare(session: requests.Session, network: NetworkSettings) -> None:
    """Let a session, which asks in a visit of its site, wait for its turn, and read answers within bounds."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=network.workers))
    if network.proxy:
        session.proxies = {"http": network.proxy, "https": network.proxy}
    session.hooks["response"].insert(0, _read)
    make_polite(session)


@contextmanager
def failing_as(site: str, timeout_s: float) -> Generator[None]:
    """Whatever a request raises becomes a FetchError, with no subject yet. Texts of requests' exceptions are
    not passed on: they quote URLs and headers."""
    try:
        yield
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
        raise FetchError("", f"no answer within {timeout_s:g} s", "timeout") from None
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError):
        raise FetchError("", "the answer was cut short", "truncated") from None
    except requests.ConnectionError as error:
        raise FetchError("", f"no connection to {site} ({_cause(error)})", "connection") from None
    except (requests.exceptions.InvalidJSONError, AttributeError):      # or JSON that is no object
        raise FetchError("", f"{site}'s API answered with no JSON object", "server_error") from None
    except requests.TooManyRedirects:
        raise FetchError("", "redirected in circles", "server_error") from None
    except (requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError):
        raise FetchError("", "the answer does not unpack", "server_error") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise FetchError("", f"the request failed ({type(error).__name__})", "server_error") from None


def refusal(site: str, status: int, is_api: bool) -> FetchError:
    """What an HTTP status other than 200 means; an API has no reason of its own to refuse one song."""
    other = "server_error" if status >= 500 or is_api else "unavailable"
    reason, stop = _STATUSES.get(status, (other, False))
    return FetchError("", f"{site} answered with HTTP status {status}", reason, stop)


def _read(response: requests.Response, *_: Any, **__: Any) -> None:
    body = bytearray()
    while chunk := response.raw.read1(1 << 16, decode_content=True):
        body += chunk
        if len(body) > MAX_BYTES:
            response.raw.close()
            raise FetchError("", f"the answer has over {MAX_BYTES} bytes", "server_error")
    response.raw = io.BytesIO(body)
    if visit := current():
        visit.answered()
    if "charset" not in response.headers.get("Content-Type", ""):
        response.encoding = "utf-8"


def _cause(error: BaseException) -> str:
    """The innermost type of a chain of wrapped errors: "ConnectionRefusedError"."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return type(error).__name__
