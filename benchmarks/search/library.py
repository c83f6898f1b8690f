"""Songs like one: looking at all, the index, numpy's own product, side by side: `python -m
benchmarks.search.library [SONGS]`.

Then a command from scratch, and, with `--store DIR --file FILE`, a question by file in its parts. The load
is told, as the figures of a busy machine say little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.search.neighbours import DIM, peak_mb, write_published
from simsong.answers.library import Library
from simsong.config_loader import load
from simsong.search.song_query import SongQuery
from simsong.search.space import VectorSpace
from storage.store import Store
from tasks.index import write_published_index

QUERIES, K = 200, 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search.library", description=__doc__)
    parser.add_argument("songs", nargs="?", type=int, default=100_000)
    parser.add_argument("--hard", action="store_true", help="Vectors whose neighbours lie in all directions.")
    parser.add_argument("--store", help="A published store, for --file.")
    parser.add_argument("--file", help="An audio file to ask by.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Store.writing(folder + "/store") as store:
        write_published(store, args.songs, args.hard)
        start = time.perf_counter()
        keys = write_published_index(store)
        built_s = time.perf_counter() - start
        sizes = ", ".join(f"{Path(key).name} {(store.size(key) or 0) / 1e6:,.0f} MB" for key in keys)
        print(f"{args.songs:,} × {DIM}, {load_now()}: index built in {built_s:.0f} s, {peak_mb():,.0f} MB "
              f"at most; {sizes}", flush=True)
        compare(Library(store, load(None, {"store": store.backend.url}, {})).space)
        cold(store, f"TR{7:016d}")
    if args.store and args.file:
        by_file(args.store, Path(args.file))


def compare(space: VectorSpace) -> None:
    """The three in turn, query by query, so that a drift of the machine's speed hits all alike."""
    rng = np.random.default_rng(1)
    vectors, times_s = np.asarray(space.vectors), {"numpy": [0.0], "all": [0.0], "index": [0.0]}
    assert vectors[:, 0].sum() != 0          # read once, so that no query pays for the disk
    hits = 0
    for row in rng.integers(len(vectors), size=QUERIES).tolist():
        query = vectors[row] + 0.05 * rng.standard_normal(DIM).astype(np.float32)

        def timed(name: str, work: Callable[[], object], times: int = 1) -> object:
            start = time.perf_counter()
            out = [work() for _ in range(times)]
            times_s[name].append((time.perf_counter() - start) / times)
            return out[0]

        timed("numpy", lambda query=query: vectors @ query)
        exact = timed("all", lambda query=query: space.nearest(query, K, exact=True)[0])
        near = timed("index", lambda query=query: space.nearest(query, K)[0], 3)
        hits += len(np.intersect1d(np.asarray(exact), np.asarray(near)))
    p50 = {name: statistics.median(times[1:]) * 1e3 for name, times in times_s.items()}
    print(f"top {K} of {len(vectors):,}, {load_now()}: numpy's product {p50['numpy']:.1f} ms, all "
          f"{p50['all']:.1f} ms ({p50['all'] / p50['numpy']:.2f} times), by the index {p50['index']:.2f} ms, "
          f"recall@{K} {hits / QUERIES / K:.4f}", flush=True)


def cold(store: Store, track_id: str) -> None:
    times_s = []
    for _ in range(5):
        start = time.perf_counter()
        command = [sys.executable, "-m", "simsong.cli", "similar", track_id, "--store", store.backend.url]
        subprocess.run(command, check=True, capture_output=True)
        times_s.append(time.perf_counter() - start)
    print(f"`simsong similar {track_id}` from scratch, {load_now()}: {statistics.median(times_s):.2f} s "
          f"(least {min(times_s):.2f} s)")


def by_file(url: str, file: Path) -> None:
    from simsong.answers.similar import answer, decoded
    from simsong.registry.query import embed_sound

    config = load(None, {"store": url}, {})
    library = Library(Store.open(url), config)
    for _ in range(2):                       # the first loads the network
        start = time.perf_counter()
        samples = decoded(library, file)
        at = time.perf_counter()
        vector = embed_sound(library.store, config, library.published, samples, str(file))
        encoded_at = time.perf_counter()
        answer(library, SongQuery(vector=vector))
        end = time.perf_counter()
        print(f"{file.name}, {load_now()}: decode {at - start:.2f} s, encode {encoded_at - at:.2f} s, search "
              f"{(end - encoded_at) * 1e3:.1f} ms")


def load_now() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
