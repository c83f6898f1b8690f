"""Finding the right recording of a song on the web and downloading it, with yt-dlp."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    unsmuggle_url,
)

from simsong.audio.choose import Candidate, CandidateVerdict, Scored, rank_all, too_far_in_length, verdicts
from simsong.audio.ytdlp import DownloadJob, DownloadPool, Partial
from simsong.config import FetchSettings, NetworkSettings
from simsong.errors import REASONS, ConfigError, FetchError, FileMissing
from simsong.fetching import Held, Postponed, Site, with_retries
from simsong.fetching.redact import plain, secrets_in, secrets_of
from simsong.fetching.subsonic import is_subsonic, secrets_of_user, stream_of
from simsong.files.places import local_path
from simsong.matching import query
from simsong.records import Wanted

__all__ = ["AudioFetcher", "FetchedAudio", "candidate_of", "classify", "one_line", "read_cookies"]

TRIED = 2                   # candidates that are asked for at most, the second where the first is refused
BYTES_A_SECOND = 250_000    # of uncompressed stereo with something to spare: the bound on a file's size
LONGEST_NAME = 500          # characters of a title or a channel: more is no name
LEFT_FOR_S = 30 * 86_400    # then a part of a download that nobody continued is removed
# Refusals of one recording, after which the next candidate is worth asking for.
_OF_THE_RECORDING = frozenset({"removed", "private", "drm", "geo_blocked", "age_restricted", "unavailable",
                               "too_long", "no_match"})


@dataclass(frozen=True)
class FetchedAudio:
    path: Path                      # in the fetcher's folder under a name of its own; or the local file
    url: str
    match_score: float | None       # None where the URL was known
    title: str | None               # as the site has it
    duration_s: float | None = None     # as the page has it


class AudioFetcher:
    """Fetches audio, one song a call; calls may run in parallel."""

    def __init__(self, fetch: FetchSettings, network: NetworkSettings, folder: Path,
                 site: Site | None = None) -> None:
        """Args:
            folder: where downloads are put, and kept where they broke off; it must exist.
            site: how the source is asked, shared with whoever else asks it.

        Raises: ConfigError where the search has no {query}, or the cookies cannot be read.
        """
        if "{query}" not in fetch.search:
            raise ConfigError(f"fetch.search = {fetch.search!r}: it must hold {{query}}")
        self._fetch, self._network, self._folder = fetch, network, folder
        self._cookies = read_cookies(network.cookies_file) if network.cookies_file else None
        self._secrets = (*secrets_of_user(), *secrets_of(network, self._cookies))
        self.site = site or Site(urlsplit(fetch.search).hostname or "YouTube", network)
        flat = {"extract_flat": "in_playlist", "playlistend": fetch.results}
        self._searches = DownloadPool(lambda: self._options(flat))
        self._downloads = DownloadPool(lambda: self._options({"playlist_items": "1"}))
        for left in folder.iterdir():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_FOR_S:
                    left.unlink()

    def fetch(self, wanted: Wanted,
              keep: Callable[[list[CandidateVerdict]], None] = lambda _: None) -> FetchedAudio:
        """Download a song from its URL, or the best of what the search gives.

        Args: keep: is given what a search found, best first, and what became of each; also before a raise.
        Raises: FileMissing; Held where the source is not asked any more, or the disk is nearly full;
            FetchError for everything else, `no_match` where no candidate is good enough.
        """
        scheme = urlsplit(wanted.url).scheme if wanted.url else ""
        if wanted.url and scheme == "file":
            path = Path(local_path(wanted.url) or "")
            if not path.is_file():
                raise FileMissing(_subject(wanted), f"{path} is not there any more")
            return FetchedAudio(path, wanted.url, None, None)
        server = is_subsonic(wanted.url)
        if wanted.url and not server and scheme not in ("http", "https"):
            detail = one_line(f"{wanted.url}: not http, https, file", self._secrets)
            raise FetchError(_subject(wanted), detail, "unavailable")
        self._need_room()
        with self.site.visit(_subject(wanted)):
            if wanted.url and server:       # the address that lets in is told to nobody
                return replace(self._get(wanted, stream_of(wanted.url), None), url=wanted.url, title=None)
            return self._get(wanted, wanted.url, None) if wanted.url else self._find(wanted, keep)

    def done(self, wanted: Wanted) -> None:
        """What was downloaded for a song is in its place, or of no use: nothing of it is to be kept."""
        for left in self._folder.glob(f"{_name(wanted)}-*"):
            left.unlink(missing_ok=True)

    def _find(self, wanted: Wanted, keep: Callable[[list[CandidateVerdict]], None]) -> FetchedAudio:
        ranked = rank_all(wanted, with_retries(lambda: self.search(wanted), self._network.retries))
        winner: Candidate | None = None
        refused: dict[Candidate, FetchError] = {}
        try:
            for scored in self._good(wanted, ranked)[:TRIED]:
                try:
                    download = self._get(wanted, scored.candidate.url, scored)
                except FetchError as error:
                    refused[scored.candidate] = error
                    if error.reason not in _OF_THE_RECORDING:
                        raise
                else:
                    winner = scored.candidate
                    return download
            raise next(iter(refused.values()))
        finally:
            reasons = {candidate: error.reason for candidate, error in refused.items()}
            keep([self._plain(one) for one in verdicts(ranked, self._fetch.threshold, winner, reasons)])

    def search(self, wanted: Wanted) -> list[Candidate]:
        """What the search gives for a song, in the site's order. Raises: FetchError, Held."""
        text, template = query(wanted.artist, wanted.title), self._fetch.search
        words = quote(text, safe="") if "://" in template else text
        url = template.replace("{results}", str(self._fetch.results)).replace("{query}", words)
        with (self.site.visit(_subject(wanted)), self._searches.one() as yt_dlp,
              _failing_as(wanted, self._secrets, yt_dlp)):
            info = yt_dlp.run(url, DownloadJob())
        entries: Any = info.get("entries", [info]) if info else []
        candidates = (candidate_of(entry, rank) for rank, entry in enumerate(entries) if entry)
        return [candidate for candidate in candidates if candidate]

    def _good(self, wanted: Wanted, ranked: Sequence[Scored]) -> list[Scored]:
        """Those that reach the threshold. Raises: FetchError where none does."""
        if good := [scored for scored in ranked if scored.score >= self._fetch.threshold]:
            return good
        best = "; ".join(f"{s.score:.0f} {s.candidate.title[:60]!r} ({', '.join(s.against) or 'weak'})"
                         for s in ranked[:3])
        detail = f"none of {len(ranked)} reaches {self._fetch.threshold:g}: {best}" if ranked else "no result"
        raise FetchError(_subject(wanted), one_line(detail, self._secrets), "no_match")

    def _plain(self, verdict: CandidateVerdict) -> CandidateVerdict:
        candidate = verdict.candidate
        channel = plain(candidate.channel, self._secrets) if candidate.channel else candidate.channel
        shown = replace(candidate, url=plain(candidate.url, self._secrets), channel=channel,
                        title=plain(candidate.title, self._secrets))
        return replace(verdict, candidate=shown, why=plain(verdict.why, self._secrets))

    def _get(self, wanted: Wanted, url: str, scored: Scored | None) -> FetchedAudio:
        of_url = hashlib.sha256(url.encode()).hexdigest()[:8]
        partial = Partial(self._folder, f"{_name(wanted)}-{of_url}", _subject(wanted))
        try:
            return with_retries(lambda: self._attempt(wanted, url, scored, partial), self._network.retries)
        except (FetchError, Held) as error:
            passing = isinstance(error, Held) or REASONS[error.reason] == "transient"
            partial.keep() if passing else partial.drop()
            raise

    def _attempt(self, wanted: Wanted, url: str, scored: Scored | None, partial: Partial) -> FetchedAudio:
        """One download; the next attempt goes on where this one broke off."""
        job = DownloadJob(partial, self._acceptable(wanted, scored), self._ticker())
        with self._downloads.one() as yt_dlp, _failing_as(wanted, self._secrets, yt_dlp):
            info = yt_dlp.run(url, job)
            said = list(yt_dlp.lines)
        while info and "entries" in info:                   # a page with several recordings: the first
            info = next(iter(info["entries"]), None)
        file = ((info or {}).get("requested_downloads") or [{}])[0].get("filepath")
        if not info or not file or not Path(file).is_file():
            if any("larger than max-filesize" in line for line in said):
                raise FetchError(_subject(wanted), f"more than {self._most_bytes} bytes", "too_long")
            detail = one_line(f"{url}: there is nothing to download", self._secrets)
            raise FetchError(_subject(wanted), detail, "unavailable")
        self._check(wanted, Path(file), partial.total, info.get("filesize"))
        page = plain(unsmuggle_url(info.get("webpage_url") or url)[0], self._secrets)
        title = plain((scored.candidate.title if scored else info.get("title")) or "", self._secrets) or None
        return FetchedAudio(Path(file), page, scored.score if scored else None, title, info.get("duration"))

    def _check(self, wanted: Wanted, file: Path, total: int | None, least_bytes: int | None) -> None:
        """Refuse what is no whole file, or a page in place of one: removed, so that it is not continued."""
        size = file.stat().st_size
        wrong = size != total if total is not None else size < (least_bytes or 1)
        with file.open("rb") as opened:
            head = opened.read(_PAGE_BYTES)
        if not wrong and not _PAGE.match(head):
            return
        file.unlink()
        if wrong:
            raise FetchError(_subject(wanted), f"{size} of {total or least_bytes or 1} bytes", "truncated")
        words = _said(_MARKUP.sub(" ", head.decode("utf-8", "replace")))
        reason = words if words in _STOPPING else "server_error"
        raise FetchError(_subject(wanted), "a page in place of the audio", reason, reason in _STOPPING)

    def _need_room(self) -> None:
        """Raises: Held where the disk would soon be full."""
        free_mb, least_mb = shutil.disk_usage(self._folder).free >> 20, self._network.min_free_mb
        if free_mb < least_mb:
            detail = f"not asked: {free_mb} MB of disk are free, {least_mb} must be (network.min_free_mb)"
            raise Held(Postponed("disk_full", detail))

    def _ticker(self) -> Callable[[], None]:
        next_look_s = 0.0

        def tick() -> None:
            nonlocal next_look_s
            if (now := time.monotonic()) >= next_look_s:
                next_look_s = now + 1.0
                self._need_room()
        return tick

    def _acceptable(self, wanted: Wanted, scored: Scored | None) -> Callable[[dict[str, Any]], None]:
        """What only the page tells: refuse live streams, and what turns out to be of another length."""
        def check(info: dict[str, Any]) -> None:
            duration_s = info.get("duration")
            if info.get("live_status") in ("is_live", "is_upcoming") or info.get("is_live"):
                raise FetchError(_subject(wanted), "a live stream", "unavailable")
            if duration_s and duration_s > self._fetch.max_duration_s:
                raise FetchError(_subject(wanted), f"{duration_s:.0f} s long", "too_long")
            if duration_s and scored and too_far_in_length(wanted, duration_s):
                detail = f"{scored.candidate.title}: {duration_s:.0f} s long"
                raise FetchError(_subject(wanted), one_line(detail, self._secrets), "no_match")
        return check

    @property
    def _most_bytes(self) -> int:
        return int(self._fetch.max_duration_s * BYTES_A_SECOND)

    def _options(self, more: dict[str, Any]) -> dict[str, Any]:
        net = self._network
        # yt-dlp's own retries are off, since they repeat what concerns the whole source too: `with_retries`
        # is in their place. Cookies are handed over as text, since it would write a file anew.
        return {"quiet": True, "noprogress": True, "color": "never", "cachedir": False,
                "paths": {"home": str(self._folder)},
                "noplaylist": True, "format": self._fetch.format, "max_filesize": self._most_bytes,
                "fixup": "never", "updatetime": False, "socket_timeout": net.timeout_s, "retries": 0,
                "extractor_retries": 0, "fragment_retries": net.retries, "file_access_retries": 0,
                "skip_unavailable_fragments": False,
                "proxy": net.proxy, "nocheckcertificate": net.insecure, "ratelimit": net.rate_limit_bps,
                "extractor_args": {extractor.lower(): {name: list(values) for name, values in args.items()}
                                   for extractor, args in net.extractor_args.items()},
                "cookiefile": None if self._cookies is None else io.StringIO(self._cookies), **more}


