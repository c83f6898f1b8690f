"""The baseline that needs no learning: which sounds a window holds, as statistics of its MFCCs."""

from __future__ import annotations

import librosa
import numpy as np

from simsong.audio.samples import RATE_HZ, Samples

COEFFICIENTS = 20
MELS = 64
WINDOW, HOP = 512, 256                 # 32 ms and 16 ms at 16 kHz
MFCC_DIM = 3 * COEFFICIENTS + COEFFICIENTS * (COEFFICIENTS - 1) // 2
STILL = 1e-6                           # deviation below which a coefficient correlates with none


def mfcc_statistics(samples: Samples) -> Samples:
    """Mean and deviation of 20 MFCCs over time, the deviation of their deltas, and how they correlate.

    So it is mean and covariance (Mandel & Ellis, "Song-level features and support vector machines for music
    classification", ISMIR 2005), scale apart from correlation, and how quickly each coefficient changes.

    Its parts differ in scale by orders of magnitude, so evaluation standardises each over the candidates
    before it takes cosines. docs/LEARNING.md has what others gave.

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz, without padding: zeros would be in every statistic. At
            least 0.2 s.
    Returns: (MFCC_DIM,) float32: 20 means, 20 deviations, 20 deviations of deltas, then the correlations'
        upper triangle without its diagonal, row by row.
    """
    mfcc = librosa.feature.mfcc(y=samples, sr=RATE_HZ, n_mfcc=COEFFICIENTS, n_mels=MELS, n_fft=WINDOW,
                                hop_length=HOP)
    deviation, deltas = mfcc.std(axis=1), librosa.feature.delta(mfcc)
    scale = np.maximum(np.outer(deviation, deviation), STILL**2)
    correlation = (np.cov(mfcc, bias=True) / scale)[np.triu_indices(COEFFICIENTS, 1)]
    return np.concatenate([mfcc.mean(axis=1), deviation, deltas.std(axis=1), correlation]).astype(np.float32)
