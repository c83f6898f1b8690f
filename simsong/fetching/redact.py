"""Keeping out of rows, messages and logs what is nobody's business: passwords, cookies, signed addresses.

Sites say again what they were sent: in error pages, beside a status, in addresses they redirect to.
"""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, unquote, urlsplit

from yt_dlp.cookies import YoutubeDLCookieJar

from simsong.config import NetworkSettings
from simsong.config_loader import secret

HIDDEN = "***"
# Characters of a secret; cookies and arguments such as "en", "1" and "web" are none, and stand everywhere.
SHORTEST, SHORTEST_COOKIE, SHORTEST_ARGUMENT = 3, 8, 16
_TOKENS = ("GENIUS_ACCESS_TOKEN",)
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
# A parameter of an address that is named like a secret: by a part of its name, or by its last word.
_PARAMETER = re.compile(
    r"([?&;](?:[\w.\-]*(?:signature|token|secret|passw|credential|cookie|session|policy|hmac|jwt|auth|apikey"
    r"|accesskey)[\w.\-]*|(?:[\w.\-]*[_.\-])?(?:l?sig|pot|key|hash|pass|pwd))=)[^&;\s\"'<>]+", re.IGNORECASE)


def plain(text: str, secrets: Collection[str] = ()) -> str:
    """The text without credentials of addresses, the values of their parameters that are named like secrets,
    and these secrets."""
    text = _PARAMETER.sub(rf"\g<1>{HIDDEN}", _CREDENTIALS.sub("//", text))
    for word in secrets:
        text = text.replace(word, HIDDEN)
    return text


def secrets_in(url: str | None) -> tuple[str, ...]:
    """The values of an address that are hidden where it is written down."""
    return tuple(unquote(match[0].partition("=")[2]) for match in _PARAMETER.finditer(url or ""))


def secrets_of(network: NetworkSettings, cookies: str | None = None) -> tuple[str, ...]:
    """What sites are sent and might say again, in each form that they may have it in; the longest first.

    Args: cookies: the text of a cookies.txt.
    """
    words_ = {*_of_proxy(network.proxy), *_of_cookies(cookies), *filter(None, map(secret, _TOKENS))}
    for arguments in network.extractor_args.values():       # such as youtube's po_token: client+token, …
        words = re.split("[+,: ]", " ".join(value for values in arguments.values() for value in values))
        words_.update(word for word in words if len(word) >= SHORTEST_ARGUMENT)
    forms = {form for one in words_ for form in (one, quote(one, safe=""))}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda s: (-len(s), s)))


def _of_proxy(proxy: str | None) -> Iterator[str]:
    try:
        parts = urlsplit(proxy or "")
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
        yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()    # as it is sent


def _of_cookies(text: str | None) -> Iterator[str]:
    if text is not None:
        jar = YoutubeDLCookieJar(io.StringIO(text))     # pyright: ignore[reportArgumentType]
        jar.load(ignore_discard=True, ignore_expires=True)
        yield from (value for cookie in jar if len(value := cookie.value or "") >= SHORTEST_COOKIE)


class _Plain(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = plain(record.getMessage()), None
        return True


_PLAIN = _Plain()


def redact_logs() -> None:
    """Of the library that sends the requests: at level DEBUG it logs all their addresses."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_PLAIN)           # once, however often it is called
