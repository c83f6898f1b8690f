"""Who asks, among which candidates, and what is right: the same for every method that is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from simsong.evaluation.ground_truth import GroundTruth

HELD_OUT_QUERIES = 20        # fewer of held-out artists: all songs are queries
EVERYTHING, HELD_OUT = "everything", "held_out"


@dataclass(frozen=True)
class CandidatePool:
    """The candidates: (n,) rows of the songs, their artists' codes, and which of them may ask. Their order is
    random, so that ties favour nobody; all that follows counts in positions of it."""

    rows: np.ndarray
    artists: np.ndarray
    asking: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One ground truth in one pool, with or without the artist filter: the queries (q,), ascending, that have
    anything relevant, what is relevant to each (sorted), how many of that count (q,), their artists 0..c-1
    (q,), queries of each (c,). `askable`: songs that could have been queries, were there no cap."""

    truth: str
    filtered: bool
    queries: np.ndarray
    relevant: Sequence[np.ndarray]
    n_relevant: np.ndarray
    clusters: np.ndarray
    counts: np.ndarray
    askable: int


def pools_of(track_ids: Sequence[str], artists: np.ndarray, some: np.ndarray, held_out: np.ndarray | None,
             truth: GroundTruth, seed: int) -> dict[str, CandidatePool]:
    """Everything embedded and, unless too few of them could ask, the songs of held-out artists.

    Args:
        artists: (n,) codes; some: (n,) bool, which songs are embedded; held_out: (n,) bool or None.
        truth: what says how many could ask.
    """
    order = random_order(track_ids, seed)
    order = order[some[order]]
    asking = np.zeros(len(some), dtype=bool) if held_out is None else held_out
    everything = CandidatePool(order, artists[order], asking[order])
    if len(cell_of(truth, everything, False, HELD_OUT_QUERIES).queries) < HELD_OUT_QUERIES:
        return {EVERYTHING: CandidatePool(order, artists[order], np.ones(len(order), dtype=bool))}
    rows = order[asking[order]]
    return {EVERYTHING: everything,
            HELD_OUT: CandidatePool(rows, artists[rows], np.ones(len(rows), dtype=bool))}


def random_order(track_ids: Sequence[str], seed: int) -> np.ndarray:
    """(n,) rows in an order that depends on each song's id alone: what a catalogue gains or loses leaves the
    rest in place, so that two of its states are asked by nearly the same queries."""
    salt = seed.to_bytes(8, "little", signed=True)
    keys = b"".join(blake2b(i.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
                    for i in track_ids)
    return np.argsort(np.frombuffer(keys, dtype="<u8"), kind="stable")


def cell_of(truth: GroundTruth, pool: CandidatePool, filtered: bool, cap: int) -> Cell:
    """Its queries are the first `cap` in the pool's random order: the same in each cell, as far as may be."""
    filtered = filtered or truth.without_artist
    position = np.full(len(truth.relevant), -1)
    position[pool.rows] = np.arange(len(pool.rows))
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}    # of an array that songs share, one copy
    askable = np.flatnonzero(pool.asking & truth.queries[pool.rows])
    queries, relevant, counts = [], [], []
    for query in askable.tolist():
        if len(queries) == cap:
            break
        rows = truth.relevant[int(pool.rows[query])]
        if id(rows) not in placed:
            at = position[rows]
            placed[id(rows)] = rows, np.sort(at[at >= 0])
        at = placed[id(rows)][1]
        same = pool.artists[at] == pool.artists[query] if filtered else at == query
        if (count := len(at) - int(np.count_nonzero(same))) > 0:
            queries.append(query)
            relevant.append(at)
            counts.append(count)
    query_rows = np.array(queries, dtype=np.int64)
    codes, clusters = np.unique(pool.artists[query_rows], return_inverse=True)
    return Cell(truth.name, filtered, query_rows, relevant, np.array(counts, dtype=np.int64), clusters,
                np.bincount(clusters, minlength=len(codes)), len(askable))


def cells_of(truths: Sequence[GroundTruth], pools: Mapping[str, CandidatePool],
             cap: int) -> dict[str, list[Cell]]:
    """By pool: of each truth in turn, without the artist filter and with it."""
    return {name: [cell_of(truth, pool, filtered, cap) for truth in truths for filtered in (False, True)]
            for name, pool in pools.items()}
