"""yt-dlp as this project uses it: its requests take their turn, its downloads go on where one broke off.

Nothing of it is patched. Requests go through its own handler for `requests`, whose sessions are made polite;
`urlopen` and `dl`, which all of its downloaders call, are extended in a subclass.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import yt_dlp
from yt_dlp.networking import RequestDirector
from yt_dlp.networking._requests import RequestsResponseAdapter, RequestsRH
from yt_dlp.networking.common import Request, Response

from simsong.errors import FetchError
from simsong.fetching.http import make_polite
from simsong.fetching.site import current

_RANGE = re.compile(r"bytes[= ](\d+)-\d*(?:/(\d+))?")
SETTLED_S = 60          # RFC 9110, 8.8.2.2: a time of change is a strong validator when it is that long ago


class Partial:
    """A download on its way: files that begin with `name` in `folder`, and what tells their version.

    They are continued in a later run only where the server gave a strong validator, which is then sent as
    If-Range: what has changed since comes whole.
    """

    def __init__(self, folder: Path, name: str, subject: str) -> None:
        self.name, self._folder, self._subject = name, folder, subject
        self._record = folder / f"{name}.json"
        self.total: int | None = None           # bytes of the whole file
        self.validator: str | None = None       # ETag or Last-Modified
        self._format: str | None = None
        try:
            record = json.loads(self._record.read_text("utf-8"))
            self.total, self.validator, self._format = record["total"], record["validator"], record["format"]
        except (OSError, ValueError, KeyError, TypeError):
            self.drop()

    def drop(self) -> None:
        """Begin anew."""
        for file in self._folder.glob(f"{self.name}.*"):
            file.unlink(missing_ok=True)
        self.total = self.validator = self._format = None

    def keep(self) -> None:
        """For a later run, where that is safe."""
        if self.validator is None:
            self.drop()

    def choose(self, format_id: str | None) -> None:
        """That format is to be downloaded."""
        if self._format not in (None, format_id):
            self.drop()
        self._format = format_id

    def ask(self, request: Request) -> int:
        """Let a request for the rest ask for the rest of this version. Returns its first byte."""
        match = _RANGE.match(str(request.headers.get("Range")))
        start = int(match[1]) if match else 0
        if start and self.validator:
            request.headers["If-Range"] = self.validator
        return start

    def received(self, response: Response, start: int) -> None:
        """The server answers from byte `start` on, or whole. Raises: FetchError for another version."""
        match = _RANGE.match(str(response.get_header("Content-Range")))
        total = match[2] if match else response.get_header("Content-Length")
        total = int(total) if total and not response.get_header("Content-Encoding") else None
        now = _validator(response)
        if start and response.status == 206:
            if total != self.total or (now and self.validator and now != self.validator):
                response.close()
                self.drop()
                raise FetchError(self._subject, "the file has changed while it was downloaded", "truncated")
            return
        self.total, self.validator = total, now
        self._record.unlink(missing_ok=True)
        if now is not None:
            record = {"total": total, "validator": now, "format": self._format}
            self._record.write_text(json.dumps(record), "utf-8")


@dataclass(frozen=True)
class DownloadJob:
    """One call of yt-dlp."""

    partial: Partial | None = None              # None: nothing is downloaded
    accept: Callable[[dict[str, Any]], None] = lambda info: None         # raises where a page is refused
    tick: Callable[[], None] = lambda: None     # called for each block; raises to stop


class YtDlp(yt_dlp.YoutubeDL):
    """For one job after the other: an object takes 0.1 s to make, and keeps its connections."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.lines: list[str] = []              # the last that it said: some refusals are only said
        self._job, self._downloads = DownloadJob(), False
        super().__init__({                      # pyright: ignore[reportArgumentType]
            "logger": _Log(self.lines), "match_filter": lambda info, **_: self._job.accept(info),
            "progress_hooks": [lambda _: self._job.tick()], **options})

    def run(self, url: str, job: DownloadJob) -> dict[str, Any] | None:
        """What is at a URL; downloaded where the job has a place for it. Raises: whatever yt-dlp does."""
        self._job = job
        self.lines.clear()
        if job.partial is not None:
            params: Any = self.params
            params["outtmpl"]["default"] = f"{job.partial.name}.%(ext)s"
        return self.extract_info(url,
                                 download=job.partial is not None)     # pyright: ignore[reportReturnType]

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        # No other handler: what one refuses would go out by the next, unseen.
        polite: Any = [_PoliteRH]
        return super().build_request_director(polite, preferences)

    def dl(self, name: str, info: Any, *args: Any, **kwargs: Any) -> Any:
        if (partial := self._job.partial) is not None:
            partial.choose(info.get("format_id"))
        self._downloads = info.get("protocol") in ("http", "https")     # fragments are files of their own
        try:
            return super().dl(name, info, *args, **kwargs)
        finally:
            self._downloads = False

    def urlopen(self, req: Any) -> Response:
        partial = self._job.partial
        if partial is None or not self._downloads:
            return super().urlopen(req)
        start = partial.ask(req)
        response = super().urlopen(req)
        partial.received(response, start)
        return response


class DownloadPool:
    """As many of them as are in use at a time."""

    def __init__(self, options: Callable[[], dict[str, Any]]) -> None:
        self._options, self._free, self._lock = options, list[YtDlp](), threading.Lock()

    @contextmanager
    def one(self) -> Generator[YtDlp]:
        with self._lock:
            site = self._free.pop() if self._free else None
        site = site or YtDlp(self._options())
        try:
            yield site
        finally:
            with self._lock:
                self._free.append(site)


class _Answer(RequestsResponseAdapter):
    """Tells its visit when it was read to its end."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer._requests_response)
        self._answer = answer           # it would close the connection when it is collected

    def close(self) -> None:
        super().close()
        if visit := current():
            visit.answered()


class _PoliteRH(RequestsRH):
    def _send(self, request: Any) -> Any:
        return _Answer(super()._send(request))

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        session = super()._create_instance(*args, **kwargs)     # pyright: ignore[reportAttributeAccessIssue]
        make_polite(session)
        return session


class _Log:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def debug(self, message: str) -> None:
        self._lines.append(message)
        del self._lines[:-10]

    info = warning = error = debug


def _validator(response: Response) -> str | None:
    """What names a version for sure: a strong ETag, or a time of change long enough ago."""
    etag = str(response.get_header("ETag"))
    if etag.startswith('"'):
        return etag
    changed, now = response.get_header("Last-Modified"), response.get_header("Date")
    try:
        age = parsedate_to_datetime(now or "") - parsedate_to_datetime(changed or "")
    except (ValueError, TypeError):
        return None
    return changed if age.total_seconds() >= SETTLED_S else None
