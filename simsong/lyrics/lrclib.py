"""Lyrics from LRCLIB, an open database that needs no account: https://lrclib.net/docs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from simsong.config import NetworkSettings
from simsong.errors import FetchError, LyricsJunk, LyricsNotFound
from simsong.fetching import Site, with_retries
from simsong.lyrics.clean import Lyrics, clean, is_instrumental, junk_reason, language
from simsong.lyrics.web import USER_AGENT, failing_as, prepare, refusal
from simsong.matching import core, query, similarity
from simsong.records import Wanted

ROOT = "https://lrclib.net"
NEAR_S = 5.0                    # lengths that differ by less are of one recording
MOST_OFF = 30.0                 # taken off the score at most for another length: its words may be the same


class Lrclib:
    """Asks LRCLIB, or a server at `root` that answers as it does. See `LyricsProvider`."""

    def __init__(self, root: str | None, network: NetworkSettings, threshold: float,
                 site: Site | None = None) -> None:
        self.site = site or Site("LRCLIB", network)
        self._root, self._network, self._threshold = (root or ROOT).rstrip("/"), network, threshold
        self._session = requests.Session()
        self._session.headers["User-Agent"] = USER_AGENT        # which LRCLIB asks clients for
        prepare(self._session, network)

    def lyrics(self, wanted: Wanted) -> Lyrics:
        """See `LyricsProvider`."""
        subject = query(wanted.artist, wanted.title)
        with self.site.visit(subject):
            try:
                return self._best(wanted, subject)
            except FetchError as error:
                raise FetchError(subject, error.detail, error.reason, error.stop) from None

    def _best(self, wanted: Wanted, subject: str) -> Lyrics:
        names = {"track_name": core(wanted.title), "artist_name": core(wanted.artist)}
        records: list[Mapping[str, Any]] = []
        if wanted.duration_s:       # the very recording, cheaper for the site than a search
            records = self._ask("get", {**names, "duration": str(round(wanted.duration_s))})
        good = self._good(wanted, records) or self._good(wanted, records := self._ask("search", names))
        if not good:
            nearest = max(records, key=lambda record: match_score(wanted, record), default=None)
            raise LyricsNotFound(subject, "LRCLIB does not know it" if nearest is None else
                                 f"the nearest on LRCLIB is {nearest['artistName']} - {nearest['trackName']} "
                                 f"(score {match_score(wanted, nearest):.0f} of 100)")
        junk: list[str] = []
        for score, record in good:
            url, text = f"{self._root}/api/get/{record.get('id')}", _text(record)
            if record.get("instrumental") or is_instrumental(text):
                return Lyrics("instrumental", None, url, score, None)
            if not (cleaned := clean(text)):
                continue
            if (reason := junk_reason(cleaned, wanted.title, wanted.artist)) is None:
                return Lyrics("text", cleaned, url, score, language(cleaned))
            junk.append(f"{url}: {reason}")
        if junk:
            raise LyricsJunk(subject, junk[0])
        raise LyricsNotFound(subject, f"{self._root}/api/get/{good[0][1].get('id')}: no lyrics there")

    def _good(self, wanted: Wanted,
              records: Sequence[Mapping[str, Any]]) -> list[tuple[float, Mapping[str, Any]]]:
        """Those that reach the threshold, best first; of equals those with words, then as LRCLIB ranks."""
        scored = [(match_score(wanted, record), record) for record in records]
        return sorted(((score, record) for score, record in scored if score >= self._threshold),
                      key=lambda item: (-item[0], not _text(item[1])))

    def _ask(self, what: str, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """The records that the API gives. Raises: FetchError."""
        return with_retries(lambda: self._request(what, params), self._network.retries)

    def _request(self, what: str, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        with failing_as("LRCLIB", self._network.timeout_s):
            answer = self._session.get(f"{self._root}/api/{what}", params=params,
                                       timeout=self._network.timeout_s)
            if answer.status_code == 404 and what == "get":
                return []
            if answer.status_code != 200:
                raise refusal("LRCLIB", answer.status_code, is_api=True)
            body = answer.json()
        records = body if isinstance(body, list) else [body]
        if not all(isinstance(record, dict) and isinstance(record.get("trackName"), str)
                   and isinstance(record.get("artistName"), str) for record in records):
            raise FetchError("", "LRCLIB answered in an unknown form", "server_error")
        return records


def match_score(wanted: Wanted, record: Mapping[str, Any]) -> float:
    """How sure it is that a record is of the wanted song, 0..100: the weaker of title and artist, less a
    point for each second beyond NEAR_S by which the length differs, MOST_OFF at most."""
    names = min(similarity(wanted.title, record["trackName"]),
                similarity(wanted.artist, record["artistName"]))
    length_s = record.get("duration")
    if not wanted.duration_s or not isinstance(length_s, int | float) or not math.isfinite(length_s) \
            or length_s <= 0:
        return names
    off_s = abs(length_s - wanted.duration_s)
    return max(0.0, names - min(max(0.0, off_s - NEAR_S), MOST_OFF))


def _text(record: Mapping[str, Any]) -> str:
    return str(record.get("plainLyrics") or record.get("syncedLyrics") or "")
