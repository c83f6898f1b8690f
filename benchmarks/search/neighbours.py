"""The table of the songs nearest to each, and SQL over it: `python -m benchmarks.search.neighbours [SONGS]`.

Prints time and memory of the table against the bare matrix products of the same run, and how long SQL takes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.exports import CURRENT, EXPORTS, read_published
from storage.store import Store
from storage.views import connect
from tasks.neighbours import DEPTH, neighbour_rows

DIM, BLOCK = 128, 16_384
GENRES, SONGS_OF_ARTIST = 40, 20
OWN = 16                        # directions in which the songs of a genre differ most


class Songs:
    """Vectors that lie as embeddings of music do: songs around artists, artists around genres, within a genre
    mostly in OWN directions.

    Among 200,000 of them the local dimension (Levina and Bickel's, by 20 neighbours) is 10; it is 13 among
    the embeddings of 206 real songs, and 7 among those of their windows.

    Args: hard: 200 artists, whose songs differ in all directions alike: a local dimension of 48.
    """

    def __init__(self, songs: int, hard: bool = False) -> None:
        self._rng, self.songs, self.hard = np.random.default_rng(0), songs, hard
        self._artists = 200 if hard else max(1, songs // SONGS_OF_ARTIST)
        self._genre = self._rng.integers(GENRES, size=self._artists)
        self._own = self._normal(GENRES, OWN, DIM)
        self._centres = self._normal(self._artists, DIM) if hard else \
            self._normal(GENRES, DIM)[self._genre] + self._within(self._genre, 0.5)

    def batches(self, most: int = 65_536) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Number of the artist (m,) and vectors (m, DIM) of some songs at a time."""
        for first in range(0, self.songs, most):
            count = min(most, self.songs - first)
            if self.hard:
                artist = self._rng.integers(self._artists, size=count)
                yield artist, self._centres[artist] + self._normal(count, DIM)
                continue
            # Few artists have many songs, most a few.
            artist = self._rng.pareto(1.2, size=count) * self._artists / SONGS_OF_ARTIST
            artist = np.minimum(artist.astype(np.int64), self._artists - 1)
            yield artist, (self._centres[artist] + self._within(self._genre[artist], 0.3)
                           + 0.1 * self._normal(count, DIM))

    def _within(self, genre: np.ndarray, scale: float) -> np.ndarray:
        out = np.empty((len(genre), DIM), np.float32)
        for number, own in enumerate(self._own):
            of_it = np.flatnonzero(genre == number)
            out[of_it] = scale * self._normal(len(of_it), OWN) @ own
        return out

    def _normal(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape, dtype=np.float32)


def write_published(store: Store, songs: int, hard: bool = False) -> None:
    ids = pa.array([f"TR{i:016d}" for i in range(songs)])
    path, writer, first = store.scratch(), None, 0
    for artists, vectors in Songs(songs, hard).batches():
        count = len(vectors)
        rows = pa.table({"track_id": ids.slice(first, count), "artist": [f"artist {i}" for i in artists],
                         "title": [f"title {i}" for i in range(first, first + count)],
                         "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)})
        writer = writer or pq.ParquetWriter(path, rows.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(rows)
        first += count
    assert writer is not None
    writer.close()
    store.put(f"{EXPORTS}/bench-0/tracks.parquet", path)
    store.put_json(CURRENT, {"model": "bench-0", "content": "bench", "duplicates": {}, "songs": songs})


def products_s(vectors: np.ndarray, rows: int) -> float:
    """Seconds that the products of all songs with all take, estimated from so many rows of them."""
    out = np.empty((1024, BLOCK), np.float32)
    start = time.perf_counter()
    for first in range(0, len(vectors) - BLOCK + 1, BLOCK):
        columns = np.ascontiguousarray(vectors[first:first + BLOCK].T)
        for at in range(0, rows, 1024):
            np.matmul(vectors[at:at + 1024], columns, out=out)
    whole = len(vectors) // BLOCK * BLOCK
    return (time.perf_counter() - start) * len(vectors) / rows * len(vectors) / max(whole, 1)


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    songs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder, Store.writing(folder + "/store") as store:
        write_published(store, songs)
        published = read_published(store)
        bare = products_s(published.embeddings, min(4096, songs))
        start = time.perf_counter()
        rows = neighbour_rows(published, Path(folder))
        store.write("neighbours", rows, "bench", facts={"of": "bench", "depth": DEPTH})
        seconds = time.perf_counter() - start
        size = store.size("tables/neighbours/00000.parquet") or 0
        print(f"{songs:,} × {DIM}: {seconds:.0f} s, {peak_mb():,.0f} MB at most, {size / 1e6:,.0f} MB on "
              f"disk; the matrix products alone {bare:.0f} s ({seconds / bare:.1f} times)")
        ids = published.tracks["track_id"]
        with connect(store) as db:
            for query in ("FROM similar('{}')", "FROM similar('{}', k := 101)", "FROM neighbours('{}')"):
                times_s = []
                for at in np.random.default_rng(1).integers(songs, size=7).tolist():
                    start = time.perf_counter()
                    db.execute(query.format(ids[at])).fetchall()
                    times_s.append(time.perf_counter() - start)
                print(f"{query.format('…')}: {statistics.median(times_s) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
