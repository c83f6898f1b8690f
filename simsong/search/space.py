"""Songs as points: the nearest to a vector, exactly or by an index."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simsong.search.approximate import BESIDE, MOST, ApproximateIndex
from simsong.search.topk import settled, unit_rows

SPARE = 16              # winners in float32 beyond k, whose order float64 settles
BLOCK = 1024            # songs whose largest score stands for them when a threshold is sought


@dataclass
class VectorSpace:
    """Attributes:
        vectors: (n, dim) float32, of any length; possibly a file mapped into memory. What has a NaN or no
            length has no direction, and is never found.
        nowhere: the rows that have no direction, where all others are of length 1; None where that is not
            known.
        index: of the same rows.
    """

    vectors: np.ndarray
    nowhere: np.ndarray | None = None
    index: ApproximateIndex | None = None
    _lengths: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.vectors)

    def units(self, rows: np.ndarray) -> np.ndarray:
        """(m, dim) float32 of these rows, over their length; 0 where they have no direction."""
        return np.nan_to_num(unit_rows(self.vectors[rows]))

    def nearest(self, query: np.ndarray, k: int, among: np.ndarray | None = None,
                exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The k songs of largest cosine with `query` (dim,), best first, ties going to the smaller row.

        By the index, where there is one: very likely those; and their cosines are exact.

        Args: among: (n,) bool, the songs that may be found: of all of them. exact: not by the index.
        Returns: rows and cosines, at most k of each.
        """
        if self.index is not None and not exact and among is None and k + BESIDE <= MOST:
            unit = unit_rows(query[None])[0]
            rows = np.zeros(0, np.int64) if np.isnan(unit[0]) else self.index.near(unit, k)
            return settled(query, self.vectors, rows, k)
        scores = self.cosines(query)
        if among is not None:
            scores[~among] = np.nan
        return settled(query, self.vectors, best_rows(scores, k + SPARE), k)

    def cosines(self, query: np.ndarray) -> np.ndarray:
        """(n,) float32 with `query` (dim,); NaN where one has no direction."""
        unit = unit_rows(query[None])[0]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            cosines = self.vectors @ unit
            if self.nowhere is None:
                cosines /= self._length()
        if self.nowhere is not None:
            cosines[self.nowhere] = np.nan
        return cosines

    def _length(self) -> np.ndarray:
        if (lengths := self._lengths) is None:
            lengths = self._lengths = np.sqrt(np.einsum("nd,nd->n", self.vectors, self.vectors))
        return lengths


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest scores (n,) that are no NaN and not -inf, and of all that tie with the last of
    them."""
    n = len(scores)
    if k < n:
        # Some blocks' largest are k scores, so the k-th largest of all is no smaller than theirs: two passes
        # instead of a partition.
        whole = n // BLOCK * BLOCK
        tops = scores[:whole].reshape(-1, BLOCK).max(axis=1) if whole else np.zeros(0, np.float32)
        tops = np.nan_to_num(tops, nan=-np.inf)
        least = np.partition(tops, -k)[-k] if len(tops) > k else np.float32(-np.inf)
        rows = np.flatnonzero(scores >= least) if least > -np.inf else np.flatnonzero(scores > -np.inf)
    else:
        rows = np.flatnonzero(scores > -np.inf)
    if len(rows) > k:
        of_rows = scores[rows]
        rows = rows[of_rows >= np.partition(of_rows, -k)[-k]]
    return rows