# What sites and extractors say, as (reason, words). The first that fits counts, so global ones stand first.
_PHRASES = tuple((reason, re.compile(words, re.IGNORECASE)) for reason, words in (
    ("blocked", r"not a bot|captcha|unusual traffic|anti-bot|are you human"),
    ("rate_limited", r"rate.?limit|too many requests|try again later"),
    ("age_restricted", r"confirm your age|age.restricted|inappropriate for some|verify your age"),
    ("geo_blocked", r"in your country|in your region|from your location|geo.?restrict"),
    ("drm", r"drm.protected|\bdrm\b"),
    ("private", r"private video|(?:is|are|been made) private"),
    ("removed", r"removed|terminated|no longer available|deleted|does not exist|"
                r"copyright (?:claim|grounds|infringement)"),
))
_STOPPING = frozenset({"blocked", "rate_limited", "disk_full"})
_BY_STATUS = {404: "removed", 410: "removed", 408: "timeout", 429: "rate_limited", 451: "geo_blocked"}
_REFUSED = frozenset({401, 402, 403})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TIMEOUT = re.compile(r"timed? ?out", re.IGNORECASE)
_CUT_SHORT = re.compile(r"more expected|content too short|incompleteread|did not get any data|"
                        r"bytes, expected", re.IGNORECASE)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_URL = re.compile(r"https?://\S+")
