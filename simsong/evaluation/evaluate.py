"""How well embeddings place similar songs together: every method on the same queries, in two pools, with and
without the artist filter, with intervals over artists and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np

from simsong.config import Evaluation
from simsong.evaluation import metrics
from simsong.evaluation.ground_truth import SIMILARS, GroundTruth, Songs
from simsong.evaluation.ranking import Embedding, Ranker, embedded, prepare
from simsong.progress import meter
from simsong.search.topk import has_direction

CLAIM_QUERIES = 100          # fewer: figures, but no claim
HELD_OUT_QUERIES = 20        # fewer of held-out artists: all songs are queries (transductive)
HUB_K = 10
CHUNK = 4096                 # queries ranked at a time
RELEVANT_PAIRS, RANDOM_PAIRS = 20, 50_000   # cosines are averaged over so many (a query, in all)
LEARNED = ("wns", "ns")
ORDER = ("random", "mfcc", "timbre", "lyrics", "words", "untrained", "ns", "wns")
PAIRS = (("wns", "ns"), ("wns", "mfcc"), ("ns", "mfcc"), ("wns", "untrained"), ("ns", "untrained"),
         ("wns", "lyrics"), ("wns", "words"), ("wns", "random"), ("ns", "random"), ("untrained", "random"),
         ("mfcc", "random"), ("timbre", "random"), ("words", "random"))


@dataclass(frozen=True)
class Pool:
    """The candidates: (n,) rows of the songs, and their artists' codes. Their order is random, so that ties
    favour nobody; all that follows counts in positions of it."""

    rows: np.ndarray
    artists: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One ground truth in one pool, with or without the artist filter: the queries (q,) that have anything
    relevant, what is relevant to each (sorted), how many of that count (q,), their artists 0..c-1 (q,),
    queries of each (c,)."""

    filtered: bool
    queries: np.ndarray
    relevant: Sequence[np.ndarray]
    n_relevant: np.ndarray
    clusters: np.ndarray
    counts: np.ndarray


def evaluate(embeddings: Mapping[str, Embedding], songs: Songs, truths: Sequence[GroundTruth],
             held_out: np.ndarray | None, config: Evaluation) -> dict[str, Any]:
    """Recall, hit rate, nDCG, MAP, MRR, hubness and coverage of each method, random order included.

    All methods are compared on the same queries and candidates: the songs that the learned methods (where
    none is given, any method) embed. A song that another method cannot embed (a NaN row, or an empty one of
    a sparse matrix: no lyrics, say) is never found by it, and as a query gets a random order;
    `embedded_queries` and `embedded_candidates` say how many are.

    Args:
        embeddings: (n, d) by method: mfcc, lyrics, words, untrained, ns, wns, or any other name. A sparse
            one is never made dense as a whole, and gives what it would give dense.
        truths: the first gives the headline; the rest come out under "others", by name.
        held_out: (n,) bool, songs of artists that training never saw; None, or too few: transductive.
    Returns: JSON-able. "methods" → method → metric → {"value", "low", "high"} over the pool of everything,
        with "held_out" (the pool of held-out songs, or null) and "artist_filter" of the same keys inside;
        "differences" alike for pairs of methods ("wns-ns"); "protocol". Every number is finite or null.
    """
    for name, matrix in embeddings.items():
        shape = tuple(cast(Any, matrix).shape)
        if len(shape) != 2 or shape[0] != len(songs):
            raise ValueError(f"embeddings of {name}: {shape} for {len(songs)} songs")
    if not truths or (held_out is not None and len(held_out) != len(songs)):
        raise ValueError(f"{len(truths)} ground truths; held_out of another length than {len(songs)} songs")
    artists = songs.artist_codes()
    some = _embedded(embeddings, len(songs))
    order = np.random.default_rng(config.seed).permutation(np.flatnonzero(some))
    everything = Pool(order, artists[order])
    asking = held_out if held_out is not None else np.zeros(len(songs), dtype=bool)
    transductive = len(_cell(truths[0], everything, asking[order], False).queries) < HELD_OUT_QUERIES
    if transductive:
        asking = np.ones(len(songs), dtype=bool)
    pools: dict[str, Pool] = {"everything": everything}
    if not transductive:
        rows = order[asking[order]]
        pools["held_out"] = Pool(rows, artists[rows])
    names = [m for m in ORDER if m == "random" or m in embeddings] + [m for m in embeddings if m not in ORDER]
    measured = {name: _measure(pool, [_cell(truth, pool, asking[pool.rows], filtered)
                                      for truth in truths for filtered in (False, True)],
                               names, embeddings, config)
                for name, pool in pools.items()}
    results = [_assemble(truth, i, measured, pools, transductive, len(songs), config)
               for i, truth in enumerate(truths)]
    others = {truth.name: result for truth, result in zip(truths[1:], results[1:], strict=True)}
    return {**results[0], "others": others}


