"""Playlists of a store's songs: from seeds, from filters, on a path, grown from one that there is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from simsong.answers.library import Library
from simsong.answers.similar import SongRanking, answer
from simsong.config import Config
from simsong.errors import QueryError
from simsong.fetching.subsonic import SubsonicServer, song_of
from simsong.files.places import local_path
from simsong.files.playlists import Entry
from simsong.search.playlists import PlaylistRules, arranged, even_path
from simsong.search.resolve import SongUnresolved
from simsong.search.song_query import MOST_SONGS, SongFilters, SongQuery
from simsong.search.topk import top_k
from storage.backend import Local
from storage.catalogue import Catalogue
from storage.vectors import positions

PATH_SONGS = 10
ON_THE_WAY = 2_000          # songs that a path is sought among
STOPS = 5                   # points between its ends about which they are taken
MORE = 20                   # songs looked at for each one of a playlist, since rules leave some out


@dataclass(frozen=True)
class Playlist:
    """Attributes:
        entries: in order; each names its song, and where it can be heard.
        rows: of the library; None for an entry of a file that is no song of it.
        scores: cosines with what was asked, or, of a grown playlist, with the nearest of its songs; None of
            what was there before, and of paths.
        notes: what a user should know, a line each.
    """

    entries: list[Entry]
    rows: list[int | None]
    scores: list[float | None]
    title: str
    notes: tuple[str, ...] = ()
    steps: list[float | None] = field(default_factory=list[float | None])

    def table(self) -> pa.Table:
        """place, artist, title, track_id, score, step (1 - cosine with the song before), location."""
        return pa.table({
            "place": pa.array(range(1, len(self.entries) + 1), pa.int32()),
            **{name: pa.array([getattr(entry, name) for entry in self.entries], pa.string())
               for name in ("artist", "title", "track_id")},
            "score": pa.array(self.scores, pa.float64()), "step": pa.array(self.steps, pa.float64()),
            "location": pa.array([_readable(entry.location) for entry in self.entries], pa.string())})


def playlist(library: Library, query: SongQuery, rules: PlaylistRules, *, files: bool = True) -> Playlist:
    """What a query asks for, as a list that obeys the rules. Songs of the catalogue that it names come
    first, as far as the rules let them. `query.k`, `per_artist` and `per_album` do not count: the rules say
    that.

    Raises: as `answer`; QueryError where nothing is found.
    """
    wide = replace(query, k=min(max(MORE * rules.songs, 200), MOST_SONGS), per_artist=None, per_album=None,
                   distinct=True, diversity=0.0)
    if query.diversity:                 # of as many as are wanted, or the unlike ones would come last
        wide = replace(wide, k=min(3 * rules.songs, MOST_SONGS), diversity=query.diversity)
    ranking = answer(library, wide, files=files)
    seeds = [row for text in query.like if (row := _named(library, text)) is not None]
    scores = {hit.row: hit.score for hit in ranking.hits}
    rows = arranged([*seeds, *scores], rules, library.artists, library.albums)
    if not rows:
        raise QueryError("no song is left for the playlist")
    notes = ranking.notes if len(rows) == rules.songs else (
        *ranking.notes, f"{len(rows)} of {rules.songs} songs: no more were found that the rules let follow")
    return _playlist_of(library, rows, [scores.get(row) for row in rows], f"like {ranking.about}", notes)


def hears_words(config: Config) -> bool:
    """Whether words can be compared with the songs' sound."""
    from simsong.pretrained import cache, hub

    name = config.pretrained.network
    folder = None if name in ("auto", "none", *cache.NETWORKS) else hub.folder_of(name)
    return folder is not None and hub.kind_of(folder, name) == "clap"


