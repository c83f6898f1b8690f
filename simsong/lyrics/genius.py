"""Lyrics from Genius by lyricsgenius, its weak points closed: every HTTP fault has a type (it raises on none,
a 429 page reads as "no lyrics"), and hits count by our own score (it takes the first, whoever sings)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests
from lyricsgenius import Genius

from simsong.config import NetworkSettings
from simsong.errors import ConfigError, FetchError, LyricsJunk, LyricsNotFound
from simsong.fetching import Site, with_retries
from simsong.lyrics.clean import Lyrics, clean, is_instrumental, junk_reason, language
from simsong.lyrics.web import failing_as, prepare, refusal
from simsong.matching import query, similarity
from simsong.records import Wanted

T = TypeVar("T")

HITS = 10
TOKENS = "https://genius.com/api-clients"

_SONG_PAGE = re.compile(r"data-lyrics-container|__PRELOADED_STATE__|LyricsPlaceholder")
_INSTRUMENTAL_PAGE = re.compile(r">\s*This song is an instrumental\s*<")
_CHALLENGE = re.compile(
    r"captcha|just a moment|cf[-_]chl|attention required|access denied|\b(?:human|robot|bot)\b", re.I)
_CONTAINER = re.compile(r'<div\b[^<>]*\bdata-lyrics-container="true"[^<>]*>')


class GeniusLyrics:
    """Asks Genius, or a server at `root` that answers as api.genius.com and genius.com do (`root`/search, …).

    See `LyricsProvider`. The token goes to the API alone, and into no message.
    Raises: ConfigError for a token that no header can hold.
    """

    def __init__(self, token: str, root: str | None, network: NetworkSettings, threshold: float,
                 site: Site | None = None) -> None:
        self.site = site or Site("Genius", network)
        self._client = _Client(token, root, network)
        self._network, self._threshold = network, threshold

    def lyrics(self, wanted: Wanted) -> Lyrics:
        """See `LyricsProvider`; ConfigError where the token is refused."""
        subject = query(wanted.artist, wanted.title)
        with self.site.visit(subject):
            try:
                return self._lyrics(wanted, subject)
            except FetchError as error:
                if error.reason == LyricsNotFound.reason:
                    raise LyricsNotFound(subject, error.detail) from None
                raise FetchError(subject, error.detail, error.reason, error.stop) from None

    def _lyrics(self, wanted: Wanted, subject: str) -> Lyrics:
        hit, score = self._best_hit(wanted, subject)
        path = str(hit.get("path") or "").lstrip("/")
        url = self._client.WEB_ROOT + path
        if hit.get("instrumental"):
            return Lyrics("instrumental", None, url, score, None)
        if hit.get("lyrics_state") == "unreleased" or not path:
            raise LyricsNotFound(subject, f"{url}: no lyrics there yet")
        text = self._retried(lambda: self._client.lyrics(song_url=Genius.WEB_ROOT + path)) or ""
        if is_instrumental(text):
            return Lyrics("instrumental", None, url, score, None)
        if not (cleaned := clean(text)):
            raise LyricsNotFound(subject, f"{url}: no lyrics on the page")
        if reason := junk_reason(cleaned, wanted.title, wanted.artist):
            raise LyricsJunk(subject, f"{url}: {reason}")
        return Lyrics("text", cleaned, url, score, language(cleaned))

    def _best_hit(self, wanted: Wanted, subject: str) -> tuple[Mapping[str, Any], float]:
        answer = self._retried(lambda: self._client.search_songs(subject, per_page=HITS))
        try:
            songs = [hit["result"] for hit in answer["hits"] if hit.get("type", "song") == "song"]
            songs = [song for song in songs if not self._is_no_song(song, wanted)]
            scored = [(song, match_score(wanted, song)) for song in songs]
        except (KeyError, TypeError, AttributeError):
            raise FetchError(subject, "Genius's search answered in an unknown form", "server_error") from None
        if not scored:
            raise LyricsNotFound(subject, "Genius does not know it")
        best, score = max(scored, key=lambda item: item[1])     # of equals the first, as Genius ranks them
        if score < self._threshold:
            name = f"{best['primary_artist']['name']} - {best['title']}"
            raise LyricsNotFound(subject, f"the nearest on Genius is {name} (score {score:.0f} of 100)")
        return best, score

    def _retried(self, call: Callable[[], T]) -> T:
        return with_retries(call, self._network.retries)

    def _is_no_song(self, song: Mapping[str, Any], wanted: Wanted) -> bool:
        """Track lists, credits, interviews, …, unless the wanted title has the word."""
        title, wanted_title = song["title"].lower(), wanted.title.lower()
        return any(re.search(rf"(?<!\w){re.escape(term)}(?!\w)", title) and term not in wanted_title
                   for term in self._client.excluded_terms)


def match_score(wanted: Wanted, song: Mapping[str, Any]) -> float:
    """How sure it is that a hit is the wanted song, 0..100: the weaker of title and artist, so that the same
    title by somebody else fails, and so does another song by the same artist."""
    titles = (song["title"], song.get("title_with_featured") or "")
    artists = (song["primary_artist"]["name"], song.get("artist_names") or "")
    return min(max(similarity(wanted.title, title) for title in titles),
               max(similarity(wanted.artist, artist) for artist in artists))


class _Client(Genius):
    """lyricsgenius' client, whose requests raise FetchError (with no subject yet) or ConfigError."""

    def __init__(self, token: str, root: str | None, network: NetworkSettings) -> None:
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(f"GENIUS_ACCESS_TOKEN: this is no token; make one at {TOKENS}")
        super().__init__(token, sleep_time=0, user_agent="simsong")
        self.authorization_header = {"authorization": f"Bearer {token}"}    # which it drops in subclasses
        self.timeout = network.timeout_s        # pyright: ignore[reportAttributeAccessIssue]  requests takes floats
        if root is not None:
            self.API_ROOT = self.WEB_ROOT = root.rstrip("/") + "/"
            self.PUBLIC_API_ROOT = self.WEB_ROOT + "api/"
        self._session.hooks["response"].append(self._receive)
        prepare(self._session, network)

    def _make_request(self, path: str, method: str = "GET", params_: Any = None, public_api: bool = False,
                      web: bool = False, **kwargs: Any) -> dict[str, Any]:
        with failing_as("Genius", self.timeout):
            answer = super()._make_request(path, method, params_, public_api, web, **kwargs)
        return {"html": _song_page(answer["html"])} if web else answer

    def _receive(self, response: requests.Response, *_: Any, **__: Any) -> None:
        if not response.is_redirect:
            self._raise_for_status(response.status_code, api="Authorization" in response.request.headers)

    def _raise_for_status(self, status: int, api: bool) -> None:
        if status == 200:
            return
        if status == 401 and api:
            raise ConfigError(f"GENIUS_ACCESS_TOKEN: Genius refuses this token; make one at {TOKENS}")
        if status in (404, 410) and not api:
            raise FetchError("", "the page is gone", LyricsNotFound.reason)
        raise refusal("Genius", status, api)


def _song_page(page: str) -> str:
    """The page, if it is a song's (bot checks come with status 200 too), such that lyricsgenius reads all of
    it: that a song is an instrumental, and a line's end before containers."""
    if not _SONG_PAGE.search(page):
        if _CHALLENGE.search(page):
            raise FetchError("", "Genius asks for a proof of being human", "blocked", stop=True)
        raise FetchError("", "Genius answered with a page that is no song page", "server_error")
    if "data-lyrics-container" not in page and _INSTRUMENTAL_PAGE.search(page):
        return '<div data-lyrics-container="true">[Instrumental]</div>'
    return _CONTAINER.sub(r"\g<0><br>", page)

