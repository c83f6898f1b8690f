"""The songs of a store that can be asked, and what queries and filters need to know of them."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import fuzz, process

from simsong.answers.so_far import SoFar, is_behind, published_so_far
from simsong.artists import artist_groups, main_artist
from simsong.config import Config
from simsong.errors import ModelError, QueryError, StoreError
from simsong.files.places import local_path
from simsong.search.approximate import LEAST_SONGS, ApproximateIndex, open_index
from simsong.search.resolve import Resolved, SongNames
from simsong.search.song_query import SongFilters
from simsong.search.space import VectorSpace
from storage.backend import Local
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS, Published, read_published
from storage.lease import writer_of
from storage.store import Store
from storage.vectors import aligned, positions

NEAR_NAME = 85.0            # of 100: an artist's or genre's name with a typing error
# The columns of the view `traits` that `SongFilters.traits` names.
NUMBERS = ("tempo_bpm", "loudness_lufs", "energy", "instrumental")
WORDS = ("key", "mode", "voice")


class Library:
    """Everything is read when first needed, and kept.

    Attributes:
        published: songs and their embeddings, in the order that all rows here mean.
    Raises: StoreError where nothing is published, or it is damaged.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config

    @cached_property
    def published(self) -> Published:
        so_far = self.so_far
        published = so_far.published if so_far else read_published(self.store, embeddings=self._index is None)
        if not published.tracks.num_rows:
            raise StoreError(f"{self.store.backend.url}: no songs are published; `simsong status` tells why")
        return published

    @cached_property
    def so_far(self) -> SoFar | None:
        """Where the catalogue has changed since all of it was published: what can be asked of it by now."""
        return published_so_far(self.store, self.config) if is_behind(self.store) else None

    @property
    def coverage(self) -> str | None:
        """How many songs can be asked of how many, where a run goes on or was cut short; else None."""
        if self.so_far is None or len(self) >= self.so_far.of:
            return None
        return (f"{len(self):,} of {self.so_far.of:,} songs are embedded so far; a run goes on, or "
                "`simsong run` ends it")

    @cached_property
    def space(self) -> VectorSpace:
        if self._index is not None and len(self._index.vectors) == len(self):
            return VectorSpace(self._index.vectors, self._index.nowhere, self._index)
        return VectorSpace(self.published.embeddings)

    @cached_property
    def _index(self) -> ApproximateIndex | None:
        """Of exactly the songs that are published; None where there is none: then all are looked at."""
        current, backend = self.store.get_json(CURRENT), self.store.backend
        if current is None or not isinstance(backend, Local):
            return None
        if is_behind(self.store):
            return None                 # a song may have left: rows would not be those of the index
        return open_index(backend.path(f"{EXPORTS}/{current['model']}"), current.get("content"))

    @property
    def index_is_due(self) -> bool:
        """Whether whoever published these songs is still at their index."""
        current = self.store.get_json(CURRENT)
        return (current is not None and current.get("songs", 0) >= LEAST_SONGS
                and isinstance(self.store.backend, Local) and self._index is None
                and not is_behind(self.store) and writer_of(self.store.backend) is not None)

    @cached_property
    def ids(self) -> pa.Array:
        return self.published.tracks["track_id"].combine_chunks()

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, track_id: str) -> int | None:
        """None for an id that is no published song's."""
        if not self._is_sorted:
            return _first(self.ids, pa.scalar(track_id))
        at = bisect_left(self.ids, track_id, key=lambda one: one.as_py())
        return at if at < len(self) and self.ids[at].as_py() == track_id else None

    @cached_property
    def _is_sorted(self) -> bool:
        """As exports are, but what is embedded since comes behind."""
        in_order = pc.call_function("less_equal", [self.ids[:-1], self.ids[1:]])
        return pc.call_function("all", [in_order]).as_py() is not False

    def warm(self) -> None:
        """Read, for whoever asks next, what most questions need."""
        if len(self):
            self.space.nearest(np.asarray(self.space.vectors[0]), 1)
            self.row_of(self.ids[0].as_py())
        _ = self.recordings

    def rows_of(self, track_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The rows of those that are published, in ascending order."""
        rows = positions(track_ids, self.ids)
        return np.unique(rows[rows >= 0])

    def resolve(self, text: str) -> Resolved:
        """Raises: SongUnresolved."""
        return self.names.resolve(text)

    def song(self, text: str) -> int:
        """The row of the song that is meant: an id, or "artist - title", roughly. Raises: SongUnresolved."""
        row = self.row_of(text.strip())
        return self.resolve(text).index if row is None else row

    @cached_property
    def names(self) -> SongNames:
        tracks = self.published.tracks
        return SongNames(*(tracks[name].to_pylist() for name in ("track_id", "artist", "title")))

    def name_of(self, row: int) -> str:
        """Artist - title."""
        return " - ".join(self.text_of(name, row) or "" for name in ("artist", "title"))

    def text_of(self, column: str, row: int) -> str | None:
        """A song's artist, title or release. Exports of before may lack some."""
        tracks = self.published.tracks
        return tracks[column][row].as_py() if column in tracks.column_names else None

    @cached_property
    def recordings(self) -> np.ndarray:
        """(n,) int, the same for songs that are one recording."""
        tracks = self.published.tracks
        if "duplicate_of" not in tracks.column_names:
            return np.arange(len(self))
        marks = tracks["duplicate_of"].combine_chunks().cast(self.ids.type)
        first = pc.call_function("coalesce", [marks, self.ids])
        return first.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)

    @cached_property
    def artists(self) -> np.ndarray:
        """(n,) int, the same for songs of one artist (see `artist_groups`)."""
        rows = self.store.read("tracks", columns=["track_id", "artist_id"])
        at = positions(self.ids, rows["track_id"])
        artist_ids = rows["artist_id"].take(pa.array(at, mask=at < 0)).to_pylist()
        return artist_groups(self._column("artist"), artist_ids)

    @cached_property
    def albums(self) -> np.ndarray:
        """(n,) int, the same for songs of one album by one artist, or, of songs without an album, its own."""
        codes: dict[tuple[int, str], int] = {}
        albums = [(release or "").strip().casefold() for release in self._column("release")]
        by_artist = enumerate(zip(self.artists.tolist(), albums, strict=True))
        return np.array([codes.setdefault((artist, album), len(codes)) if album else -1 - row
                         for row, (artist, album) in by_artist], dtype=np.int64)

    def at_place(self, location: str) -> int | None:
        """The row of the song whose local file, or address, that is."""
        return self._places.get(_place(location))

    @cached_property
    def _places(self) -> dict[str, int]:
        rows = self.store.read("tracks", columns=["track_id", "url"])
        at = positions(rows["track_id"], self.ids).tolist()
        places = zip(rows["url"].to_pylist(), at, strict=True)
        return {_place(local_path(url) or url): row for url, row in places if url and row >= 0}

    def shard_of(self, row: int) -> int | None:
        """The part of the stage tables that has a song's rows; None where it has left the catalogue."""
        rows = self.store.read("tracks", columns=["track_id", "shard"])
        at = _first(rows["track_id"], self.ids[row])
        return None if at is None else rows["shard"][at].as_py()

    @cached_property
    def lyrics(self) -> tuple[str, VectorSpace]:
        """By the configured lyric model: its label, and the songs' lyrics, NaN where there are none. Raises:
        StoreError where no published song has any; ModelError."""
        from simsong.lyrics.models import model_version

        label = model_version(self.config.lyric_model)
        rows = Catalogue(self.store).read("lyric_embeddings", partition=label,
                                          columns=["track_id", "embedding"])
        vectors = aligned(rows, self.ids)
        if vectors is None:
            raise StoreError("no published song has lyrics that the lyric model has read")
        return label, VectorSpace(vectors)

    @cached_property
    def lyric_label(self) -> str | None:
        """The lyric model whose embeddings are compared: the configured one, where it has read any; else the
        last that has."""
        from simsong.lyrics.models import model_version

        there = self.store.partitions("lyric_embeddings")
        try:
            configured = model_version(self.config.lyric_model)
        except ModelError:
            configured = ""
        return configured if configured in there else there[-1] if there else None

    def of_artist(self, name: str) -> np.ndarray:
        """The rows of an artist's songs, guests aside. Raises: QueryError for a name that is nobody's."""
        key = self._nearest_name(name, list(self._of_artist), "artist", main_artist(name) or "")
        return self._of_artist[key][1]

    @cached_property
    def _of_artist(self) -> dict[str, tuple[str, np.ndarray]]:
        """Main artist → how the name is written, and the rows."""
        written: dict[str, str] = {}
        rows: dict[str, list[int]] = {}
        keys: dict[str, str | None] = {}
        for row, name in enumerate(self._column("artist")):
            name = name or ""
            if name not in keys:
                keys[name] = main_artist(name)
            if key := keys[name]:
                written.setdefault(key, name)
                rows.setdefault(key, []).append(row)
        return {key: (written[key], np.array(own_rows)) for key, own_rows in rows.items()}

    def artist_named(self, text: str) -> str:
        """What names an artist in the table `artists`: of an id, or of a name. Raises: QueryError for one
        that is nobody's."""
        rows = self.artist_rows
        if (at := _first(rows["artist_id"], pa.scalar(text))) is None:
            own = self.of_artist_id(text)
            key = main_artist(self.text_of("artist", int(own[0])) or "")
            at = self._rows_of_artists.get(key or "")
        if at is None:
            raise QueryError(f"{_printable(text)!r}: none of its songs could be compared")
        return rows["artist_id"][at].as_py()

    def of_artist_id(self, text: str) -> np.ndarray:
        """As `of_artist`, also of an id that the catalogue has of an artist. Raises: QueryError."""
        return self.of_artist(self._names_of_artists.get(text, text))

    @cached_property
    def artist_rows(self) -> pa.Table:
        return self.store.read("artists", columns=["artist_id", "artist", "songs"])

    @cached_property
    def _rows_of_artists(self) -> dict[str, int]:
        """Main artist → the row of `artists`."""
        names = enumerate(self.artist_rows["artist"].to_pylist())
        return {key: row for row, name in names if (key := main_artist(name or ""))}

    @cached_property
    def _names_of_artists(self) -> dict[str, str]:
        """The catalogue's id of an artist → a name."""
        rows = self.store.read("tracks", columns=["artist_id", "artist"])
        pairs = zip(rows["artist_id"].to_pylist(), rows["artist"].to_pylist(), strict=True)
        return {artist_id: name for artist_id, name in pairs if artist_id and name}

    def of_genre(self, name: str) -> np.ndarray:
        """The rows of the songs of a genre, whoever says so. Raises: QueryError for none of the catalogue."""
        names = {str(one).casefold(): one for one in self._genres.column("name").unique().to_pylist()}
        key = self._nearest_name(name, list(names), "genre", name.strip().casefold())
        lower = pc.call_function("utf8_lower", [self._genres["name"]])
        return self.rows_of(self._genres.filter(pc.call_function(
            "equal", [lower, pc.call_function("utf8_lower", [pa.scalar(names[key])])]))["track_id"])

    @cached_property
    def _genres(self) -> pa.Table:
        return self.store.read("genres", columns=["track_id", "name"])

    def with_tag(self, name: str) -> np.ndarray:
        """The rows of the songs that bear a tag. Raises: QueryError for one that none bears."""
        key, parts = name.strip().casefold(), []
        for rows in self.store.scan("tags", ["track_id", "name"]):
            lower = pc.call_function("utf8_lower", [rows["name"]])
            same = pc.call_function("equal", [lower, pa.scalar(key)])
            parts.append(self.rows_of(rows.filter(same)["track_id"]))
        if not any(map(len, parts)):
            raise QueryError(f"no song bears the tag {_printable(name)!r}")
        return np.unique(np.concatenate(parts))

    def passing(self, filters: SongFilters) -> np.ndarray | None:
        """(n,) bool, the songs that pass; None where nothing is filtered. Raises: QueryError for names that
        the catalogue has not."""
        if not filters:
            return None
        passing = np.ones(len(self), dtype=bool)
        for names, rows_of in ((filters.genres, self.of_genre), (filters.tags, self.with_tag),
                               (filters.artists, self.of_artist)):
            if names:
                passing &= self._mask(np.concatenate([rows_of(name) for name in names]))
        for name in filters.without_artists:
            passing &= ~self._mask(self.of_artist(name))
        if filters.years != (None, None):
            passing &= self._between(self.published.tracks["year"], *filters.years)
        for trait in filters.traits:
            if len(trait) == 3:
                passing &= self._between(self._trait(trait[0], NUMBERS), *trait[1:])
            else:
                words = self._trait(trait[0], WORDS).to_pylist()
                passing &= np.array([word is not None and word.lower() == trait[1].lower() for word in words])
        return passing

    @cached_property
    def _traits(self) -> pa.Table:
        """The view of that name, of any songs."""
        from storage.views import connect  # needs DuckDB, which few queries do

        with connect(self.store) as views:
            batches = list(views.execute("FROM traits").batches())
        none = {name: pa.array([], pa.float32() if name in NUMBERS else pa.string())
                for name in ("track_id", *NUMBERS, *WORDS)}
        return pa.Table.from_batches(batches) if batches else pa.table(none)

    def _trait(self, name: str, columns: tuple[str, ...]) -> pa.ChunkedArray:
        """Of each song, null where it has none. Raises: QueryError for one that is none of the columns."""
        if name not in columns:
            raise QueryError(f"there is no trait {_printable(name)!r} of that kind; there are "
                             f"{', '.join(NUMBERS)} with a range, {', '.join(WORDS)} with a word")
        at = positions(self.ids, self._traits["track_id"])
        return self._traits[name].take(pa.array(at, mask=at < 0))

    def _between(self, values: pa.ChunkedArray, least: float | None, most: float | None) -> np.ndarray:
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return (~np.isnan(numbers) & (numbers >= (-np.inf if least is None else least))
                & (numbers <= (np.inf if most is None else most)))

    def _mask(self, rows: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        return mask

    def _nearest_name(self, name: str, names: list[str], what: str, key: str) -> str:
        """The name itself, or the one that it is with a typing error."""
        if key in names:
            return key
        near = process.extract(key, names, scorer=fuzz.ratio, limit=3) if key else []
        if near and near[0][1] >= NEAR_NAME and (len(near) < 2 or near[1][1] < near[0][1]):
            return near[0][0]
        shown = [self._of_artist[one][0] if what == "artist" else one for one, _, _ in near]
        raise QueryError(f"no {what} is called {_printable(name)!r}"
                         + (f"; nearest: {_printable(', '.join(shown))}" if shown else ""))

    def _column(self, name: str) -> list[str | None]:
        """Exports of before, and of tests, may lack some."""
        tracks = self.published.tracks
        return tracks[name].to_pylist() if name in tracks.column_names else [None] * len(self)


def _first(values: pa.Array | pa.ChunkedArray, value: pa.Scalar) -> int | None:
    """Where a value first stands; None where it does not."""
    at = pc.call_function("index", [values], pc.IndexOptions(value.cast(values.type))).as_py()
    return None if at < 0 else at


def _place(location: str) -> str:
    """The same however a path to it is written."""
    return location if re.match(r"\w+://", location) else os.path.realpath(location)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
