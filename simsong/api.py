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

from simsong.config import Config, load
from simsong.errors import StoreError
from simsong.grid import grid
from storage.exports import Published, read_published
from storage.store import Store
from storage.views import TIMEOUT_S, Connection
from storage.views import connect as _connect

if TYPE_CHECKING:
    import pandas

    from simsong.search.resolve import SongNames

SHOWN_ROWS = 50             # when printed


class SongRows:
    """Rows that print as a table. Iterated, they are dictionaries."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

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


class Songs:
    """The published songs of a store, read when first asked for; what is published later is seen after
    `reload`. Close it, or use it in a `with`."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store, self._config = store, config
        self._published: Published | None = None
        self._names: SongNames | None = None
        self._connection: Connection | None = None

    def similar(self, song: str | Path | np.ndarray, k: int = 10, *, distinct: bool = True) -> SongRows:
        """The songs most like one: rank, score (cosine), artist, title, track_id.

        Args:
            song: a track_id; "artist - title" (roughly); an audio file, as a Path or as a text that is no
                song's id; or a vector (dim,).
            distinct: each recording once, and not the song's own under other ids.
        Raises: SongUnresolved for a text that means no song, or several; SongError for a file that cannot be
            decoded or is silent; StoreError where nothing is published; ValueError for a k below 1.
        """
        from simsong.search.nearest import nearest

        if k < 1:
            raise ValueError(f"similar: k = {k}")
        published, own = self._songs(), None
        if isinstance(song, np.ndarray):
            vector = song
        elif isinstance(song, Path) or self._is_file(song):
            vector = self.embed(song)
        else:
            own = self._resolved(song)
            vector = published.embeddings[own]
        if vector.shape != published.embeddings.shape[1:]:
            raise ValueError(f"similar: a vector {vector.shape}, where songs have "
                             f"{published.embeddings.shape[1:]}")
        found = nearest(published, vector, own, k, distinct)
        tracks = published.tracks.select(["artist", "title", "track_id"]).take([row for row, *_ in found])
        places = pa.table({"rank": pa.array(range(1, len(found) + 1), pa.int32()),
                           "score": pa.array([score for _, score, _ in found], pa.float64())})
        for name in tracks.column_names:
            places = places.append_column(name, tracks[name])
        return SongRows(places)

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> SongRows:
        """One SELECT over the views and macros that docs/COOKBOOK.md tells of.

        Raises: QueryError where it is refused, wrong or takes over a minute.
        """
        if self._connection is None:
            self._connection = _connect(self._store)
        given = dict(parameters) if isinstance(parameters, Mapping) else parameters
        return SongRows(self._connection.execute(query, given).to_arrow_table())

    def embedding(self, song: str) -> np.ndarray:
        """The published embedding (dim,) float32 of a song: its track_id, or "artist - title" (roughly).

        Raises: SongUnresolved; StoreError where nothing is published.
        """
        return self._songs().embeddings[self._resolved(song)].copy()

    def embed(self, file: str | Path) -> np.ndarray:
        """The embedding (dim,) float32 of an audio file, comparable with `embedding`. Loads the model.

        Raises: FileMissing; SongError where it cannot be decoded, is silent or too short; ModelError where
            the published embedding is none of audio.
        """
        from simsong.audio.decode import decode
        from simsong.errors import FileMissing
        from simsong.registry.query import embed_sound

        path = Path(file).expanduser()
        if not path.is_file():
            raise FileMissing(str(file), "there is no such file")
        samples = decode(path, self._config.fetch.max_duration_s)
        return embed_sound(self._store, self._config, self._songs(), samples, str(path))

    def reload(self) -> None:
        """Forget what was read of the store."""
        self.close()
        self._published = self._names = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        return self._songs().tracks.num_rows

    def __enter__(self) -> Songs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"simsong.open({self._store.backend.url!r})"

    def _songs(self) -> Published:
        if self._published is None:
            self._published = read_published(self._store)
            if not self._published.tracks.num_rows:
                raise StoreError(f"{self._store.backend.url}: no songs are published; "
                                 "`simsong status` tells why")
        return self._published

    def _is_file(self, text: str) -> bool:
        return text not in self._resolver().track_ids and Path(text).expanduser().is_file()

    def _resolved(self, text: str) -> int:
        return self._resolver().resolve(text).index

    def _resolver(self) -> SongNames:
        from simsong.search.resolve import SongNames

        if self._names is None:
            tracks = self._songs().tracks
            self._names = SongNames(*(tracks[name].to_pylist() for name in ("track_id", "artist", "title")))
        return self._names


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
