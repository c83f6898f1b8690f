"""Per-track HDF5 of the Million Song Dataset: ours against a plain loop over h5py that reads the same fields.

`python -m benchmarks.sources.msd_hdf5 [--songs 10000] [--rounds 3] [FOLDER]`: copies the real files below
FOLDER under new ids into a temporary folder (0.3 MB each), and reads them both ways in turn.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from simsong.records import Rows
from simsong.sources.msd import open_msd
from simsong.sources.msd.hdf5 import read_song, read_songs
from simsong.sources.msd.tables import MsdFileMalformed

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "msd" / "h5"
PROFILED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sources.msd_hdf5", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REAL, metavar="FOLDER")
    parser.add_argument("--songs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = copies(args.folder, Path(folder), args.songs)
        check(plain(paths), ours(folder))                   # and both find the files in memory from now on
        pairs = [(seconds(plain, paths), seconds(ours, folder)) for _ in range(args.rounds)]
        # The best of each: what else runs on the machine only ever slows one of them down.
        a, b = (args.songs / min(column) for column in zip(*pairs, strict=True))
        print(f"{args.songs} per-track HDF5 on {os.cpu_count()} cores: a plain loop over h5py {a:.0f} "
              f"songs/s, ours {b:.0f} songs/s: {b / a:.2f} times "
              f"(in each round: {', '.join(f'{a / b:.2f}' for a, b in pairs)})")
        left = seconds(read_songs, paths[:PROFILED])
        print(f"what is left, of {PROFILED} songs in one process (without the profiler {left:.2f} s):")
        profile(paths[:PROFILED])


def copies(source: Path, into: Path, count: int) -> list[str]:
    """Real files under new ids TRBENCH…, sorted as a tree of them is walked."""
    real = [path for path in sorted(source.rglob("*.h5")) if is_song(path)]
    paths: list[str] = []
    for n in range(count):
        track_id = f"TRBENCH{n:011d}"
        path = into / f"{n // 1000:03d}" / f"{track_id}.h5"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(real[n % len(real)], path)
        with h5py.File(path, "r+") as h5:
            songs: Any = h5["analysis/songs"]
            row = songs[:]
            row["track_id"] = track_id.encode()
            songs[:] = row
        paths.append(str(path))
    return paths


def is_song(path: Path) -> bool:
    try:
        return read_song(str(path)).timbre is not None
    except MsdFileMalformed:
        return False


def plain(paths: Sequence[str]) -> list[dict[str, Any]]:
    """As one would write it: the fields that ours reads, less its checks and its cleaning of text."""
    rows_read: list[dict[str, Any]] = []
    for path in paths:
        with h5py.File(path, "r") as file:
            h5: Any = file
            meta, analysis = h5["metadata/songs"][0], h5["analysis/songs"][0]
            timbre = h5["analysis/segments_timbre"][:]
            rows_read.append({
                "track_id": analysis["track_id"].decode(),
                "song_id": meta["song_id"].decode(),
                "artist_id": meta["artist_id"].decode(),
                "artist": meta["artist_name"].decode(),
                "title": meta["title"].decode(),
                "release": meta["release"].decode(),
                "year": int(h5["musicbrainz/songs"][0]["year"]),
                "duration_s": float(analysis["duration"]),
                "fade_in_end_s": float(analysis["end_of_fade_in"]),
                "fade_out_start_s": float(analysis["start_of_fade_out"]),
                "terms": [term.decode() for term in h5["metadata/artist_terms"][:]],
                "freqs": h5["metadata/artist_terms_freq"][:],
                "weights": h5["metadata/artist_terms_weight"][:],
                "similar": [artist.decode() for artist in h5["metadata/similar_artists"][:]],
                "timbre": np.concatenate([timbre.mean(axis=0), np.cov(timbre.T)[np.triu_indices(12)]]),
            })
    return rows_read


def ours(folder: str) -> dict[str, list[Rows]]:
    tables: dict[str, list[Rows]] = {}
    for rows in open_msd(folder).read():
        assert isinstance(rows, Rows), rows
        tables.setdefault(rows.table, []).append(rows)
    return tables


def check(expected: list[dict[str, Any]], batches: dict[str, list[Rows]]) -> None:
    """Both read the same."""
    for name in ("track_id", "artist_id", "duration_s"):
        columns = [value for rows in batches["tracks"] for value in rows.columns[name]]
        assert columns == [row[name] for row in expected], name
    timbre = pa.concat_arrays([rows.columns["embedding"] for rows in batches["timbre"]])
    np.testing.assert_allclose(timbre.values.to_numpy().reshape(-1, 90), [row["timbre"] for row in expected],
                               rtol=1e-4, atol=1e-3)
    terms = {(row["artist_id"], term) for row in expected for term in row["terms"]}
    rows = sum(len(rows.columns["name"]) for rows in batches["artist_terms"])
    assert rows == len(terms), (rows, len(terms))


def seconds(work: Callable[[Any], object], argument: object) -> float:
    start = time.perf_counter()
    work(argument)
    return time.perf_counter() - start


def profile(paths: Sequence[str]) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(read_songs, paths)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
