"""The library of a music server (Navidrome, Gonic, Ampache, LMS): songs under the server's own ids, their
genres, and, as tags, its playlists and what was starred and played. Audio comes by the server's stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from simsong.errors import CatalogueError
from simsong.fetching.subsonic import SubsonicServer
from simsong.records import Rejected, Rows
from simsong.sources.base import (
    TRACK_ID,
    RowBatches,
    artist_id_of,
    derived_id,
    digest,
    positive,
    text,
    year_of,
)

PLAYED = 100.0  # times, from which a song counts as played as much as can be


class SubsonicLibrary:
    name: ClassVar[str] = "subsonic"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = False

    def __init__(self, address: str) -> None:
        """Raises: CatalogueError for what is no server's address; ConfigError where no user is set."""
        self.server = SubsonicServer(address)
        self.left_out: Counter[str] = Counter()

    def fingerprint(self) -> str:
        """Of the server's albums and playlists. Songs whose tags alone were edited change neither on some
        servers; those are seen with the next album that is added."""

        def lines() -> Iterator[str]:
            yield self.server.address
            yield str((self.server.ask("getIndexes").get("indexes") or {}).get("lastModified"))
            for album in self.server.albums():
                yield "\0".join(
                    str(album.get(key)) for key in ("id", "name", "songCount", "duration", "created")
                )
            for one in self.server.playlists():
                yield "\0".join(str(one.get(key)) for key in ("id", "name", "songCount", "changed"))

        return digest(lines())

    def read(self) -> Iterator[Rows | Rejected]:
        batches, ids = RowBatches(self.name), dict[str, str]()
        self.left_out.clear()
        for song in self.server.songs():
            own_id = text(song.get("id")) or ""
            if not own_id or own_id in ids:
                continue
            track_id = own_id if TRACK_ID.fullmatch(own_id) else derived_id("SU", own_id)
            ids[own_id] = track_id
            title = text(song.get("title"))
            if title is None:
                yield Rejected(track_id, "no_title", "the server has no title for it")
                continue
            self._add(batches, track_id, own_id, title, song)
            yield from batches.full()
        if not ids:
            raise CatalogueError(f"{self.server.address}: its library is empty")
        for playlist in self.server.playlists():
            name = text(playlist.get("name"))
            members = {text(song.get("id")) or "": None for song in self.server.playlist(playlist["id"])}
            for own_id in members:
                if name and own_id in ids:
                    batches.add("tags", track_id=ids[own_id], name=f"playlist {name}", weight=100.0)
        yield from batches.rest()

    def _add(self, batches: RowBatches, track_id: str, song_id: str, title: str,
             song: dict[str, Any]) -> None:
        artist = text(song.get("artist")) or "Unknown artist"
        batches.track(
            track_id=track_id,
            artist=artist,
            title=title,
            artist_id=text(song.get("artistId")) or artist_id_of(artist),
            release=text(song.get("album")),
            year=year_of(song.get("year")),
            duration_s=positive(song.get("duration")),
            url=self.server.song_url(song_id),
        )
        listed = song.get("genres")
        names = (
            [one.get("name") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        )
        for genre in dict.fromkeys(filter(None, map(text, names or [song.get("genre")]))):
            batches.add("genres", track_id=track_id, name=genre, weight=1.0, source="server")
        if song.get("starred"):
            batches.add("tags", track_id=track_id, name="starred", weight=100.0)
        if played := positive(song.get("playCount")):
            batches.add("tags", track_id=track_id, name="played", weight=100.0 * min(played / PLAYED, 1.0))
