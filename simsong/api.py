"""SimSong from Python: `songs = simsong.open("simsong-store")`, then ask it.

Importing this imports neither torch nor Prefect; what embeds a file does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from simsong.config import Config
from simsong.config_loader import load
from simsong.grid import grid
from simsong.search.song_query import SongFilters, SongQuery
from storage.store import Store
from storage.views import TIMEOUT_S, Connection
from storage.views import connect as _connect

if TYPE_CHECKING:
    import pandas

    from simsong.answers.library import Library
    from simsong.answers.playlists import Playlist
    from simsong.answers.why import Likeness
    from simsong.search.why import Moment

SHOWN_ROWS = 50             # when printed


class SongRows:
    """Rows that print as a table. Iterated, they are dictionaries.

    Attributes, of answers to a `SongQuery`:
        notes: what a user should know of it, a line each; about: what was asked, in words; model: by whose
        embeddings.
    """

    def __init__(self, rows: pa.Table, notes: Sequence[str] = (), about: str = "", model: str = "") -> None:
        self._rows, self.notes, self.about, self.model = rows, tuple(notes), about, model

    @property
    def columns(self) -> list[str]:
        return self._rows.column_names

    def to_arrow(self) -> pa.Table:
        return self._rows

    def to_pandas(self) -> pandas.DataFrame:
        """Needs pandas, which SimSong itself does not."""
        return self._rows.to_pandas()

    def to_list(self) -> list[dict[str, Any]]:
        return self._rows.to_pylist()

    def __len__(self) -> int:
        return self._rows.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_list())

    def __getitem__(self, row: int) -> dict[str, Any]:
        number = row + len(self) if row < 0 else row
        if not 0 <= number < len(self):
            raise IndexError(row)
        return self._rows.slice(number, 1).to_pylist()[0]

    def __repr__(self) -> str:
        shown = self._rows.slice(0, SHOWN_ROWS)
        values = list(zip(*(column.to_pylist() for column in shown.columns), strict=True))
        text = grid(self.columns, values, shutil.get_terminal_size((120, 24)).columns)
        more = f"\n({len(self)} rows, {SHOWN_ROWS} shown)" if len(self) > SHOWN_ROWS else ""
        return text + more

    __str__ = __repr__


class Why(SongRows):
    """Attributes:
        moments: the pairs of windows that agree most, `of_a_s` and `of_b_s` in seconds, best first.
        moment: the first of them; None if unknown.
    """

    def __init__(self, likeness: Likeness) -> None:
        super().__init__(likeness.table())
        self.moments: list[Moment] = likeness.moments
        self.moment: Moment | None = likeness.moment


class PlaylistRows(SongRows):
    """place, artist, title, track_id, score, step (1 - cosine with the song before), location."""

    def __init__(self, listing: Playlist) -> None:
        super().__init__(listing.table(), listing.notes, listing.title)
        self._playlist = listing

    def save(self, file: str | Path) -> None:
        """Write it as .m3u8, .jspf or .json; local files are named from the folder that it lies in.

        Raises: QueryError for another suffix; OSError.
        """
        from simsong.files.playlists import form_of, written

        path = Path(file).expanduser()
        text = written(self._playlist.entries, form_of(path), path.absolute().parent, self._playlist.title)
        path.write_text(text, encoding="utf-8", newline="\n")


class Songs:
    """The published songs of a store, read when first asked for; what is published later is seen after
    `reload`. Close it, or use it in a `with`."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store, self._config = store, config
        self._songs: Library | None = None
        self._connection: Connection | None = None

    def similar(self, song: str | Path | np.ndarray | Sequence[str | Path], k: int = 10, *,
                unlike: Sequence[str | Path] = (), distinct: bool = True, filters: SongFilters | None = None,
                per_artist: int | None = None, per_album: int | None = None,
                diversity: float = 0.0) -> SongRows:
        """The songs most like one, or several: rank, score (cosine), artist, title, track_id.

        Args:
            song: a track_id; "artist - title" (roughly); an audio file, as a Path or as a text that is no
                song's id; a span of it, `song.mp3@1:10-1:40`; a vector (dim,); or several of these but
                vectors.
            others: as `SongQuery` has them.
        Raises: SongUnresolved for a text that means no song, or several; SongError for a file that cannot be
            decoded or is silent; StoreError where nothing is published; QueryError for a k below 1 and the
            like.
        """
        several = [song] if isinstance(song, str | Path | np.ndarray) else song
        return self.search(SongQuery(
            like=tuple(_text(one) for one in several if not isinstance(one, np.ndarray)),
            vector=song if isinstance(song, np.ndarray) else None, unlike=tuple(map(_text, unlike)), k=k,
            distinct=distinct, filters=filters or SongFilters(), per_artist=per_artist, per_album=per_album,
            diversity=diversity))

    def search(self, query: SongQuery, *, files: bool = True) -> SongRows:
        """The songs that a query asks for: rank, score, artist, title, track_id, and, where the query is not
        `distinct`, same_recording_as.

        Args: files: whether the query may name files of this machine.
        Raises: as `similar`; QueryError for an artist, genre, tag or trait that there is none of.
        """
        from simsong.answers.similar import answer

        ranking = answer(self._library(), query, files=files)
        rows = ranking.table(self._library())
        return SongRows(rows.drop_columns(["same_recording_as"]) if query.distinct else rows, ranking.notes,
                      ranking.about, ranking.model)

    def why(self, a: str, b: str, pairs: int = 1) -> Why:
        """Why two songs are alike: aspect (audio, lyrics, tags, genre, artist, album, listeners), share,
        score, closer_than, detail; and `.moment`, the windows of the two that agree most.

        Args: a, b: a track_id, or "artist - title" (roughly); pairs: of windows, in `.moments`.
        Raises: SongUnresolved; StoreError where nothing is published.
        """
        from simsong.answers.why import why

        return Why(why(self._library(), a, b, pairs))

    def playlist(self, song: str | Path | Sequence[str | Path] = (), songs: int = 25, *,
                 query: SongQuery | None = None, per_artist: int | None = None, per_album: int | None = None,
                 artist_gap: int = 1, album_gap: int = 0) -> PlaylistRows:
        """A playlist of what one or several songs, or a whole `query`, ask for. `.save("file.m3u8")` writes
        it.

        Args: rules as `PlaylistRules` has them.
        Raises: as `search`.
        """
        from simsong.answers.playlists import playlist
        from simsong.search.playlists import PlaylistRules

        seeds = [song] if isinstance(song, str | Path) else song
        song_query = query or SongQuery(like=tuple(map(_text, seeds)))
        rules = PlaylistRules(songs, per_artist, per_album, artist_gap, album_gap)
        return PlaylistRows(playlist(self._library(), song_query, rules))

    def path(self, a: str, b: str, songs: int = 10, *, filters: SongFilters | None = None) -> PlaylistRows:
        """From one song to another by at most so many songs, in steps as even as can be, no song twice.

        Raises: SongUnresolved; QueryError where both are one song; StoreError.
        """
        from simsong.answers.playlists import path

        return PlaylistRows(path(self._library(), a, b, songs, filters))

    def grow(self, file: str | Path, songs: int = 25, *, threshold: float | None = None,
             filters: SongFilters | None = None, per_artist: int | None = None,
             artist_gap: int = 0) -> PlaylistRows:
        """A playlist (M3U), and after it songs whose cosine with one of its songs is at least a threshold,
        up to so many in all. Default: the median of what its songs have with the nearest of each other.

        Raises: FileMissing; QueryError for a file that is none, or names no published song; StoreError.
        """
        from simsong.answers.playlists import grown
        from simsong.files.playlists import read_m3u
        from simsong.search.playlists import PlaylistRules

        rules = PlaylistRules(songs, per_artist, artist_gap=artist_gap)
        before = read_m3u(Path(file).expanduser())
        return PlaylistRows(grown(self._library(), before, rules, threshold, filters))

    def map(self) -> SongRows:
        """Where each published song lies on the map: track_id, x, y, cluster, label, artist, title.

        Songs that are alike lie together; from publish to publish a song stays within 5 % of the map's width.
        `cluster` is the number of the region that it lies in, which `label` names; None between regions.
        """
        return self.sql("SELECT m.*, s.artist, s.title FROM map AS m JOIN songs AS s USING (track_id) "
                        "ORDER BY track_id")

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> SongRows:
        """One SELECT over the views and macros that docs/COOKBOOK.md tells of.

        Raises: QueryError where it is refused, wrong or takes over a minute.
        """
        if self._connection is None:
            self._connection = _connect(self._store)
        values = dict(parameters) if isinstance(parameters, Mapping) else parameters
        return SongRows(self._connection.execute(query, values).to_arrow_table())

    def embedding(self, song: str) -> np.ndarray:
        """The published embedding (dim,) float32 of a song: its track_id, or "artist - title" (roughly).

        Raises: SongUnresolved; StoreError where nothing is published.
        """
        library = self._library()
        return np.array(library.space.vectors[library.song(song)])

    def embed(self, file: str | Path) -> np.ndarray:
        """The embedding (dim,) float32 of an audio file, comparable with `embedding`. Loads the model.

        Raises: FileMissing; SongError where it cannot be decoded, is silent or too short; ModelError where
            the published embedding is none of audio.
        """
        from simsong.answers.similar import embed_file
        from simsong.errors import FileMissing

        path = Path(file).expanduser()
        if not path.is_file():
            raise FileMissing(str(file), "there is no such file")
        return embed_file(self._library(), path)[0]

    def reload(self) -> None:
        """Forget what was read of the store."""
        self.close()
        self._songs = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        return len(self._library())

    def __enter__(self) -> Songs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"simsong.open({self._store.backend.url!r})"

    def _library(self) -> Library:
        if self._songs is None:
            from simsong.answers.library import Library

            self._songs = Library(self._store, self._config)
        return self._songs


def _text(song: str | Path) -> str:
    """A file is named so that it is no song's id."""
    return song if isinstance(song, str) else str(song.expanduser().absolute())


def open(store: str | Path | None = None, *, config: str | Path | None = None) -> Songs:
    """The songs of a store, which is a folder or an address like `s3://…`.

    Args:
        store: default: the one that the configuration names.
        config: a configuration's file; default: simsong.toml, where there is one.
    Raises: StoreError where there is none; ConfigError.
    """
    settings = {"store": str(store)} if store is not None else {}
    loaded = load(str(config) if config is not None else None, settings)
    return Songs(Store.open(loaded.store), loaded)


def connect(store: str | Path, *, timeout_s: float = TIMEOUT_S, memory: str | None = None) -> Connection:
    """DuckDB over a store, as `simsong sql` has it: views and macros, one SELECT at a time, no files.

    Args: as `storage.views.connect`. Raises: StoreError where there is no store; QueryError.
    """
    return _connect(Store.open(str(store)), timeout_s=timeout_s, memory=memory)
