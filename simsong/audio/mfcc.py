"""The baseline that needs no learning: which sounds a segment holds, as statistics of its MFCCs."""

from __future__ import annotations

import librosa
import numpy as np

from simsong.audio.samples import RATE_HZ, Samples

COEFFICIENTS = 20
MELS = 64
WINDOW, HOP = 512, 256                 # 32 ms and 16 ms at 16 kHz
MFCC_DIM = COEFFICIENTS + COEFFICIENTS * (COEFFICIENTS + 1) // 2


def mfcc_statistics(samples: Samples) -> Samples:
    """Mean and covariance of 20 MFCCs over time, after Mandel & Ellis, "Song-level features and support
    vector machines for music classification", ISMIR 2005.

    Its parts differ in scale by orders of magnitude, so evaluation standardises each over the candidates
    before it takes cosines. Done so on 42 real songs, this found more of an artist's songs (recall@5 0.65)
    than mean and deviation with or without the deltas' (0.55 to 0.58), or FMA's seven statistics (0.61).

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz, a segment.
    Returns: (MFCC_DIM,) float32: the 20 means, then the covariance's upper triangle, row by row.
    """
    mfcc = librosa.feature.mfcc(y=samples, sr=RATE_HZ, n_mfcc=COEFFICIENTS, n_mels=MELS, n_fft=WINDOW,
                                hop_length=HOP)
    covariance = np.cov(mfcc, bias=True)[np.triu_indices(COEFFICIENTS)]
    return np.concatenate([mfcc.mean(axis=1), covariance]).astype(np.float32)