def _embedded(embeddings: Mapping[str, Embedding], n: int) -> np.ndarray:
    names = [name for name in LEARNED if name in embeddings] or list(embeddings)
    return np.any([embedded(embeddings[name]) for name in names], axis=0) if names else np.ones(n, dtype=bool)


def _cell(truth: GroundTruth, pool: Pool, asking: np.ndarray, filtered: bool) -> Cell:
    filtered = filtered or truth.without_artist
    position = np.full(len(truth.relevant), -1)
    position[pool.rows] = np.arange(len(pool.rows))
    placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}    # of an array that songs share, one copy
    queries, relevant, counts = [], [], []
    for query in np.flatnonzero(asking & truth.queries[pool.rows]).tolist():
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
    asked = np.array(queries, dtype=np.int64)
    codes, clusters = np.unique(pool.artists[asked], return_inverse=True)
    return Cell(filtered, asked, relevant, np.array(counts, dtype=np.int64), clusters,
                np.bincount(clusters, minlength=len(codes)))


@dataclass(frozen=True)
class Measured:
    """A cell and what came of it: per-artist sums (c, m) of the metrics, and single figures, by method."""

    cell: Cell
    names: list[str]
    sums: dict[str, np.ndarray]
    single: dict[str, dict[str, float | None]]


def _measure(pool: Pool, cells: list[Cell], methods: Sequence[str], embeddings: Mapping[str, Embedding],
             config: Evaluation) -> list[Measured]:
    cutoff = max(config.ks)
    asked = np.unique(np.concatenate([cell.queries for cell in cells]))
    out = [Measured(cell, [], {}, {}) for cell in cells]
    with meter("evaluate", len(methods) * len(asked), "rankings") as progress:
        for method in methods:
            matrix: Any = embeddings.get(method)
            unit = prepare(method, matrix[pool.rows]) if matrix is not None else None
            ranker = Ranker(unit, pool.artists, cutoff, config.seed)
            firsts = [np.full((len(cell.queries), HUB_K), -1) for cell in cells]
            for queries in _chunks(asked):
                both = ranker.rank(queries)
                for done, first in zip(out, firsts, strict=True):
                    _add(done, method, queries, both[done.cell.filtered], first, config.ks)
                progress.step(len(queries))
            for done, first in zip(out, firsts, strict=True):
                done.single[method] = _single(done.cell, first, unit, pool.artists, config.seed)
    return out


def _chunks(asked: np.ndarray) -> Iterator[np.ndarray]:
    for first, last in pairwise([*range(0, len(asked), CHUNK), len(asked)]):
        yield asked[first:last]


def _add(done: Measured, method: str, queries: np.ndarray, rankings: np.ndarray, first: np.ndarray,
         ks: Sequence[int]) -> None:
    cell = done.cell
    # Queries and cell.queries both ascend.
    at = np.flatnonzero(np.isin(cell.queries, queries))
    mine = rankings[np.searchsorted(queries, cell.queries[at])]
    hit = metrics.hits(mine, [cell.relevant[i] for i in at.tolist()])
    values = metrics.per_query(hit, cell.n_relevant[at], ks)
    done.names[:] = values
    first[at, :mine.shape[1]] = mine[:, :HUB_K]
    sums = metrics.by_cluster(np.stack(list(values.values()), axis=1), cell.clusters[at], len(cell.counts))
    done.sums[method] = done.sums.get(method, 0) + sums


