"""An index of many vectors that finds the nearest without looking at all: lists of vectors that are near to
each other (by k-means), of which a query looks at the nearest ones.

A vector is in the list that it would itself look at first, so none is ever lost; what is looked at is
compared exactly. Its files are mapped into memory: opening them reads nothing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simsong.search.topk import best_rows, has_direction, unit_rows

LEAST_SONGS = 20_000            # with fewer, looking at all takes a few milliseconds
LOOKED_AT, SHARE = 8_000, 125   # vectors that a query looks at: so many at least, or one in SHARE
MOST = 1_000                    # that it is asked for; for more, all are looked at
SAMPLE, ROUNDS = 32, 10         # of k-means: vectors a list that it sees, and how often
BLOCK = 16_384                  # vectors that are dealt out at a time
NAMES = VECTORS, LISTS, ROWS, CENTRES, ABOUT = ("vectors.npy", "lists.npy", "rows.npy", "centres.npy",
                                                "index.json")


@dataclass(frozen=True)
class ApproximateIndex:
    """Attributes:
        vectors: (n, dim) float32 of length 1, or 0 where there is no direction; a file mapped into memory.
        nowhere: the rows without direction, which are in no list.
        lists: (n - nowhere, dim), the vectors list by list; `rows` (n - nowhere,) says which they are.
        centres: (lists, dim); starts: (lists + 1,) where each list begins in `lists`.
    """

    vectors: np.ndarray
    nowhere: np.ndarray
    lists: np.ndarray
    rows: np.ndarray
    centres: np.ndarray
    starts: np.ndarray
    _halves: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_halves", _halves(self.centres))

    def near(self, unit: np.ndarray, k: int) -> np.ndarray:
        """Of what `unit` (dim,) looks at, the k rows of largest cosine in float32, and all that tie with the
        last of them; in no order."""
        unit = unit.astype(np.float32)
        spans = self.spans(unit, max(LOOKED_AT, len(self.rows) // SHARE))
        scores = np.concatenate([self.lists[span] @ unit for span in spans])
        best = best_rows(scores, k)
        return np.concatenate([self.rows[span] for span in spans])[best].astype(np.int64)

    def spans(self, unit: np.ndarray, enough: int) -> list[slice]:
        """Of `lists`, those whose centres are nearest to `unit` (dim,): with enough vectors together."""
        nearest = np.argsort(self._halves - self.centres @ unit)
        count = np.cumsum(self.starts[nearest + 1] - self.starts[nearest])
        return [slice(self.starts[at], self.starts[at + 1])
                for at in nearest[:np.searchsorted(count, enough) + 1].tolist()]


def write_index(folder: Path, batches: Iterable[np.ndarray], songs: int, of: str) -> list[Path]:
    """Write the files of NAMES, of vectors (m, dim) of any length, in order: their paths, of which the one
    that says that the others are whole comes last. None where no vector has a direction.

    Args: of: what they are of; `open_index` must be told the same.
    """
    vectors: np.ndarray | None = None
    there = np.zeros(songs, dtype=bool)
    start = 0
    for batch in batches:
        unit = unit_rows(batch)
        span = slice(start, start + len(unit))
        there[span] = has_direction(unit)
        unit[~there[span]] = 0
        if vectors is None:
            vectors = _file(folder / VECTORS, (songs, unit.shape[1]))
        vectors[span] = unit
        start += len(unit)
    if vectors is None or not there.any():
        return []
    rows = np.flatnonzero(there)
    centres = _centres(vectors, rows)
    own = np.concatenate([_nearest(vectors[rows[at:at + BLOCK]], centres)
                          for at in range(0, len(rows), BLOCK)])
    rows = rows[np.argsort(own, kind="stable")]
    lists = _file(folder / LISTS, (len(rows), vectors.shape[1]))
    for at in range(0, len(rows), BLOCK):
        lists[at:at + BLOCK] = vectors[rows[at:at + BLOCK]]
    for made in (vectors, lists):
        made.flush()
    np.save(folder / ROWS, rows.astype(np.uint32))
    np.save(folder / CENTRES, centres)
    starts = np.searchsorted(np.sort(own), np.arange(len(centres) + 1))
    about = {"of": of, "songs": songs, "nowhere": np.flatnonzero(~there).tolist(), "starts": starts.tolist(),
             "bytes": {name: (folder / name).stat().st_size for name in NAMES[:-1]}}
    (folder / ABOUT).write_text(json.dumps(about))
    return [folder / name for name in NAMES]


def open_index(folder: Path, of: str | None) -> ApproximateIndex | None:
    """None where there is none, or it is of something else, or cut short: then all are looked at."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        if of is None or about["of"] != of or any(
                (folder / name).stat().st_size != about["bytes"][name] for name in NAMES[:-1]):
            return None
        # As plain arrays: slices of a memmap take microseconds each, and a query takes ten.
        vectors, lists, rows, centres = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray) for name in NAMES[:-1])
        starts = np.array(about["starts"], dtype=np.int64)
        if len(vectors) != about["songs"] or len(starts) != len(centres) + 1 or starts[-1] != len(rows):
            return None
        nowhere = np.array(about["nowhere"], dtype=np.int64)
        return ApproximateIndex(vectors, nowhere, lists, rows, centres, starts)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _file(path: Path, shape: tuple[int, int]) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _centres(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(lists, dim) float32, the same for the same vectors. Twice as many as vectors in a list: of a million
    vectors a query compares 2,000 centres and then 8,000 vectors."""
    from sklearn.cluster import KMeans  # 1 s to import, and only a publish needs it
    from sklearn.exceptions import ConvergenceWarning

    count = min(round(2 * len(rows) ** 0.5), len(rows))
    sample = np.random.default_rng(0).choice(rows, min(SAMPLE * count, len(rows)), replace=False)
    settings: dict[str, Any] = {"init": "random", "n_init": 1, "max_iter": ROUNDS, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)     # of fewer different vectors than lists
        means: Any = KMeans(count, **settings).fit(vectors[np.sort(sample)])
    return means.cluster_centers_.astype(np.float32)


def _nearest(unit: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(m,) numbers of the centres nearest to rows (m, dim)."""
    return np.argmin(_halves(centres) - unit @ centres.T, axis=1)


def _halves(centres: np.ndarray) -> np.ndarray:
    """Half the squared lengths: less the product with a vector, the order of the distances from it."""
    return np.einsum("cd,cd->c", centres, centres) / 2