def path(library: Library, a: str, b: str, songs: int = PATH_SONGS,
         filters: SongFilters | None = None, among: int = ON_THE_WAY) -> Playlist:
    """From one song to another by at most so many songs, in even steps (see `even_path`), no recording twice.

    Of more than `among` songs, those count that are near the ends and the points between.
    Raises: SongUnresolved; QueryError.
    """
    ends = [library.song(a), library.song(b)]
    if library.recordings[ends[0]] == library.recordings[ends[1]]:
        raise QueryError("both ends of the path are one song")
    passing = library.passing(filters or SongFilters())
    once = _once(library, passing, ends)
    near = np.flatnonzero(once)
    if len(near) > among:
        first, last = library.space.units(np.array(ends))
        points = [first + (last - first) * at for at in np.linspace(0, 1, STOPS + 2)]
        near_points = [library.space.nearest(point, among // len(points), once)[0] for point in points]
        near = np.unique(np.concatenate([*near_points, np.array(ends)]))
    at = {int(row): place for place, row in enumerate(near)}
    route = even_path(library.space.units(near), at[ends[0]], at[ends[1]], songs)
    rows = [int(near[place]) for place in route]
    title = f"from {library.name_of(ends[0])} to {library.name_of(ends[1])}"
    return _playlist_of(library, rows, [None] * len(rows), title, ())


def grown(library: Library, before: Sequence[Entry], rules: PlaylistRules, threshold: float | None = None,
          filters: SongFilters | None = None) -> Playlist:
    """A playlist, and after it the songs whose cosine with one of its songs is at least a threshold, nearest
    first.

    Args:
        before: as `read_m3u` gives it. What is no song of the catalogue stays, and counts nothing.
        rules: of all of it together, but what was there stays; `rules.songs` are in all.
        threshold: default: the median of what its songs have with the nearest of each other.
    Raises: QueryError where none of its entries is a published song, or no threshold can be told.
    """
    members = [_member(library, entry) for entry in before]
    rows = [row for row in members if row is not None]
    if not rows:
        raise QueryError("no entry of the playlist is a published song")
    distinct = np.unique(rows)
    units = library.space.units(distinct)
    if threshold is None:
        cosines = units @ units.T
        np.fill_diagonal(cosines, -np.inf)
        if len(distinct) < 2:
            raise QueryError("a playlist of one song does not tell how near others must be; give a threshold")
        threshold = float(np.median(cosines.max(axis=1)))
    passing = _once(library, library.passing(filters or SongFilters()), distinct.tolist())
    passing[distinct] = False
    scores: dict[int, float] = {}
    wanted = min(MORE * rules.songs, len(library))
    nearest, cosines = top_k(units, np.where(passing[:, None], library.space.vectors, np.nan), wanted)
    for row, cosine in zip(nearest.ravel().tolist(), cosines.ravel().tolist(), strict=True):
        if row >= 0 and cosine >= threshold:
            scores[row] = max(scores.get(row, -1.0), cosine)
    order = sorted(scores, key=lambda row: (-scores[row], row))
    added = arranged(order, replace(rules, songs=min(rules.songs + len(rows), MOST_SONGS)), library.artists,
                     library.albums, before=rows)[:max(rules.songs - len(before), 0)]
    notes = [f"{len(members) - len(rows)} of {len(members)} entries are no published songs: they stay, and "
             "count nothing"] if len(rows) < len(members) else []
    notes.append(f"{len(added)} songs added, of cosine {threshold:.3f} at least with one that was there")
    new = _playlist_of(library, added, [scores[row] for row in added], "", ())
    every = [*members, *added]
    before = [entry if row is None else replace(entry, track_id=library.ids[row].as_py())
              for entry, row in zip(before, members, strict=True)]
    scored = [*[None] * len(before), *new.scores]
    return Playlist([*before, *new.entries], every, scored, "grown", tuple(notes), _steps(library, every))


def of_ranking(library: Library, ranking: SongRanking, title: str) -> Playlist:
    """The songs that a query found, in their order."""
    return _playlist_of(library, [hit.row for hit in ranking.hits], [hit.score for hit in ranking.hits],
                        title,
                        ranking.notes)


def send(library: Library, listing: Playlist, name: str, *, dry_run: bool = False) -> list[tuple[str, int]]:
    """Write a playlist to the music servers that its songs are from, under the ids that they have there.

    Returns: each server, and how many songs. Raises: ConfigError; CatalogueError where one refuses;
        QueryError where no song is of any.
    """
    ids = [entry.track_id for entry in listing.entries]
    tracks = library.store.read("tracks", columns=["track_id", "url"])
    urls = dict(zip(*(tracks[column].to_pylist() for column in ("track_id", "url")), strict=True))
    by_server: dict[str, list[str]] = {}
    for track_id in ids:
        if (place := song_of(urls.get(track_id or ""))) is not None:
            by_server.setdefault(place[0], []).append(place[1])
    if not by_server:
        raise QueryError("no song of the playlist is from a music server (sources.subsonic)")
    for server, songs in by_server.items():
        if not dry_run:
            SubsonicServer(server).write_playlist(name, songs)
    return [(server, len(songs)) for server, songs in by_server.items()]


def _member(library: Library, entry: Entry) -> int | None:
    """The song that an entry of a file is: by its place, or else by its name."""
    if entry.location and (row := library.at_place(entry.location)) is not None:
        return row
    stem = Path(entry.location).stem if entry.location else ""
    for text in (entry.name, stem):
        if text and (row := _named(library, text)) is not None:
            return row
    return None


def _named(library: Library, text: str) -> int | None:
    try:
        return library.song(text)
    except SongUnresolved:
        return None


def _once(library: Library, passing: np.ndarray | None, rows_kept: Sequence[int]) -> np.ndarray:
    """(n,) bool: of each recording the first song that passes, and what is kept, whether it passes or not."""
    among = np.ones(len(library), dtype=bool) if passing is None else passing.copy()
    rows = np.flatnonzero(among)
    of_kept = np.isin(library.recordings[rows], library.recordings[list(rows_kept)])
    rows = rows[~of_kept]
    first = rows[np.unique(library.recordings[rows], return_index=True)[1]]
    among[:] = False
    among[first] = True
    among[list(rows_kept)] = True
    return among


def _playlist_of(library: Library, rows: list[int], scores: Sequence[float | None], title: str,
                 notes: tuple[str, ...]) -> Playlist:
    return Playlist(entries_of(library, rows), [*rows], [*scores], title, notes, _steps(library, rows))


def _steps(library: Library, rows: Sequence[int | None]) -> list[float | None]:
    out: list[float | None] = [None]
    for before, row in pairwise(rows):
        ends = None if before is None or row is None else library.space.units(np.array([before, row]))
        out.append(None if ends is None else float(1 - ends[0] @ ends[1]))
    return out[:len(rows)]


def entries_of(library: Library, rows: Sequence[int]) -> list[Entry]:
    """What a playlist says of songs, each with the place where it can be heard: its local file, that in the
    store, or the address that it was fetched from."""
    store, tracks = library.store, library.published.tracks
    about = tracks.select([name for name in ("track_id", "artist", "title", "release", "duration_s")
                           if name in tracks.column_names]).take(pa.array(rows, pa.int64()))
    rows_of_tracks = store.read("tracks", columns=["track_id", "url", "shard"])
    at = positions(about["track_id"], rows_of_tracks["track_id"])
    places = rows_of_tracks.take(pa.array(at, mask=at < 0)).to_pylist()
    columns, shards = ["track_id", "url", "file"], sorted({place["shard"] for place in places} - {None})
    audio = {row["track_id"]: row for shard in shards
             for row in Catalogue(store).read("audio", shard, columns=columns).to_pylist()}
    return [Entry(_location(library, place["url"], audio.get(song["track_id"], {})), song["artist"],
                  song["title"], song.get("release"), song.get("duration_s"), song["track_id"])
            for song, place in zip(about.to_pylist(), places, strict=True)]


def _location(library: Library, url: str | None, audio: dict[str, str | None]) -> str | None:
    if path := local_path(url) or local_path(audio.get("file")):
        return path
    file, backend = audio.get("file"), library.store.backend
    if file and isinstance(backend, Local) and (path_of_file := backend.path(file)).is_file():
        return os.fspath(path_of_file)
    return url or audio.get("url")


def _readable(location: str | None) -> str | None:
    return None if location is None else location.encode("utf-8", "backslashreplace").decode()
