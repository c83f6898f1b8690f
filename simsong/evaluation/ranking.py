"""Rankings of a pool by one method, whole and with the query's own artist left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse

from simsong.search.topk import has_direction, top_k, unit_rows

Embedding = np.ndarray | csr_matrix    # (n, d); where a song has none, a row of NaN, or without any entry

STANDARDISED = ("mfcc", "timbre")      # dimensions in units of their own: to mean 0, deviation 1
CENTRED = ("lyrics",)                  # BERT's cosines are narrow about a common direction
SPARE_OWN = 256                        # songs of the query's artist for which one ranking serves both ways


def embedded(matrix: Any) -> np.ndarray:
    """(n,) bool: which songs have an embedding in a matrix (Embedding)."""
    return np.asarray((matrix != 0).sum(axis=1)).ravel() > 0 if issparse(matrix) else \
        np.isfinite(matrix).all(axis=1)


def prepare(method: str, matrix: Any) -> Any:
    """Unit vectors (n, d) float32 of a pool's embeddings (Embedding), dense or sparse as these are.

    MFCC statistics are standardised and lyrics centred over the pool, as a user of theirs would; what is
    sparse cannot be."""
    if issparse(matrix):
        if method in (*STANDARDISED, *CENTRED):
            raise ValueError(f"{method}: sparse embeddings cannot be centred")
        return unit_rows(matrix)
    known = np.isfinite(matrix).all(axis=1)
    out = matrix.astype(np.float32)
    if known.any() and method in (*STANDARDISED, *CENTRED):
        out -= out[known].mean(axis=0, dtype=np.float64).astype(np.float32)
    if known.any() and method in STANDARDISED:
        spread = out[known].std(axis=0, dtype=np.float64)
        out /= np.where(spread > 0, spread, 1).astype(np.float32)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.where(length > 0, length, np.nan)
    out[~known] = np.nan
    return out


class Ranker:
    """Ranks a pool for queries of it, by cosine or, without vectors, at random."""

    def __init__(self, unit: Embedding | None, artists: np.ndarray, cutoff: int, seed: int) -> None:
        """unit: (n, d) as `prepare` gives, or None; artists: (n,) codes."""
        self.unit: Any
        self.unit, self.artists, self.cutoff, self.seed = unit, artists, cutoff, seed
        _, code, count = np.unique(artists, return_inverse=True, return_counts=True)
        self.own = count[code] - 1

    def rank(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(q, cutoff) positions, best first, -1 where they end: all but the query, and all but its artist's
        songs."""
        depth = self.cutoff + min(int(self.own[queries].max(initial=0)), SPARE_OWN)
        whole = self._nearest(queries, depth, None)
        other = (whole >= 0) & (self.artists[whole] != self.artists[queries][:, None])
        first = np.argsort(~other, axis=1, kind="stable")[:, :self.cutoff]
        filtered = np.take_along_axis(np.where(other, whole, -1), first, axis=1)
        for artist in np.unique(self.artists[queries[self.own[queries] > SPARE_OWN]]):
            mine = np.flatnonzero(self.artists[queries] == artist)
            filtered[mine] = self._nearest(queries[mine], self.cutoff, np.flatnonzero(self.artists != artist))
        return whole[:, :self.cutoff], filtered

    def _nearest(self, queries: np.ndarray, depth: int, among: np.ndarray | None) -> np.ndarray:
        """The first `depth` of the pool without the query, or of `among`; queries without a vector get any
        order."""
        missing = np.ones(len(queries), dtype=bool)
        out = np.empty((len(queries), depth), dtype=np.int64)
        if self.unit is not None:
            candidates = self.unit if among is None else self.unit[among]
            out, _ = top_k(self.unit[queries], candidates, depth, exclude=queries if among is None else None)
            out = out if among is None else np.where(out >= 0, among[out], -1)
            missing = ~has_direction(self.unit[queries])
        for row in np.flatnonzero(missing):
            out[row] = self._any_order(int(queries[row]), depth, among)
        return out

    def _any_order(self, query: int, depth: int, among: np.ndarray | None) -> np.ndarray:
        n = len(self.artists) - 1 if among is None else len(among)
        drawn = np.random.default_rng((self.seed, query)).choice(n, min(depth, n), replace=False)
        drawn = drawn + (drawn >= query) if among is None else among[drawn]
        return np.pad(drawn, (0, depth - len(drawn)), constant_values=-1)
