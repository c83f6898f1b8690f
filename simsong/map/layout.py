"""Where songs lie on a map: UMAP on their nearest songs, from where they lay before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NEIGHBOURS = 15
EPOCHS = 200                    # of the optimisation, the same for all sizes
ROUNDS = 10                     # of EPOCHS / ROUNDS epochs each, of an optimisation around held songs
HELD = 0.03                     # of the map's width: what a song moves at most when others come
FITS = 1.5                      # times as far apart as when it was made: then a map is made anew
MIN_DISTANCE, SPREAD = 0.1, 1.0
REPULSION, NEGATIVES = 1.0, 5.0
SIDE = 10.0                     # of the square that a first map begins in
SEED = 0


@dataclass(frozen=True)
class Nearest:
    """The songs nearest to each of n.

    Attributes:
        rows: (n, k) positions, best first, -1 where fewer are known.
        cosines: (n, k).
    """

    rows: np.ndarray
    cosines: np.ndarray


def place(vectors: np.ndarray, nearest: Nearest, before: np.ndarray,
          strain_before: float | None = None) -> np.ndarray:
    """Positions (n, 2) float32 of songs (McInnes et al., "UMAP", arXiv:1802.03426).

    Songs that lay on a map before stay within HELD of its width, and new ones are laid among them, as long
    as songs that are near each other lie together on that map. Where they no longer do (the embedding has
    become another one), all are laid anew, from where they were, and turned and scaled to lie as before.

    Args:
        vectors: (n, dim), for the first map's axes; before: (n, 2) on the map before, NaN for new songs;
        strain_before: what `strain` said of that map when it was made.
    """
    old = np.isfinite(before).all(axis=1)
    if len(vectors) < 3 or old.sum() < 3:
        return _first(vectors, nearest)
    now = strain(before, nearest)
    if now is not None and strain_before is not None and now > FITS * strain_before:
        anew = _optimised(_joined(before, nearest), nearest, EPOCHS, 1.0)
        return _aligned(anew, before, np.flatnonzero(old))
    if old.all():
        return before.astype(np.float32)
    return _around(_joined(before, nearest), nearest, np.flatnonzero(old))


def _first(vectors: np.ndarray, nearest: Nearest) -> np.ndarray:
    if len(vectors) < 3:
        return np.arange(2 * len(vectors), dtype=np.float32).reshape(-1, 2)
    return _optimised(_principal(vectors), nearest, EPOCHS, 1.0)


def strain(positions: np.ndarray, nearest: Nearest) -> float | None:
    """How far songs lie from those nearest to them, over how far any two lie apart; NaN positions count
    nothing. None where that cannot be told."""
    there = np.asarray(np.isfinite(positions).all(axis=1))
    linked = (nearest.rows >= 0) & there[:, None] & there[np.maximum(nearest.rows, 0)]
    row, rank = np.nonzero(linked)
    rows = np.flatnonzero(there)
    if not len(row) or len(rows) < 3:
        return None
    near = np.linalg.norm(positions[row] - positions[nearest.rows[row, rank]], axis=1)
    others = np.random.default_rng(SEED).choice(rows, (2, 20_000))
    apart = np.linalg.norm(positions[others[0]] - positions[others[1]], axis=1).mean()
    return float(near.mean() / apart) if apart > 0 else None


def width_of(positions: np.ndarray) -> float:
    """Of the narrower side of what holds all of them; 0 where there are none."""
    there = positions[np.isfinite(positions).all(axis=1)]
    return float(np.ptp(there, axis=0).min()) if len(there) else 0.0


def _principal(vectors: np.ndarray) -> np.ndarray:
    """(n, 2) along the axes of the largest variance, in a square of SIDE, no two at one place."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])] < 0, -1, 1)
    flat = np.pad(centred @ axes, ((0, 0), (0, 2 - axes.shape[1])))
    flat = SIDE * (flat - flat.min(axis=0)) / np.maximum(np.ptp(flat, axis=0), 1e-9)
    return (flat + _jitter(len(flat), SIDE)).astype(np.float32)