def _single(cell: Cell, first: np.ndarray, unit: Embedding | None, artists: np.ndarray,
            seed: int) -> dict[str, float | None]:
    """Figures of a method that are no means over queries, so have no interval."""
    n = len(artists)
    if not len(cell.queries):
        return {}
    known = np.ones(n, dtype=bool) if unit is None else has_direction(unit)
    out = metrics.occurrence(first[known[cell.queries]], HUB_K, np.flatnonzero(known))
    out["embedded_queries"] = float(np.mean(known[cell.queries]))
    out["embedded_candidates"] = float(np.mean(known))
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


def _assemble(truth: GroundTruth, i: int, measured: Mapping[str, list[Measured]], pools: Mapping[str, Pool],
              transductive: bool, n: int, config: Evaluation) -> dict[str, Any]:
    protocol: dict[str, Any] = {"pools": {"everything": None, "held_out": None}}
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for pool, done in measured.items():
        plain, filtered = done[2 * i], done[2 * i + 1]
        protocol["pools"][pool] = {"candidates": len(pools[pool].rows), **_counts(plain.cell, config.ks),
                                   "artist_filter": _counts(filtered.cell, config.ks)}
        tables[pool], inner = _figures(plain, config), _figures(filtered, config)
        for kind, rows in tables[pool].items():
            for name in rows:
                rows[name]["artist_filter"] = inner[kind].get(name)
    for kind, rows in tables["everything"].items():
        for name in rows:
            rows[name]["held_out"] = tables["held_out"][kind].get(name) if "held_out" in tables else None
    headline = protocol["pools"]["everything"]
    protocol |= {
        "ground_truth": truth.name, "similar_at": config.similar_at if truth.name == SIMILARS else None,
        "without_artist": truth.without_artist,
        **{key: headline[key] for key in ("candidates", "queries", "query_artists")},
        "songs": n, "transductive": transductive, "claim": headline["queries"] >= CLAIM_QUERIES,
        "ks": list(config.ks), "cutoff": max(config.ks),
        "hubness_k": HUB_K, "seed": config.seed, "bootstrap": config.bootstrap,
        "interval": "95 %, percentile bootstrap over the queries' artists",
    }
    return {"protocol": protocol, **tables["everything"]}


def _counts(cell: Cell, ks: Sequence[int]) -> dict[str, Any]:
    n = len(cell.queries)
    most = metrics.ceiling(cell.n_relevant, ks) if n else dict.fromkeys(f"recall@{k}" for k in ks)
    return {"queries": n, "query_artists": len(cell.counts), "ceiling": most,
            "relevant_mean": float(cell.n_relevant.mean()) if n else None}


def _figures(done: Measured, config: Evaluation) -> dict[str, dict[str, Any]]:
    """{"methods": …, "differences": …} of a cell; each table's rows are dicts of {"value", "low", "high"}."""
    methods = list(done.single)
    pairs = [(a, b) for a, b in PAIRS if a in methods and b in methods]
    pairs += [(m, "random") for m in methods if m not in ORDER]
    if not len(done.cell.queries):
        return {"methods": {m: {} for m in methods}, "differences": {f"{a}-{b}": {} for a, b in pairs}}
    columns = [done.sums[m] for m in methods] + [done.sums[a] - done.sums[b] for a, b in pairs]
    columns = np.concatenate(columns, axis=1)
    value = columns.sum(axis=0) / done.cell.counts.sum()
    low, high = metrics.bootstrap(columns, done.cell.counts, config.bootstrap, config.seed)
    rows = [{name: {"value": _number(value[at]), "low": _number(low[at]), "high": _number(high[at])}
             for at, name in enumerate(done.names, start=start)}
            for start in range(0, len(value), len(done.names))]
    for method, row in zip(methods, rows, strict=False):
        row |= {name: {"value": _number(single), "low": None, "high": None}
                for name, single in done.single[method].items()}
    return {"methods": dict(zip(methods, rows, strict=False)),
            "differences": {f"{a}-{b}": row for (a, b), row in zip(pairs, rows[len(methods):], strict=True)}}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
