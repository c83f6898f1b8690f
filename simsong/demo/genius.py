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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from simsong.demo.plan import GeniusSong

WEB = "https://genius.com"         # lyricsgenius takes this off a song's URL before it asks its WEB_ROOT
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
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

    def answer(self, path: str, query: dict[str, str], authorization: str | None) -> Answer:
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
                return Answer(200, _lyrics_page(self._page[slug]))
        return Answer(404, "<html><body>Oops! Page not found</body></html>")

    def find(self, query: str) -> list[GeniusSong]:
        """Songs that share at least half of the query's known weight, the best first."""
        asked = set(_words(query))
        whole = sum(self._weight.get(word, math.log(1 + len(self._song))) for word in sorted(asked))
        scored = [(sum(self._weight[word] for word in sorted(words & asked)), number) for number, words in self._words.items()]
        return [self._song[n] for score, n in sorted(scored, key=lambda s: (-round(s[0], 9), s[1])) if whole and score > 0.4 * whole]

    def _refuse(self, authorization: str | None) -> Answer | None:
        given = re.fullmatch(r"Bearer (\S+)", authorization or "")
        if given and self._token in (None, given.group(1)):
            return None
        return Answer(401, json.dumps({"error": "invalid_token", "error_description": "The access token provided is expired, "
                                       "revoked, malformed or invalid for other reasons."}), _JSON)

    def _search(self, query: dict[str, str], kind: str | None) -> Answer:
        per_page, page = _number(query.get("per_page"), 10), _number(query.get("page"), 1)
        found = self.find(query.get("q", ""))[(page - 1) * per_page:page * per_page]
        hits = [{"highlights": [], "index": "song", "type": "song", "result": _result(song)} for song in found]
        if kind is None:
            return _respond({"hits": hits})
        of_kind = hits if kind in ("multi", "song") else []
        sections = [{"type": "top_hit", "hits": of_kind[:1]}, {"type": "song", "hits": of_kind}] if kind == "multi" else \
            [{"type": kind, "hits": of_kind}]
        return _respond({"sections": sections, "next_page": None})

    def _one(self, number: str) -> Answer:
        song = self._song.get(_number(number, -1))
        if song is None:
            return Answer(404, json.dumps({"meta": {"status": 404, "message": "Not found"}}), _JSON)
        return _respond({"song": _result(song) | {"album": None, "embed_content": "", "release_date": None}})


def _respond(response: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps({"meta": {"status": 200}, "response": response}), _JSON)


def _result(song: GeniusSong) -> dict[str, Any]:
    artist = {"id": abs(hash_of(song.artist)), "name": song.artist, "api_path": f"/artists/{abs(hash_of(song.artist))}"}
    return {"id": song.genius_id, "api_path": f"/songs/{song.genius_id}", "title": song.title, "title_with_featured": song.title,
            "full_title": f"{song.title} by\u00a0{song.artist}", "artist_names": song.artist, "primary_artist": artist,
            "primary_artists": [artist], "featured_artists": [], "lyrics_state": "complete", "language": "en",
            "instrumental": song.lyrics is None, "annotation_count": 0, "path": f"/{_slug(song)}", "url": f"{WEB}/{_slug(song)}"}


def hash_of(name: str) -> int:
    """A small number for a name, the same in every process."""
    return int.from_bytes(name.encode()[-4:], "big") % 1_000_000


def _lyrics_page(song: GeniusSong) -> str:
    """As the site writes it: lyrics in two containers, and around them what a scraper has to take away."""
    title = escape(song.title)
    head = (f"<!DOCTYPE html><html><head><title>{escape(song.artist)} – {title} Lyrics | Genius Lyrics</title></head><body>"
            f"<h1>{title}</h1>")
    if song.lyrics is None:
        return head + '<div class="LyricsPlaceholder__Message">This song is an instrumental</div></body></html>'
    stanzas = song.lyrics.split("\n\n")
    junk = f"{3 + song.genius_id % 20} ContributorsTranslationsDeutschEspañol{title} Lyrics"
    first, second = stanzas[:len(stanzas) // 2 + 1], stanzas[len(stanzas) // 2 + 1:]
    def lines(part: list[str]) -> str:
        return "<br/><br/>".join("<br/>".join(map(escape, stanza.split("\n"))) for stanza in part)
    return (f'{head}<div data-lyrics-container="true" class="Lyrics__Container">{junk}<br/>{lines(first)}</div>'
            f'<div class="RecommendedSongs">You might also like</div>'
            f'<div data-lyrics-container="true" class="Lyrics__Container">You might also like<br/>{lines(second)}'
            f"{song.genius_id % 90 + 1}Embed</div></body></html>")


def _slug(song: GeniusSong) -> str:
    plain = unicodedata.normalize("NFKD", f"{song.artist} {song.title} lyrics").encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", "").replace("&", "and")).strip("-").capitalize()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else default
