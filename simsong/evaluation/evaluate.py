"""How well embeddings place similar songs together: every method on the same queries, in two pools, with and
without the artist filter, with intervals over artists and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa

from simsong.config import EvaluationSettings
from simsong.evaluation import metrics
from simsong.evaluation.cells import CandidatePool, Cell, cells_of, pools_of
from simsong.evaluation.figures import (
    CLAIM_QUERIES,
    HUB_K,
    ORDER,
    Measured,
    assemble,
    query_table,
)
from simsong.evaluation.ground_truth import EvaluationSongs, GroundTruth
from simsong.evaluation.ranking import Embedding, Ranker, embedded, fuse, prepare
from simsong.progress import meter
from simsong.search.topk import has_direction

__all__ = ["CLAIM_QUERIES", "LEARNED", "evaluate", "evaluate_queries"]

CHUNK = 16_384               # queries ranked at a time
RELEVANT_PAIRS, RANDOM_PAIRS = 20, 50_000   # cosines are averaged over so many (a query, in all)
LEARNED = ("wns", "ns", "wns_shuffled")
RANDOM, SAME_ARTIST, LYRICS, FUSION = "random", "same_artist", "lyrics", "fusion"


def evaluate(embeddings: Mapping[str, Embedding], songs: EvaluationSongs, truths: Sequence[GroundTruth],
             held_out: np.ndarray | None, config: EvaluationSettings) -> dict[str, Any]:
    """Recall, hit rate, nDCG, MAP, MRR, hubness and coverage of each method, baselines included.

    All methods are compared on the same queries and candidates: the songs that the learned methods (where
    none is given, any method) embed. A song that another method cannot embed (a NaN row, or an empty one of
    a sparse matrix: no lyrics, say) is never found by it, and as a query gets a random order;
    `embedded_queries` and `embedded_candidates` say how many are. Where more than `config.queries` songs
    could ask, so many drawn at random do, the same ones for every method; "askable" says of how many.

    Three baselines are made here: "random"; "same_artist", the songs of the query's artist first and the rest
    at random (where an artist has two); "fusion" of audio (wns, or else ns) and lyrics (see `fuse`).

    Args:
        embeddings: (n, d) by method: mfcc, lyrics, words, untrained, ns, wns, wns_shuffled, or any other
            name. A sparse one is never made dense as a whole, and gives what it would give dense.
        truths: the first gives the headline; the rest come out under "others", by name.
        held_out: (n,) bool, songs of artists that training never saw; None, or too few: all ask, which is
            transductive where anything is trained (LEARNED).
    Raises: ValueError where shapes differ, or some songs of an artist are held out and some are not.
    Returns: JSON-able. "methods" → method → metric → {"value", "low", "high"} over the pool of everything,
        with "held_out" (the pool of held-out songs, or null) and "artist_filter" of the same keys inside;
        "differences" alike for pairs of methods ("wns-ns"); "protocol". Every number is finite or null.
    """
    return evaluate_queries(embeddings, songs, truths, held_out, config)[0]


def evaluate_queries(embeddings: Mapping[str, Embedding], songs: EvaluationSongs,
                     truths: Sequence[GroundTruth],
                     held_out: np.ndarray | None, config: EvaluationSettings,
                     ) -> tuple[dict[str, Any], pa.Table]:
    """The figures as `evaluate` gives them, and each query's, as `query_table` does."""
    for name in embeddings:
        shape = tuple(cast(Any, embeddings[name]).shape)
        if len(shape) != 2 or shape[0] != len(songs):
            raise ValueError(f"embeddings of {name}: {shape} for {len(songs)} songs")
    if not truths or (held_out is not None and len(held_out) != len(songs)):
        raise ValueError(f"{len(truths)} ground truths; held_out of another length than {len(songs)} songs")
    artists = songs.artist_codes()
    if held_out is not None and len(split := np.intersect1d(artists[held_out], artists[~held_out])):
        raise ValueError(f"{len(split)} artists are held out with some of their songs only, so not held out")
    pools = pools_of(songs.track_ids, artists, _embedded(embeddings, len(songs)), held_out, truths[0],
                     config.seed)
    cells = cells_of(truths, pools, config.queries)
    cells_of_pools = {name: _measure(pool, cells[name], _methods(embeddings, pool), config)
                      for name, pool in pools.items()}
    trained = any(name in LEARNED for name in embeddings)
    results = [assemble(truth, i, cells_of_pools, pools, len(songs), trained, config)
               for i, truth in enumerate(truths)]
    others = {truth.name: result for truth, result in zip(truths[1:], results[1:], strict=True)}
    return {**results[0], "others": others}, query_table(cells_of_pools, pools, songs, config.ks)


def _embedded(embeddings: Mapping[str, Embedding], n: int) -> np.ndarray:
    names = [name for name in LEARNED if name in embeddings] or list(embeddings)
    return np.any([embedded(embeddings[name]) for name in names], axis=0) if names else np.ones(n, dtype=bool)


