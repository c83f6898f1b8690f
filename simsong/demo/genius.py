"""A lyrics site shaped as genius.com: what lyricsgenius asks for, over the songs of a demo world.

    search, songs/ID            the API, with a bearer token; 401 without
    api/search, api/search/…    the public API: flat hits, or (multi, song, …) in sections
    api/songs/ID                …
    ARTIST-TITLE-lyrics         the page that lyrics are scraped from
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from simsong.demo.plan import GeniusSong

WEB = "https://genius.com"         # lyricsgenius takes this off a song's URL before it asks its WEB_ROOT
LEAST = 0.4                        # of a query's words, rare ones counting more
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    body: str
    content_type: str = "text/html; charset=utf-8"


class GeniusSite:
    def __init__(self, songs: Sequence[GeniusSong], token: str | None = None) -> None:
        """token None accepts any bearer token, but demands one."""
        self._token = token
        self._song = {song.genius_id: song for song in songs}
        self._page = {_slug(song): song for song in songs}
        self._words = {song.genius_id: set(_words(f"{song.artist} {song.title}")) for song in songs}
        count = Counter(word for words in self._words.values() for word in words)
        self._weight = {word: math.log(1 + len(songs) / n) for word, n in count.items()}

    def answer(self, path: str, query: dict[str, str], authorization: str | None) -> HttpAnswer:
        """The answer to GET `path` (below the site's root, unquoted, no leading slash)."""
        public = path.startswith("api/")
        match path.removeprefix("api/").split("/"):
            case ["search", *kind]:
                refused = None if public else self._refuse(authorization)
                return refused or self._search(query, kind[0] if public and kind else None)
            case ["songs", number]:
                refused = None if public else self._refuse(authorization)
                return refused or self._one(number)
            case [slug] if slug in self._page and not public:
                return HttpAnswer(200, _lyrics_page(self._page[slug]))
        return HttpAnswer(404, "<html><body>Oops! Page not found</body></html>")

    def find(self, query: str) -> list[GeniusSong]:
        """Songs that share more than `LEAST` of the query's weight, the best first."""
        query_words = set(_words(query))
        whole = sum(self._weight.get(word, math.log(1 + len(self._song))) for word in sorted(query_words))
        scored = [(-round(sum(self._weight[word] for word in sorted(words & query_words)), 9), number)
                  for number, words in self._words.items()]
        return [self._song[number] for score, number in sorted(scored) if whole and -score > LEAST * whole]

    def _refuse(self, authorization: str | None) -> HttpAnswer | None:
        bearer = re.fullmatch(r"Bearer (\S+)", authorization or "")
        if bearer and self._token in (None, bearer.group(1)):
            return None
        detail = "The access token provided is expired, revoked, malformed or invalid for other reasons."
        return HttpAnswer(401, json.dumps({"error": "invalid_token", "error_description": detail}), _JSON)

    def _search(self, query: dict[str, str], kind: str | None) -> HttpAnswer:
        per_page, page = _number(query.get("per_page"), 10), _number(query.get("page"), 1)
        songs = self.find(query.get("q", ""))[(page - 1) * per_page:page * per_page]
        hits = [{"highlights": [], "index": "song", "type": "song",
                 "result": _result(song)} for song in songs]
        if kind is None:
            return _respond({"hits": hits})
        of_kind = hits if kind in ("multi", "song") else []
        sections = [{"type": "song" if kind == "multi" else kind, "hits": of_kind}]
        if kind == "multi":
            sections.insert(0, {"type": "top_hit", "hits": of_kind[:1]})
        return _respond({"sections": sections, "next_page": None})

    def _one(self, number: str) -> HttpAnswer:
        song = self._song.get(_number(number, -1))
        if song is None:
            return HttpAnswer(404, json.dumps({"meta": {"status": 404, "message": "Not found"}}), _JSON)
        return _respond({"song": _result(song) | {"album": None, "embed_content": "", "release_date": None}})


def _respond(response: dict[str, Any]) -> HttpAnswer:
    return HttpAnswer(200, json.dumps({"meta": {"status": 200}, "response": response}), _JSON)


def _result(song: GeniusSong) -> dict[str, Any]:
    number = zlib.crc32(song.artist.encode())
    artist = {"id": number, "name": song.artist, "api_path": f"/artists/{number}"}
    return {"id": song.genius_id, "api_path": f"/songs/{song.genius_id}", "title": song.title,
            "title_with_featured": song.title,
            "full_title": f"{song.title} by\u00a0{song.artist}", "artist_names": song.artist,
            "primary_artist": artist,
            "primary_artists": [artist], "featured_artists": [], "lyrics_state": "complete", "language": "en",
            "instrumental": song.lyrics is None, "annotation_count": 0, "path": f"/{_slug(song)}",
            "url": f"{WEB}/{_slug(song)}"}


def _lyrics_page(song: GeniusSong) -> str:
    """As the site writes it: lyrics in two containers, and around them what a scraper has to take away."""
    title = escape(song.title)
    head = (f"<!DOCTYPE html><html><head><title>{escape(song.artist)} – {title} Lyrics | Genius</title>"
            f"</head><body><h1>{title}</h1>")
    if song.lyrics is None:
        return f'{head}<div class="LyricsPlaceholder">This song is an instrumental</div></body></html>'
    stanzas = song.lyrics.split("\n\n")
    junk = f"{3 + song.genius_id % 20} ContributorsTranslationsDeutschEspañol{title} Lyrics"
    first, second = stanzas[:len(stanzas) // 2 + 1], stanzas[len(stanzas) // 2 + 1:]
    def lines(part: list[str]) -> str:
        return "<br/><br/>".join("<br/>".join(map(escape, stanza.split("\n"))) for stanza in part)
    container = '<div data-lyrics-container="true" class="Lyrics__Container">'
    return (f"{head}{container}{junk}<br/>{lines(first)}</div><div>You might also like</div>"
            f"{container}You might also like<br/>{lines(second)}{song.genius_id % 90 + 1}Embed</div>"
            "</body></html>")


def _slug(song: GeniusSong) -> str:
    name = f"{song.artist} {song.title} lyrics".replace("&", "and").replace("'", "")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-").capitalize()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else default
