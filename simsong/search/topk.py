"""Exact nearest neighbours by cosine, in blocks, so that memory does not grow with the catalogue."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from scipy.sparse import csr_matrix, issparse

QUERY_ROWS = 1024
FIRST_BLOCK = 4096                           # later ones are as long as all before, up to `block`
DENSE_CELLS = 1 << 24                        # of sparse candidates, made dense a block at a time: 64 MB
SETTLE_CELLS = 1 << 20                       # of winners, looked at in float64 at a time: 8 MB
SPARE = 16                                   # float32 winners beyond k, whose order float64 settles
NO_KEY = np.iinfo(np.int64).min
LOW_BITS = np.int64(0xFFFFFFFF)
BLOCK = 1024                                 # scores whose largest stands for them when a threshold is sought
Rows = Any                                   # np.ndarray | csr_matrix; scipy does not say what the latter has


def top_k(queries: np.ndarray | csr_matrix, candidates: np.ndarray | csr_matrix, k: int, *,
          exclude: np.ndarray | None = None, block: int = 16_384) -> tuple[np.ndarray, np.ndarray]:
    """The k candidates of largest cosine for each query, ties going to the smaller index.

    Args:
        queries: (q, d), candidates: (n, d), both dense or both sparse; any length. A row with a NaN, or of
            length 0, has no direction: as a candidate it is never found, as a query it finds nothing.
        exclude: (q,) or (q, m) candidate indices that a query must not find (itself, say); -1 excludes none.
        block: candidates compared at a time; a block of 16,384 takes about 0.4 GB at worst.
    Returns: indices (q, k) and cosines (q, k), best first; -1 and -inf where fewer than k are left.
    """
    query_rows: Rows = queries
    rows: Rows = candidates
    if k < 1 or query_rows.ndim != 2 or rows.ndim != 2 or query_rows.shape[1] != rows.shape[1] \
            or issparse(query_rows) != issparse(rows):
        raise ValueError(f"top_k: k = {k}, queries {query_rows.shape}, candidates {rows.shape}")
    (q, width), n = query_rows.shape, rows.shape[0]
    if issparse(rows):
        block = min(block, max(1, DENSE_CELLS // max(width, 1)))
    unit = unit_rows(query_rows)
    unknown = ~has_direction(unit)
    if not issparse(unit):
        unit[unknown] = 0
    best = np.full((q, min(k + SPARE, max(n, 1))), NO_KEY)    # sorted keys, the worst kept first
    memory = np.empty(min(q, QUERY_ROWS) * min(block, n), np.float32)
    start = 0
    while start < n:
        columns, missing = _columns(rows[start:start + min(block, max(start, FIRST_BLOCK))])
        for first in range(0, q, QUERY_ROWS):
            part = slice(first, min(first + QUERY_ROWS, q))
            scores = _scores(unit[part], columns, memory)
            scores[:, missing] = -np.inf
            if exclude is not None:
                _exclude(scores, exclude[part].reshape(scores.shape[0], -1) - start)
            best[part] = _merge(best[part], scores, start)
        start += columns.shape[1]
    best[unknown] = NO_KEY
    return _settle(query_rows, rows, best, k)


def _columns(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows (b, d) as dense columns (d, b), and which have no direction (theirs are 0)."""
    rows = unit_rows(rows)
    missing = np.flatnonzero(~has_direction(rows))
    if issparse(rows):
        return rows.T.toarray(order="C"), missing
    rows[missing] = 0
    return rows.T, missing


