"""Songs as points: the nearest to a vector, exactly or by an index."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simsong.search.approximate import MOST, ApproximateIndex
from simsong.search.topk import SPARE, best_rows, settled, unit_rows


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
        if self.index is not None and not exact and among is None and k <= MOST:
            unit = unit_rows(query[None])[0]
            rows = np.zeros(0, np.int64) if np.isnan(unit[0]) else self.index.near(unit, k + SPARE)
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
