"""The nearest songs of many at a time, each recording once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simsong.search.approximate import ApproximateIndex
from simsong.search.topk import top_k

MORE = 4            # times as many are looked at where too few recordings were among them


def nearest_recordings(asking: np.ndarray, embeddings: np.ndarray, recordings: np.ndarray,
                       k: int) -> tuple[np.ndarray, np.ndarray]:
    """For each song that asks, the k nearest recordings other than its own, each by its nearest song.

    Args:
        asking: (q,) rows of the songs that ask; embeddings: (n, dim);
        recordings: (n,) int, equal for songs that are one recording.
    Returns: rows (q, k) and cosines (q, k), best first, ties going to the smaller row; -1 and -inf where
        fewer than k recordings are left.
    """
    n = len(embeddings)
    indices, cosines = np.full((len(asking), k), -1), np.full((len(asking), k), -np.inf)
    left, looked_at = np.arange(len(asking)), min(k, n)
    several = np.bincount(recordings, minlength=1)[recordings] > 1
    while len(left):
        songs = asking[left]
        nearest, scores = top_k(embeddings[songs], embeddings, looked_at, exclude=songs)
        usable = nearest >= 0
        for row in np.flatnonzero((several[nearest] & usable).any(axis=1)):
            own = recordings[nearest[row]]
            first = np.zeros(len(own), dtype=bool)
            first[np.unique(own, return_index=True)[1]] = True      # of unknown rows (-1), which end the row,
            usable[row] &= first & (own != recordings[songs[row]])    # none is kept anyway
        counts = usable.sum(axis=1)
        done = (counts >= k) | (looked_at == n) | (nearest[:, -1] < 0)
        for row in np.flatnonzero(done):
            there = np.flatnonzero(usable[row])[:k]
            indices[left[row], :len(there)] = nearest[row, there]
            cosines[left[row], :len(there)] = scores[row, there]
        left, looked_at = left[~done], min(MORE * looked_at, n)
    return indices, cosines


def nearest_by_index(index: ApproximateIndex, recordings: np.ndarray, k: int,
                     enough: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Nearly the same for all songs, list by list: each is compared with so many songs, those of the lists
    nearest to its own.

    Yields: the songs (q,) of a list; rows (q, k) and cosines (q, k) as `nearest_recordings`.
    """
    for first, end, centre in zip(index.starts[:-1], index.starts[1:], index.centres, strict=True):
        if first == end:
            continue
        asking = np.sort(index.rows[first:end]).astype(np.int64)
        lists = [index.rows[span] for span in index.spans(centre, enough)]
        rows = np.union1d(asking, np.concatenate(lists)).astype(np.int64)   # sorted: ties go to the smaller
        nearest, cosines = nearest_recordings(np.searchsorted(rows, asking), index.vectors[rows],
                                              np.unique(recordings[rows], return_inverse=True)[1], k)
        nearest = np.where(nearest >= 0, rows[nearest], -1)
        if len(few := np.flatnonzero(nearest[:, -1] < 0)):        # copies of few recordings: ask of all songs
            nearest[few], cosines[few] = nearest_recordings(asking[few], index.vectors, recordings, k)
        yield asking, nearest, cosines