def _scores(unit: Rows, columns: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """(q, b) float32 cosines, in the memory of `memory` if they are dense."""
    if issparse(unit):           # each entry of a query costs one pass along a row of the block
        return unit @ columns
    shape = len(unit), columns.shape[1]
    return np.matmul(unit, columns, out=memory[:shape[0] * shape[1]].reshape(shape))


@overload
def unit_rows(rows: np.ndarray) -> np.ndarray: ...


@overload
def unit_rows(rows: csr_matrix) -> csr_matrix: ...


def unit_rows(rows: Rows) -> Rows:
    """Rows over their length, float32. Where they have no direction, all NaN; if sparse, without an entry."""
    if issparse(rows):
        return _unit_sparse(rows)
    rows = np.array(rows, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        rows /= np.abs(rows).max(axis=1, keepdims=True, initial=0)   # first, lest squares overflow or vanish
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    return rows


def _unit_sparse(rows: Rows) -> Rows:
    out = rows.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        out.data /= np.repeat(np.sqrt(_squares(out)), np.diff(out.indptr))
    out.data[~np.isfinite(out.data)] = 0
    out.eliminate_zeros()
    return out.astype(np.float32)


def _squares(rows: Rows) -> np.ndarray:
    """(n,) float64: squared lengths of sparse rows."""
    n = rows.shape[0]
    return np.bincount(np.repeat(np.arange(n), np.diff(rows.indptr)), rows.data ** 2, n)


def has_direction(unit: Rows) -> np.ndarray:
    """(n,) bool of rows as `unit_rows` gives."""
    return np.diff(unit.indptr) > 0 if issparse(unit) else ~np.isnan(unit[:, 0])


def _exclude(scores: np.ndarray, columns: np.ndarray) -> None:
    row, at = np.nonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[row, columns[row, at]] = -np.inf


def _keys(scores: np.ndarray, index: np.ndarray) -> np.ndarray:
    """int64 that sort as (score, −index): float32 bits, made monotonic, above the index's complement."""
    bits = (scores + np.float32(0)).view(np.int32)       # -0.0 becomes 0.0: equal scores have equal bits
    return ((bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64) << 32) | (LOW_BITS - index)


def _merge(best: np.ndarray, scores: np.ndarray, start: int) -> np.ndarray:
    """The best keys (q, keep) with the scores (q, b) of candidates start … start + b - 1 taken in.

    Once some blocks are in, few scores pass the worst key kept, and only those are looked at; comparing
    strictly is right there, since the candidates of later blocks have larger indices and lose ties. Before,
    those are looked at that are among the block's own best, or tie with them.
    """
    q, keep = best.shape
    worst = best[:, 0] >> 32
    worst = (worst ^ ((worst >> 31) & 0x7FFFFFFF)).astype(np.int32).view(np.float32)
    worst[best[:, 0] == NO_KEY] = -np.inf
    passed = scores > worst[:, None]
    if scores.shape[1] > keep and np.count_nonzero(passed) > 2 * best.size:
        passed &= scores >= np.partition(scores, -keep, axis=1)[:, -keep][:, None]
    row, column = np.divmod(np.flatnonzero(passed), scores.shape[1])
    count = np.bincount(row, minlength=q)
    keys = np.full((q, int(count.max(initial=0))), NO_KEY)
    keys[row, np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)] = \
        _keys(scores[row, column], start + column)
    return np.sort(np.concatenate([best, keys], axis=1), axis=1)[:, -keep:]


def _settle(queries: Rows, candidates: Rows, best: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The winners in the order of their float64 cosines: equal rows tie, wherever they stood."""
    q, keep = best.shape
    indices, cosines = np.full((q, k), -1), np.full((q, k), -np.inf)
    step = max(1, SETTLE_CELLS // max(keep * candidates.shape[1], 1))
    if issparse(queries):
        queries, step = unit_rows(queries), 128
    for first in range(0, q, step):
        part = slice(first, min(first + step, q))
        valid = best[part] != NO_KEY
        index = np.where(valid, LOW_BITS - (best[part] & LOW_BITS), 0)
        cosine = (_sparse_cosines if issparse(queries) else _cosines)(queries[part], candidates, index)
        cosine = np.where(valid, np.clip(cosine, -1, 1), -np.inf)
        order = np.lexsort((index, -cosine), axis=1)[:, :k]
        width = order.shape[1]
        cosines[part, :width] = np.take_along_axis(cosine, order, 1)
        indices[part, :width] = np.take_along_axis(np.where(valid, index, -1), order, 1)
    return indices, cosines


def settled(query: np.ndarray, candidates: np.ndarray, rows: np.ndarray,
            k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k of these rows (m,) whose float64 cosines with `query` (dim,) are largest, best first, ties going
    to the smaller: rows and cosines, of those that have a direction."""
    cosine = np.clip(_cosines(query[None], candidates, rows[None])[0], -1, 1)
    rows, cosine = rows[~np.isnan(cosine)], cosine[~np.isnan(cosine)]
    order = np.lexsort((rows, -cosine))[:k]
    return rows[order], cosine[order]


def _cosines(queries: np.ndarray, candidates: np.ndarray, index: np.ndarray) -> np.ndarray:
    """float64 (q, k), of rows (q, d) and the candidates that `index` (q, k) names, all rounded to float32
    first. Sums by einsum: those of BLAS differ with a row's position; 12 digits: parallel rows tie."""
    query, rows = (a.astype(np.float32).astype(np.float64) for a in (queries, candidates.take(index, axis=0)))
    length = np.sqrt(np.einsum("qkd,qkd->qk", rows, rows) * np.einsum("qd,qd->q", query, query)[:, None])
    with np.errstate(invalid="ignore"):                 # of what has no direction, and is not found
        return np.round(np.einsum("qkd,qd->qk", rows, query) / length, 12)


def _sparse_cosines(unit: Rows, candidates: Rows, index: np.ndarray) -> np.ndarray:
    rows = unit_rows(candidates[index.ravel()]).astype(np.float64)
    query = unit.astype(np.float64)[np.repeat(np.arange(index.shape[0]), index.shape[1])]
    product, length = np.asarray(rows.multiply(query).sum(axis=1)), np.sqrt(_squares(rows) * _squares(query))
    with np.errstate(invalid="ignore"):                 # of what has no direction, and is not found
        return (product.ravel() / length).reshape(index.shape)


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
