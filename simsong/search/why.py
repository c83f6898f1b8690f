"""How alike two songs are in each respect, and which moments of them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Aspect:
    """Attributes:
        name: audio, lyrics, tags, genre; artist, album, listeners.
        score: how alike the two are: a cosine, the share of their labels that both have, or what Last.fm says
            of their listeners; None of what is either so or not.
        closer_than: the share of other songs that are less alike, 0 to 1; 0.5 is chance. None where others
            were not looked at.
        share: of what speaks for the two, of all aspects: how far `closer_than` is above chance; 0 to 1.
        detail: what it is about, in words.
    """

    name: str
    score: float | None
    closer_than: float | None = None
    detail: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Moment:
    """Two windows, one of each song, that agree: their numbers, seconds into the songs, and the cosine."""

    numbers: tuple[int, int]
    of_a_s: tuple[float, float]
    of_b_s: tuple[float, float]
    score: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        a, b = ({"number": number, "start_s": round(start_s, 3), "end_s": round(end_s, 3)}
                for number, (start_s, end_s) in zip(self.numbers, (self.of_a_s, self.of_b_s), strict=True))
        return {"a": a, "b": b, "score": round(self.score, 4)}


def with_shares(aspects: Sequence[Aspect]) -> list[Aspect]:
    """Scores of different kinds cannot be added; how rare they are among other songs can."""
    weights = [None if aspect.closer_than is None else max(2 * aspect.closer_than - 1, 0.0)
               for aspect in aspects]
    total = sum(weight for weight in weights if weight) or 1.0
    return [aspect if weight is None else replace(aspect, share=weight / total)
            for aspect, weight in zip(aspects, weights, strict=True)]


def closer_than(scores: np.ndarray, score: float) -> float:
    """The share of scores (n,) of other songs that are less, equal ones counted half; NaNs do not count. 0.5
    where there is none."""
    finite = scores[~np.isnan(scores)]
    if not len(finite):
        return 0.5
    return float(((finite < score - 1e-9).sum() + (finite <= score + 1e-9).sum()) / (2 * len(finite)))


def most_alike(a: np.ndarray, b: np.ndarray, pairs: int = 1) -> list[tuple[int, int, float]]:
    """Of two songs' windows (w, dim), L2-normalised, the pairs of largest cosine, the best first, of equals
    the earliest; each window in one pair at most."""
    if not len(a) or not len(b):
        return []
    cosines = np.round(a.astype(np.float64) @ b.T.astype(np.float64), 9)
    alike = list[tuple[int, int, float]]()
    for _ in range(min(pairs, *cosines.shape)):
        i, j = (int(at) for at in np.unravel_index(int(np.argmax(cosines)), cosines.shape))
        alike.append((i, j, float(cosines[i, j])))
        cosines[i, :] = cosines[:, j] = -np.inf
    return alike
