"""An index of many vectors that finds the nearest without looking at all: HNSW by usearch, in 8 bits a
number.

Beside it lie the vectors themselves, over their length, so that what the index finds is ranked exactly. Both
are files that are mapped into memory: opening them reads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsong.search.topk import has_direction, unit_rows

LEAST_SONGS = 20_000            # with fewer, looking at all takes a few milliseconds
CONNECTIVITY, WHILE_ADDING, WHILE_ASKING = 16, 128, 256      # at 64, recall@10 of a million was 0.75
BESIDE = 40                     # found beyond those wanted, for the exact ranking
MOST = 1_000                    # that it is asked for; for more, all are looked at
NAMES = INDEX, VECTORS, ABOUT = ("index.usearch", "vectors.npy", "index.json")


@dataclass(frozen=True)
class ApproximateIndex:
    """Attributes:
        vectors: (n, dim) float32 of length 1, or 0 where there is no direction; a file mapped into memory.
        nowhere: the rows without direction, which are not in the index.
    """

    vectors: np.ndarray
    nowhere: np.ndarray
    _index: Any

    def near(self, unit: np.ndarray, k: int) -> np.ndarray:
        """Rows near to `unit` (dim,), among which the k nearest very likely are; at most k + BESIDE."""
        matches = self._index.search(unit.astype(np.float32), k + BESIDE, threads=1)
        return np.asarray(matches.keys).astype(np.int64)


def write_index(folder: Path, batches: Iterable[np.ndarray], songs: int, of: str) -> list[Path]:
    """Write the files of NAMES, of vectors (m, dim) of any length, in order: their paths, of which the one
    that says that the others are whole comes last. None where there are no vectors.

    Args: of: what they are of; `open_index` must be told the same.
    """
    from usearch.index import Index

    index: Any = None
    vectors: np.ndarray | None = None
    nowhere, start = list[np.ndarray](), 0
    for batch in batches:
        unit = unit_rows(batch)
        there = has_direction(unit)
        unit[~there] = 0
        if index is None or vectors is None:
            dim = unit.shape[1]
            index = Index(ndim=dim, metric="ip", dtype="i8", connectivity=CONNECTIVITY,
                          expansion_add=WHILE_ADDING, expansion_search=WHILE_ASKING, enable_key_lookups=False)
            vectors = np.lib.format.open_memmap(folder / VECTORS, mode="w+", dtype=np.float32,
                                                shape=(songs, dim))
        vectors[start:start + len(unit)] = unit
        rows = np.flatnonzero(there)
        if len(rows):
            # By one thread: those that several add at once may link to each other alone, so that none of them
            # is ever found (of 3,000 songs some five were not).
            index.add((start + rows).astype(np.uint64), unit[rows], threads=1)
        nowhere.append(start + np.flatnonzero(~there))
        start += len(unit)
    if index is None or vectors is None:
        return []
    index.save(str(folder / INDEX))
    vectors.flush()
    about = {"of": of, "songs": songs, "nowhere": np.concatenate(nowhere).tolist(),
             "bytes": {name: (folder / name).stat().st_size for name in (INDEX, VECTORS)}}
    (folder / ABOUT).write_text(json.dumps(about))
    return [folder / name for name in NAMES]


def open_index(folder: Path, of: str | None) -> ApproximateIndex | None:
    """None where there is none, or it is of something else, or cut short: then all are looked at."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        if of is None or about["of"] != of or any(
                (folder / name).stat().st_size != size for name, size in about["bytes"].items()):
            return None
        from usearch.index import Index

        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        index = Index.restore(str(folder / INDEX), view=True)
        if index is None or len(vectors) != about["songs"]:
            return None
        index.expansion_search = WHILE_ASKING
        return ApproximateIndex(vectors, np.array(about["nowhere"], dtype=np.int64), index)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError):
        return None
