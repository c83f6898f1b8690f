"""Ranking metrics, hubness and bootstrap intervals: pure numpy, one row a query.

A ranking is (q, k) candidate rows, best first, -1 where it ends. Relevance is binary. MAP and MRR look at the
first `cutoff` places, as rankings of a million songs are not kept whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_matrix, issparse
from scipy.stats import skew


def hits(rankings: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """(q, k) bool: whether the song ranked there is relevant. `relevant[i]` (sorted) is for query i."""
    out = np.zeros(rankings.shape, dtype=bool)
    for row, (ranking, wanted) in enumerate(zip(rankings, relevant, strict=True)):
        if len(wanted):
            at = np.minimum(np.searchsorted(wanted, ranking), len(wanted) - 1)
            out[row] = wanted[at] == ranking
    return out


def names(ks: Sequence[int]) -> list[str]:
    """Of the metrics of `per_query`, in their order."""
    return [f"{name}@{k}" for k in ks for name in ("recall", "hit_rate", "ndcg")] + ["map", "mrr"]


def per_query(hit: np.ndarray, n_relevant: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Each metric for each query, (q,) float64 in 0..1.

    Args:
        hit: (q, cutoff) as `hits` gives; n_relevant: (q,) at least 1; ks: none above cutoff.
    Returns:
        recall@k = |relevant in the first k| / |relevant|; hit_rate@k = 1 if there is any; ndcg@k with gains 1
        and discounts log2(rank + 1), over that of the best ranking; map = sum of the precision at each
        relevant song found, over min(|relevant|, cutoff); mrr = 1 / rank of the first.
    """
    cutoff = hit.shape[1]
    ranks = np.arange(1, cutoff + 1)
    hits = np.cumsum(hit, axis=1)
    discount = 1 / np.log2(ranks + 1)
    gain, ideal = np.cumsum(hit * discount, axis=1), np.cumsum(discount)
    out: dict[str, np.ndarray] = {}
    for k in ks:
        out[f"recall@{k}"] = hits[:, k - 1] / n_relevant
        out[f"hit_rate@{k}"] = (hits[:, k - 1] > 0).astype(np.float64)
        out[f"ndcg@{k}"] = gain[:, k - 1] / ideal[np.minimum(n_relevant, k) - 1]
    out["map"] = (hit * hits / ranks).sum(axis=1) / np.minimum(n_relevant, cutoff)
    out["mrr"] = np.where(hit.any(axis=1), 1 / (hit.argmax(axis=1) + 1), 0.0)
    return out


def ceiling(n_relevant: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """The most that recall@k can be, as a query may have more than k relevant songs."""
    return {f"recall@{k}": float(np.mean(np.minimum(k, n_relevant) / n_relevant)) for k in ks}


def occurrence(rankings: np.ndarray, k: int, candidates: np.ndarray) -> dict[str, float | None]:
    """Hubness (skewness of how often each candidate is among the first k: the more, the more hubs;
    Radovanović et al., JMLR 2010) and coverage (share of the candidates that are among the first k of any
    query).

    Args:
        candidates: (n,) the rows that can be found.
    """
    listed = rankings[:, :k]
    counts = np.bincount(listed[listed >= 0], minlength=int(candidates.max(initial=-1)) + 1)[candidates]
    if not counts.any():
        return {"hubness": None, "coverage": None}
    return {"hubness": float(skew(counts)) if np.ptp(counts) else 0.0, "coverage": float(np.mean(counts > 0))}


def mean_cosine(unit: np.ndarray | csr_matrix, pairs: np.ndarray) -> float | None:
    """Mean cosine of pairs (p, 2) of rows of unit vectors (n, d); pairs with a row of NaN, or a sparse one
    without entries, are left out."""
    total, count, rows = 0.0, 0, cast(Any, unit)
    for start in range(0, len(pairs), 8192):
        left, right = (rows[side] for side in pairs[start:start + 8192].T)
        if issparse(rows):
            cosine = np.asarray(left.astype(np.float64).multiply(right).sum(axis=1)).ravel()
            cosine[(np.diff(left.indptr) == 0) | (np.diff(right.indptr) == 0)] = np.nan
        else:
            cosine = np.einsum("pd,pd->p", left, right, dtype=np.float64)
        total, count = total + float(np.nansum(cosine)), count + int(np.isfinite(cosine).sum())
    return total / count if count else None


def by_cluster(values: np.ndarray, clusters: np.ndarray, n_clusters: int) -> np.ndarray:
    """Sums (c, m) over each cluster's queries of values (q, m); clusters (q,) in 0..c-1."""
    out = np.zeros((n_clusters, values.shape[1]))
    np.add.at(out, clusters, values)
    return out


def bootstrap(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int,
              level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of the mean over queries, by drawing whole clusters (artists) with replacement:
    songs of an artist are alike, and to draw them singly would give intervals that are too narrow.

    Args:
        sums: (c, m) as `by_cluster` gives, counts: (c,) queries of each cluster.
    Returns: low (m,), high (m,); NaN where there are fewer than 2 clusters. All columns see the same draws,
        so a paired difference is just a column of differences.
    """
    n, m = sums.shape
    if n < 2:
        return np.full(m, np.nan), np.full(m, np.nan)
    means = np.empty((resamples, m))
    for part, weights in draws(n, resamples, seed):
        means[part] = (weights @ sums) / (weights @ counts)[:, None]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def bootstrap_ratios(hits: np.ndarray, totals: np.ndarray, resamples: int, seed: int,
                     level: float = 0.95) -> tuple[float, float]:
    """The interval, by drawing clusters as `bootstrap` does, of the mean over groups of their ratio of sums
    (balanced accuracy, where groups are classes).

    Args:
        hits, totals: (c, g) of each cluster and group. A group that a draw misses is left out of its mean.
    """
    n = len(hits)
    if n < 2:
        return np.nan, np.nan
    means = np.empty(resamples)
    for part, weights in draws(n, resamples, seed):
        total = weights @ totals
        ratio = np.divide(weights @ hits, total, out=np.zeros_like(total), where=total > 0)
        means[part] = ratio.sum(axis=1) / np.count_nonzero(total, axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draws(n: int, resamples: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """How often each of n clusters is drawn when n are, with replacement: parts (r, n) float64 of all
    resamples, and where they lie among them."""
    rng = np.random.default_rng(seed)
    step = max(1, 4_000_000 // n)
    for start in range(0, resamples, step):
        some = min(step, resamples - start)
        yield slice(start, start + some), np.array(
            [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(some)], np.float64)