def _joined(before: np.ndarray, nearest: Nearest) -> np.ndarray:
    """The positions before; of the others, the mean of the songs nearest to them that have one by now."""
    out = before.astype(np.float64)
    while (missing := np.flatnonzero(np.isnan(out[:, 0]))).size:
        rows, weights = nearest.rows[missing], np.maximum(nearest.cosines[missing], 1e-6)
        placed_before = (rows >= 0) & np.isfinite(out[rows, 0])
        weights = np.where(placed_before, weights, 0.0)
        total = weights.sum(axis=1)
        placed = total > 0
        if not placed.any():
            out[missing] = np.nanmean(out, axis=0)
            break
        sums = np.einsum("nk,nkd->nd", weights[placed], np.nan_to_num(out[rows[placed]]))
        out[missing[placed]] = sums / total[placed, None]
    new = np.isnan(before[:, 0])
    out[new] += _jitter(len(out), max(width_of(before), 1e-3))[new]
    return out.astype(np.float32)


def _around(start: np.ndarray, nearest: Nearest, anchored: np.ndarray) -> np.ndarray:
    """Optimised in rounds; after each, held songs are taken back to within HELD of where they were."""
    positions, anchors = start, start[anchored].copy()
    radius = HELD * width_of(anchors)
    for number in range(ROUNDS):
        rate = 0.5 * (1 - number / ROUNDS)
        positions = _optimised(positions, nearest, EPOCHS // ROUNDS, rate, SEED + number)
        moved = positions[anchored] - anchors
        far = np.linalg.norm(moved, axis=1, keepdims=True)
        positions[anchored] = anchors + moved * np.minimum(1.0, radius / np.maximum(far, 1e-9))
    return positions


def _optimised(start: np.ndarray, nearest: Nearest, epochs: int, rate: float, seed: int = SEED) -> np.ndarray:
    """UMAP's optimisation, from these positions (n, 2), in one thread: the same each time."""
    from umap.layouts import optimize_layout_euclidean  # compiles for seconds: only this needs it
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

    n, random = len(start), np.random.RandomState(seed)
    own, has_neighbour = np.arange(n)[:, None], nearest.rows[:, :NEIGHBOURS] >= 0
    rows = np.hstack([own, nearest.rows[:, :NEIGHBOURS]]).astype(np.int32)
    apart = np.where(has_neighbour, 1 - nearest.cosines[:, :NEIGHBOURS], 2.0)
    distances = np.hstack([np.zeros((n, 1)), np.clip(apart, 0, 2)]).astype(np.float32)
    graph: Any = fuzzy_simplicial_set(start, rows.shape[1], random, "cosine", knn_indices=rows,
                                      knn_dists=distances)[0]
    graph = graph.tocoo()
    graph.sum_duplicates()
    if not graph.nnz:
        return start
    edges = graph.data >= graph.data.max() / epochs
    a, b = find_ab_params(SPREAD, MIN_DISTANCE)
    state = random.randint(np.iinfo(np.int32).min + 1, np.iinfo(np.int32).max - 1, 3).astype(np.int64)
    positions = np.ascontiguousarray(start, dtype=np.float32).copy()
    optimize_layout_euclidean(                              # in place
        positions, positions, graph.row[edges], graph.col[edges], epochs, n,
        make_epochs_per_sample(graph.data[edges], epochs), a, b, state, REPULSION, rate, NEGATIVES,
        parallel=False, move_other=True)
    return positions


def _aligned(positions: np.ndarray, before: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Turned, mirrored, scaled and moved so that these rows lie as near as can be to where they were
    (orthogonal Procrustes)."""
    from scipy.linalg import orthogonal_procrustes

    here, there = positions[rows].astype(np.float64), before[rows].astype(np.float64)
    turn, scale = orthogonal_procrustes(here - here.mean(axis=0), there - there.mean(axis=0))
    size = np.square(here - here.mean(axis=0)).sum()
    scale = scale / size if size > 0 else 1.0
    return ((positions - here.mean(axis=0)) @ turn * scale + there.mean(axis=0)).astype(np.float32)


def _jitter(n: int, width: float) -> np.ndarray:
    return np.random.default_rng(SEED).normal(scale=1e-3 * width, size=(n, 2))