@dataclass(frozen=True)
class _Method:
    """How a pool's songs are ranked: by the cosine of an embedding, of one fused with lyrics, or by none.
    What `embeddings` reads from a store is read when it is asked for, and held no longer."""

    embeddings: Mapping[str, Any]
    audio: str | None = None
    fused: bool = False
    artist_first: bool = False

    def unit(self, pool: CandidatePool) -> Embedding | None:
        if self.audio is None:
            return None
        audio = self.embeddings[self.audio][pool.rows]
        return fuse(audio, self.embeddings[LYRICS][pool.rows]) if self.fused else prepare(self.audio, audio)


def _methods(embeddings: Mapping[str, Embedding], pool: CandidatePool) -> dict[str, _Method]:
    """In the order in which they are shown."""
    methods = {name: _Method(embeddings, name) for name in embeddings} | {RANDOM: _Method(embeddings)}
    if len(np.unique(pool.artists)) < len(pool.artists):
        methods[SAME_ARTIST] = _Method(embeddings, artist_first=True)
    audio = next((name for name in ("adapted", "wns", "ns") if name in embeddings), None)
    if audio is not None and LYRICS in embeddings and isinstance(embeddings[LYRICS], np.ndarray):
        methods[FUSION] = _Method(embeddings, audio, fused=True)
    return {name: methods[name] for name in [m for m in ORDER if m in methods]
            + [m for m in methods if m not in ORDER]}


def _measure(pool: CandidatePool, cells: list[Cell], methods: Mapping[str, _Method],
             config: EvaluationSettings) -> list[Measured]:
    cutoff, width = max(config.ks), len(metrics.names(config.ks))
    query_rows = np.unique(np.concatenate([cell.queries for cell in cells]))
    out = [Measured(cell) for cell in cells]
    with meter("evaluate", len(methods) * len(query_rows), "rankings") as progress:
        for name, method in methods.items():
            unit = method.unit(pool)
            ranker = Ranker(unit, pool.artists, cutoff, config.seed, fused=method.fused,
                            artist_first=method.artist_first)
            firsts = [np.full((len(cell.queries), HUB_K), -1) for cell in cells]
            for done in out:
                done.values[name] = np.empty((len(done.cell.queries), width), np.float32)
            for queries in _chunks(query_rows):
                both = ranker.rank(queries)
                for done, first in zip(out, firsts, strict=True):
                    _add(done, name, queries, both[done.cell.filtered], first, config.ks)
                progress.step(len(queries))
            if method.fused:
                unit = cast(Any, unit)[:, :-1]
            for done, first in zip(out, firsts, strict=True):
                done.single[name] = _single(done.cell, first, unit, pool.artists, config.seed)
            del unit, ranker                # before the next method's are read
    return out


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for first, last in pairwise([*range(0, len(rows), CHUNK), len(rows)]):
        yield rows[first:last]


def _add(done: Measured, method: str, queries: np.ndarray, rankings: np.ndarray, first: np.ndarray,
         ks: Sequence[int]) -> None:
    cell = done.cell
    # Queries and cell.queries both ascend.
    begin, end = np.searchsorted(cell.queries, [queries[0], queries[-1] + 1])
    part = slice(int(begin), int(end))
    mine = rankings[np.searchsorted(queries, cell.queries[part])]
    hit = metrics.hits(mine, cell.relevant[part])
    first[part, :mine.shape[1]] = mine[:, :HUB_K]
    values = metrics.per_query(hit, cell.n_relevant[part], ks)
    for at, name in enumerate(metrics.names(ks)):
        done.values[method][part, at] = values[name]


def _single(cell: Cell, first: np.ndarray, unit: Embedding | None, artists: np.ndarray,
            seed: int) -> dict[str, float | None]:
    """Figures of a method that are no means over queries, so have no interval."""
    n = len(artists)
    if not len(cell.queries):
        return {}
    embedded = np.ones(n, dtype=bool) if unit is None else has_direction(unit)
    out = metrics.occurrence(first[embedded[cell.queries]], HUB_K, np.flatnonzero(embedded))
    out["embedded_queries"] = float(np.mean(embedded[cell.queries]))
    out["embedded_candidates"] = float(np.mean(embedded))
    if unit is None:
        return out | {"cosine_relevant": None, "cosine_random": None}
    rng = np.random.default_rng(seed)                        # the same pairs for every method
    pairs = []
    for query, relevant in zip(cell.queries, cell.relevant, strict=True):
        few = len(relevant) <= RELEVANT_PAIRS
        some = relevant if few else rng.choice(relevant, RELEVANT_PAIRS, replace=False)
        pairs.append(np.stack([np.full(len(some), query), some], axis=1))
    pairs = np.concatenate(pairs)
    others = np.stack([rng.choice(cell.queries, RANDOM_PAIRS), rng.integers(n, size=RANDOM_PAIRS)], axis=1)
    for name, some in (("cosine_relevant", pairs), ("cosine_random", others)):
        same = artists[some] if cell.filtered else some
        out[name] = metrics.mean_cosine(unit, some[same[:, 0] != same[:, 1]])
    return out
