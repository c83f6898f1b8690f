"""Where songs lie: like near like, the same each time, and where they lay when others come."""

from __future__ import annotations

import numpy as np
import pytest

from simsong.map.layout import FITS, HELD, Nearest, place, strain, width_of
from simsong.search.topk import top_k

STYLES, DIM = 6, 24
STAYS = 0.05        # of the map's width: what is promised


def songs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, DIM) of STYLES styles, and the style of each."""
    styles = np.random.default_rng(7).standard_normal((STYLES, DIM))
    of = np.arange(n) % STYLES
    noise = np.random.default_rng(seed).standard_normal((n, DIM))
    return (styles[of] + 0.4 * noise).astype(np.float32), of


def nearest_of(vectors: np.ndarray, k: int = 15) -> Nearest:
    rows, cosines = top_k(vectors, vectors, k, exclude=np.arange(len(vectors)))
    return Nearest(rows, cosines)


def agreement(positions: np.ndarray, of: np.ndarray) -> float:
    """Share of the songs whose nearest on the map is of their style."""
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((of[apart.argmin(axis=1)] == of).mean())


def new(n: int) -> np.ndarray:
    return np.full((n, 2), np.nan)


def test_songs_that_are_alike_lie_together() -> None:
    vectors, of = songs(240)
    laid = place(vectors, nearest_of(vectors), new(240))
    assert laid.shape == (240, 2) and laid.dtype == np.float32 and np.isfinite(laid).all()
    assert agreement(laid, of) > 0.95
    assert np.array_equal(laid, place(vectors, nearest_of(vectors), new(240))), "the same each time"


def test_old_songs_stay_and_new_ones_fall_where_they_belong() -> None:
    """A third more each time, and a style that nobody had before."""
    vectors, of = songs(400)
    had = np.flatnonzero((np.arange(400) < 180) & (of != STYLES - 1))
    before = new(400)
    before[had] = place(vectors[had], nearest_of(vectors[had]), new(len(had)))
    strain_before = strain(before[had], nearest_of(vectors[had]))
    for count in (240, 320, 400):
        there = np.union1d(had, np.arange(count))
        laid = place(vectors[there], nearest_of(vectors[there]), before[there], strain_before)
        old = np.isfinite(before[there]).all(axis=1)
        moved = np.linalg.norm(laid[old] - before[there][old], axis=1)
        assert moved.max() <= STAYS * np.ptp(before[there][old], axis=0).min()
        assert agreement(laid, of[there]) > 0.95
        before[there] = laid
        strain_before = strain(laid, nearest_of(vectors[there]))


def test_a_song_moves_no_more_than_it_may_though_its_neighbours_are_elsewhere() -> None:
    vectors, _ = songs(200)
    laid = place(vectors, nearest_of(vectors), new(200))
    before = laid.astype(np.float64)
    before[:3] = before[::-1][:3]           # where they do not belong
    before[190:] = np.nan
    moved = np.linalg.norm(place(vectors, nearest_of(vectors), before) - before, axis=1)[:190]
    assert HELD / 2 < moved.max() / width_of(before) <= HELD * 1.001


def test_nothing_moves_where_no_song_is_new() -> None:
    vectors, _ = songs(120)
    laid = place(vectors, nearest_of(vectors), new(120))
    strain_before = strain(laid, nearest_of(vectors))
    assert np.array_equal(place(vectors, nearest_of(vectors), laid.astype(np.float64), strain_before), laid)


def test_another_embedding_makes_another_map_that_lies_as_the_one_before() -> None:
    vectors, of = songs(300)
    laid = place(vectors, nearest_of(vectors), new(300)).astype(np.float64)
    strain_before = strain(laid, nearest_of(vectors))
    assert strain_before is not None
    shuffled = np.random.default_rng(1).permutation(300)
    others, whose = vectors[shuffled], of[shuffled]
    now = strain(laid, nearest_of(others))
    assert now is not None and now > FITS * strain_before
    again = place(others, nearest_of(others), laid, strain_before)
    assert agreement(again, whose) > 0.95
    assert np.ptp(again, axis=0) == pytest.approx(np.ptp(laid, axis=0), rel=1.0)
    assert again.mean(axis=0) == pytest.approx(laid.mean(axis=0), abs=1e-3)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 10])
def test_few_songs(n: int) -> None:
    vectors, _ = songs(n) if n else (np.zeros((0, DIM), np.float32), None)
    nearest = nearest_of(vectors, 15)
    laid = place(vectors, nearest, new(n))
    assert laid.shape == (n, 2) and np.isfinite(laid).all()
    assert len(np.unique(laid, axis=0)) == n


def test_songs_without_known_neighbours_and_alike_in_all() -> None:
    vectors = np.ones((20, 4), np.float32)
    nobody = Nearest(np.full((20, 15), -1), np.full((20, 15), -np.inf))
    assert np.isfinite(place(vectors, nobody, new(20))).all()
    before = new(20)
    before[:10] = np.arange(20).reshape(10, 2)
    laid = place(vectors, nobody, before)
    assert np.isfinite(laid).all()
    assert np.array_equal(laid[:10], before[:10])
