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
    return _unit(matrix, centre=method in (*STANDARDISED, *CENTRED), scale=method in STANDARDISED)


def fuse(audio: np.ndarray, lyrics: np.ndarray) -> np.ndarray:
    """Unit vectors (n, a + l + 1) float32 of songs' audio (n, a) and lyrics (n, l), for a Ranker with
    `fused=True`: each centred over the songs and normalised, its cosines are the mean of the two's.

    Lyrics that are unknown count as neither alike nor unlike, which centred ones are on average: a cosine of
    0, so that a query without them goes by audio alone. The last column makes up for their missing length
    where such a song is a candidate. Songs without audio are NaN.
    """
    sound, sung = _unit(audio, centre=True, scale=False), _unit(lyrics, centre=True, scale=False)
    missing = ~has_direction(sung)
    sung[missing] = 0
    out = np.concatenate([sound, sung, missing[:, None].astype(np.float32)], axis=1) * np.float32(0.5 ** 0.5)
    out[~has_direction(sound)] = np.nan
    return out


def _unit(matrix: np.ndarray, *, centre: bool, scale: bool) -> np.ndarray:
    finite = np.isfinite(matrix).all(axis=1)
    out = matrix.astype(np.float32)
    if finite.any() and centre:
        out -= out[finite].mean(axis=0, dtype=np.float64).astype(np.float32)
    if finite.any() and scale:
        spread = out[finite].std(axis=0, dtype=np.float64)
        out /= np.where(spread > 0, spread, 1).astype(np.float32)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.where(length > 0, length, np.nan)
    out[~finite] = np.nan
    return out


class Ranker:
    """Ranks a pool for queries of it, by cosine or, without vectors, at random."""

    def __init__(self, unit: Embedding | None, artists: np.ndarray, cutoff: int, seed: int, *,
                 fused: bool = False, artist_first: bool = False) -> None:
        """unit: (n, d) as `prepare`, or with `fused` as `fuse` gives, or None: then at random, but with
        `artist_first` after the songs of the query's artist; artists: (n,) codes."""
        self.unit: Any
        self.unit, self.artists, self.cutoff, self.seed = unit, artists, cutoff, seed
        self.fused, self.artist_first = fused, artist_first
        _, self._code, self._count = np.unique(artists, return_inverse=True, return_counts=True)
        self._by_artist = np.argsort(self._code, kind="stable")

    def rank(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(q, cutoff) positions, best first, -1 where they end: all but the query, and all but its artist's
        songs."""
        own = self._count[self._code[queries]] - 1
        depth = self.cutoff + min(int(own.max(initial=0)), SPARE_OWN)
        whole = self._nearest(queries, depth, None)
        filtered = self._first_of_others(whole, queries)
        for artist in np.unique(self.artists[queries[own > SPARE_OWN]]):
            mine = np.flatnonzero(self.artists[queries] == artist)
            filtered[mine] = self._nearest(queries[mine], self.cutoff, np.flatnonzero(self.artists != artist))
        return whole[:, :self.cutoff], filtered

    def _first_of_others(self, rankings: np.ndarray, queries: np.ndarray) -> np.ndarray:
        other = (rankings >= 0) & (self.artists[rankings] != self.artists[queries][:, None])
        return _first(np.where(other, rankings, -1), self.cutoff)

    def _nearest(self, queries: np.ndarray, depth: int, among: np.ndarray | None) -> np.ndarray:
        """The first `depth` of the pool without the query, or of `among`; queries without a vector get any
        order."""
        if self.unit is None:
            rankings = self._any_order(queries, depth, among)
            return self._own_first(queries, rankings) if self.artist_first and among is None else rankings
        vectors = self.unit[queries]
        if self.fused:
            vectors[:, -1] = 0
        candidates = self.unit if among is None else self.unit[among]
        out, _ = top_k(vectors, candidates, depth, exclude=queries if among is None else None)
        out = out if among is None else np.where(out >= 0, among[out], -1)
        if (missing := ~has_direction(vectors)).any():
            out[missing] = self._any_order(queries, depth, among)[missing]
        return out

    def _any_order(self, queries: np.ndarray, depth: int, among: np.ndarray | None) -> np.ndarray:
        rng = np.random.default_rng((self.seed, int(queries[0])))
        n = len(self.artists) - 1 if among is None else len(among)
        rankings = draw(rng, len(queries), n, min(depth, n))
        rankings = rankings + (rankings >= queries[:, None]) if among is None else among[rankings]
        return np.pad(rankings, ((0, 0), (0, depth - rankings.shape[1])), constant_values=-1)

    def _own_first(self, queries: np.ndarray, rankings: np.ndarray) -> np.ndarray:
        """The rankings drawn, their songs of the query's artist replaced by all of these, in front."""
        code, depth = self._code[queries], rankings.shape[1]
        first = (np.cumsum(self._count) - self._count)[code][:, None]
        place = np.arange(min(int(self._count[code].max(initial=0)), depth + 1))
        own = self._by_artist[np.minimum(first + place, len(self._by_artist) - 1)]
        own = np.where((place < self._count[code][:, None]) & (own != queries[:, None]), own, -1)
        other = (rankings >= 0) & (self._code[rankings] != code[:, None])
        return _first(np.concatenate([own, np.where(other, rankings, -1)], axis=1), depth)


def draw(rng: np.random.Generator, rows: int, n: int, k: int) -> np.ndarray:
    """(rows, k) int64: in each row k different numbers below n, in random order; k <= n."""
    if n <= 8 * k:
        return np.argsort(rng.random((rows, n)), axis=1)[:, :k]
    out = rng.integers(n, size=(rows, k))
    again = np.arange(rows)
    while len(again):                                        # what came before in its row is drawn anew
        order = np.argsort(out[again], axis=1, kind="stable")
        ascending = np.take_along_axis(out[again], order, axis=1)
        row, at = np.nonzero(ascending[:, 1:] == ascending[:, :-1])
        out[again[row], order[row, at + 1]] = rng.integers(n, size=len(row))
        again = again[np.unique(row)]
    return out


def _first(rankings: np.ndarray, k: int) -> np.ndarray:
    """(q, k): the first entries of each row that are not -1; -1 where they end."""
    order = np.argsort(rankings < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rankings, order, axis=1)
