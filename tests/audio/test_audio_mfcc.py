"""The MFCC baseline."""

from __future__ import annotations

import numpy as np

from simsong.audio.mfcc import COEFFICIENTS, MFCC_DIM, mfcc_statistics
from simsong.audio.samples import RATE_HZ

T = np.arange(5 * RATE_HZ) / RATE_HZ
UPPER = np.triu_indices(COEFFICIENTS, 1)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, len(T)).astype(np.float32)


def test_shape_and_type() -> None:
    statistics = mfcc_statistics(noise(0))
    assert statistics.shape == (MFCC_DIM,) == (250,)
    assert statistics.dtype == np.float32


def test_gain_moves_the_first_mean_alone() -> None:
    """A tenth of the amplitude is −20 dB in each of 64 mel bands: −20·√64 after the orthonormal DCT."""
    loud, soft = mfcc_statistics(noise(0)), mfcc_statistics(noise(0) * np.float32(0.1))
    np.testing.assert_allclose(loud[0] - soft[0], 160, atol=0.01)
    np.testing.assert_allclose(loud[1:], soft[1:], atol=0.01)


def test_deviations_and_correlations() -> None:
    """Half 20 dB softer: coefficient 0 takes two values 160 apart, so 80² of variance over noise's own."""
    x = noise(0)
    own = mfcc_statistics(x)[COEFFICIENTS]
    x[:len(x) // 2] *= 0.1
    statistics = mfcc_statistics(x)[COEFFICIENTS:]
    np.testing.assert_allclose(statistics[0]**2 - own**2, 80**2, rtol=0.01)
    matrix = np.eye(COEFFICIENTS)
    matrix[UPPER] = statistics[2 * COEFFICIENTS:]
    matrix += np.triu(matrix, 1).T
    assert np.linalg.eigvalsh(matrix).min() > 0 and np.abs(matrix).max() == 1


def test_deltas_tell_quick_from_slow() -> None:
    """A level that goes up and down in 0.1 s and in 2.5 s: the same deviation, other deltas."""
    both = [noise(0) * (0.55 + 0.45 * np.sign(np.sin(2 * np.pi * T / period_s))).astype(np.float32)
            for period_s in (0.2, 5.0)]
    quick, slow = (mfcc_statistics(x)[COEFFICIENTS:3 * COEFFICIENTS:COEFFICIENTS] for x in both)
    np.testing.assert_allclose(quick[0], slow[0], rtol=0.2)
    assert quick[1] > 3 * slow[1]


def test_timbres_lie_further_apart_than_takes_of_one() -> None:
    tone = (0.1 * np.sin(2 * np.pi * 440 * T)).astype(np.float32) + noise(3) * np.float32(0.01)
    a, b, c = (mfcc_statistics(x)[:COEFFICIENTS] for x in (noise(1), noise(2), tone))
    assert np.linalg.norm(a - c) > 20 * np.linalg.norm(a - b)


def test_silence_is_finite() -> None:
    assert np.isfinite(mfcc_statistics(np.zeros(RATE_HZ, np.float32))).all()
