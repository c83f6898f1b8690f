"""Groups of songs, such as artists and albums, as embeddings: the mean of their songs'."""

from __future__ import annotations

import numpy as np

from simsong.search.topk import unit_rows


def centroids(embeddings: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """(count, dim) float32, L2-normalised, of the songs' unit vectors; NaN where a group has no song with a
    direction, or its songs' directions cancel.

    Args: embeddings: (n, dim); groups: (n,) 0 … count - 1, or -1 where a song is in none.
    """
    unit = unit_rows(embeddings)
    counted = np.flatnonzero((groups >= 0) & np.isfinite(unit).all(axis=1))
    counted = counted[np.argsort(groups[counted], kind="stable")]
    sums = np.zeros((count, embeddings.shape[1]), np.float64)
    if len(counted):
        own, first = np.unique(groups[counted], return_index=True)
        sums[own] = np.add.reduceat(unit[counted], first, axis=0, dtype=np.float64)
    return unit_rows(sums.astype(np.float32))