_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_STATUS = re.compile(r"HTTP Error (\d{3})")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NOISE = re.compile(r"^\s*ERROR:\s*|\[download\] Got error:\s*|;? ?please report this issue on.*|"
                    r" \(caused by .*| Giving up after \d+ retries.*| Use --cookies.*",
                    re.IGNORECASE | re.DOTALL)
_GOOGLE = re.compile(r"(?:^|\.)(?:googlevideo|youtube)\.com$")
LONGEST_DETAIL = 300
_PAGE_BYTES = 65_536


def classify(error: BaseException, page: Callable[[HTTPError], str] = lambda _: "") -> tuple[str, bool]:
    """The reason of a failure of yt-dlp, and whether it concerns the whole source. `page` reads what a
    refusal (401, 402, 403) says."""
    if isinstance(error, DownloadError) and error.exc_info and error.exc_info[1] is not None:
        cause = error.exc_info[1]
    else:
        cause = error
    chain = list(_causes(cause))
    text = cause.orig_msg if isinstance(cause, ExtractorError) else str(cause)
    if "caused by Cloudflare anti-bot challenge" in str(error):     # its cause is a mere 403
        return "blocked", True
    reason = _reason(chain, text, page)
    return reason, reason in _STOPPING


def one_line(text: str, secrets: Collection[str] = ()) -> str:
    """A message for a row: one line of at most 300 characters, without colours, bug-report pleas, secrets."""
    text = plain(_NOISE.sub("", _COLOUR.sub("", text)), secrets)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= LONGEST_DETAIL else text[: LONGEST_DETAIL - 1] + "…"


