"""The table of the songs nearest to each, and SQL over it: `python -m benchmarks.neighbours [SONGS]`.

Prints time and memory of the table against the bare matrix products of the same run, and how long SQL takes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.exports import CURRENT, EXPORTS, read_published
from storage.store import Store
from storage.views import connect
from tasks.neighbours import DEPTH, neighbour_rows

DIM, CLUSTERS, BLOCK = 128, 200, 16_384


def write_published(store: Store, songs: int) -> None:
    """Songs in clusters, as those of artists are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM)).astype(np.float32)
    ids = pa.array([f"TR{i:016d}" for i in range(songs)])
    path, writer = store.scratch(), None
    for first in range(0, songs, 65_536):
        count = min(65_536, songs - first)
        own = rng.integers(CLUSTERS, size=count)
        vectors = centres[own] + rng.standard_normal((count, DIM)).astype(np.float32)
        rows = pa.table({"track_id": ids.slice(first, count), "artist": [f"artist {i}" for i in own],
                         "title": [f"title {i}" for i in range(first, first + count)],
                         "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)})
        writer = writer or pq.ParquetWriter(path, rows.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(rows)
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
        store.write("neighbours", neighbour_rows(published), "bench", facts={"of": "bench", "depth": DEPTH})
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
