"""From songs ranked by score to those that are shown: each recording once, caps, diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FIRST = 4               # times k are looked at first, since some of the nearest are left out
POOL, LEAST_POOL = 10, 200      # songs that diversity chooses among: times k, at least
Ranked = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""The so many best rows and their scores, best first; fewer where there are no more."""


@dataclass(frozen=True)
class Hit:
    row: int
    score: float
    same_as: int | None = None      # the row before it, or asked for, that is the same recording


@dataclass(frozen=True)
class Cap:
    """At most so many songs of a group."""

    groups: np.ndarray              # (n,) int, the same for songs of one group
    most: int


def select(ranked: Ranked, k: int, recordings: np.ndarray, *, asked: Sequence[int] = (),
           distinct: bool = True, caps: Sequence[Cap] = (), diversity: float = 0.0,
           vectors: Callable[[np.ndarray], np.ndarray] | None = None) -> list[Hit]:
    """The k best that the rules let pass; fewer where there are no more.

    Args:
        recordings: (n,) int, the same for songs that are one recording.
        asked: rows that are not found.
        distinct: nor is another row of their recordings, nor a recording twice; else such a hit says
        `same_as`. diversity: 0 to 1; else than 0 needs `vectors`.
        vectors: rows (m,) → (m, dim) L2-normalised.
    """
    wanted = max(POOL * k, LEAST_POOL) if diversity else k
    depth = FIRST * wanted + len(asked)
    while True:
        rows, scores = ranked(depth)
        hits = _walked(rows, scores, wanted, recordings, asked, distinct, () if diversity else caps)
        if len(hits) >= wanted or len(rows) < depth:
            break
        depth *= 4
    if not diversity or vectors is None:
        return hits
    return _diverse(hits, k, caps, diversity, vectors(np.array([hit.row for hit in hits], dtype=np.int64)))


def _walked(rows: np.ndarray, scores: np.ndarray, k: int, recordings: np.ndarray, query_rows: Sequence[int],
            distinct: bool, caps: Sequence[Cap]) -> list[Hit]:
    own, first = set(query_rows), {int(recordings[row]): row for row in reversed(query_rows)}
    counts = [Counter[int]() for _ in caps]
    hits: list[Hit] = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        if row in own:
            continue
        other = first.get(int(recordings[row]))
        if (distinct and other is not None) or not _fits(row, caps, counts):
            continue
        first.setdefault(int(recordings[row]), row)
        for cap, count in zip(caps, counts, strict=True):
            count[int(cap.groups[row])] += 1
        hits.append(Hit(row, score, other))
        if len(hits) == k:
            break
    return hits


def _fits(row: int, caps: Sequence[Cap], counts: Sequence[Counter[int]]) -> bool:
    return all(count[int(cap.groups[row])] < cap.most for cap, count in zip(caps, counts, strict=True))


def _diverse(hits: list[Hit], k: int, caps: Sequence[Cap], diversity: float,
             vectors: np.ndarray) -> list[Hit]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): next is the song of the largest
    (1 - diversity) · score - diversity · cosine with the one chosen that is most like it."""
    if not hits:
        return []
    scores = np.array([hit.score for hit in hits])
    nearest = np.full(len(hits), -1.0)
    open_, picks = np.ones(len(hits), dtype=bool), list[Hit]()
    counts = [Counter[int]() for _ in caps]
    while len(picks) < k and open_.any():
        worth = (1 - diversity) * scores - diversity * nearest if picks else scores
        at = int(np.argmax(np.where(open_, worth, -np.inf)))
        open_[at] = False
        if not _fits(hits[at].row, caps, counts):
            continue
        for cap, count in zip(caps, counts, strict=True):
            count[int(cap.groups[hits[at].row])] += 1
        picks.append(hits[at])
        nearest = np.maximum(nearest, vectors @ vectors[at])
    return picks