def _reason(chain: Sequence[BaseException], text: str, page: Callable[[HTTPError], str]) -> str:
    # Types first: a message may hold the song's title, and a song may be called "Captcha".
    full = any(isinstance(e, OSError) and e.errno in _FULL for e in chain)
    downloader = isinstance(chain[0], DownloadError)        # gives up with a message alone
    if full or (downloader and _NO_SPACE.search(text)):
        return "disk_full"
    for e in chain:
        if isinstance(e, HTTPError):
            said = page(e) if e.status in _REFUSED else ""
            return _reason_of_status(e.status, said, urlsplit(e.response.url or "").hostname or "")
    if any(isinstance(e, GeoRestrictedError) for e in chain):
        return "geo_blocked"
    if any(isinstance(e, IncompleteRead | ContentTooShortError) for e in chain):
        return "truncated"
    transport = any(isinstance(e, TransportError | ConnectionError) for e in chain)
    if transport or downloader:
        if status := _STATUS.search(text):
            return _reason_of_status(int(status[1]), "", "")
        if _CUT_SHORT.search(text):
            return "truncated"
        if any(isinstance(e, TimeoutError) for e in chain) or _TIMEOUT.search(text):
            return "timeout"
        if transport or "[download] Got error" in text:
            return "connection"
    if isinstance(chain[0], ExtractorError) and _TIMEOUT.search(text):
        return "timeout"
    return _said(_URL.sub("", text)) or "unavailable"


def _said(text: str) -> str | None:
    return next((reason for reason, words in _PHRASES if words.search(text)), None)


def _reason_of_status(status: int, body: str, host: str) -> str:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500 or status < 400:           # below: redirected in circles
        return "server_error"
    if status in _REFUSED:
        # YouTube refuses media to clients it does not trust, whatever the song.
        return _said(_MARKUP.sub(" ", body)) or ("blocked" if _GOOGLE.search(host) else "private")
    return "unavailable"


def _page(refusal: HTTPError, site: YoutubeDL) -> str:
    """What the page says with which a site refuses: whether it is this song that may not be had, or we."""
    with suppress(Exception):       # a refusal whose page cannot be read is no less a refusal
        if body := refusal.response.read(_PAGE_BYTES):
            return body.decode("utf-8", "replace")
        try:                        # yt-dlp's generic extractor has read it already, so it is asked for again
            site.urlopen(refusal.response.url).close()
        except HTTPError as again:
            return again.response.read(_PAGE_BYTES).decode("utf-8", "replace")
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    ids: set[int] = set()
    while error is not None and id(error) not in ids:
        ids.add(id(error))
        yield error
        inner = getattr(error, "cause", None)
        if isinstance(inner, BaseException):
            error = inner
        else:       # what an extractor was doing before it refused is no cause of the refusal
            error = error.__cause__ or (None if isinstance(error, ExtractorError) else error.__context__)


@contextmanager
def _failing_as(wanted: Wanted, secrets: Collection[str], site: YoutubeDL) -> Iterator[None]:
    """Whatever yt-dlp raises becomes a FetchError about this song: its extractors meet what sites send."""
    try:
        yield
    except (FetchError, Held, MemoryError):
        raise
    except Exception as error:
        reason, stop = classify(error, lambda refusal: _page(refusal, site))
        words = (*secrets, *secrets_in(wanted.url))
        detail = one_line(str(error) or type(error).__name__, words)
        raise FetchError(_subject(wanted), detail, reason, stop) from None


def candidate_of(entry: dict[str, Any], rank: int) -> Candidate | None:
    """A flat entry of yt-dlp's, at this place of the search's order (from 0); None without URL or title. The
    site's words are kept as they are, so far as they can be written as text at all."""
    url, title = _words(entry.get("url") or entry.get("webpage_url")), _words(entry.get("title"))
    if not url or not title:
        return None
    views = _number(entry.get("view_count"))
    return Candidate(url, title[:LONGEST_NAME], _number(entry.get("duration")) or None,
                     (_words(entry.get("channel") or entry.get("uploader")) or "")[:LONGEST_NAME] or None,
                     bool(entry.get("channel_is_verified")), None if views is None else int(views), rank,
                     entry.get("live_status") in ("is_live", "is_upcoming"),
                     (_words(entry.get("description")) or "")[:LONGEST_NAME] or None)


def _words(value: object) -> str | None:
    """What is text, without halves of surrogate pairs, which no table can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


def read_cookies(file: str) -> str:
    """The text of a cookies.txt. Raises: ConfigError."""
    try:
        text = Path(file).expanduser().read_text("utf-8")
        YoutubeDLCookieJar(io.StringIO(text)).load()    # pyright: ignore[reportArgumentType]
    except Exception:       # its message would show the line that is wrong
        raise ConfigError(f"network.cookies_file: {file} is not a readable cookies.txt (Netscape)") from None
    return text


def _subject(wanted: Wanted) -> str:
    return " - ".join(part for part in (wanted.artist, wanted.title) if part) or wanted.track_id


def _name(wanted: Wanted) -> str:
    """What a song's files begin with, the same in each run."""
    return hashlib.sha256(wanted.track_id.encode()).hexdigest()[:16]
