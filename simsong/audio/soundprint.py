"""What tells one recording from any other: how the energy of a few bands goes, moment by moment."""

from __future__ import annotations

import librosa
import numpy as np

from simsong.audio.samples import RATE_HZ, Samples

BANDS = 16
LOW_HZ, HIGH_HZ = 100.0, 4000.0         # what every codec and rate keeps
WINDOW, HOP = 4096, 2048                # 256 ms and 128 ms at 16 kHz
HOP_S = HOP / RATE_HZ
FLOOR_DB = -90                          # of a sine of full scale; below it is silence


def soundprint(samples: Samples, own: int | None = None) -> Samples:
    """Level of BANDS mel bands every HOP_S, in whole dB: small when compressed.

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz, a segment; n ≥ WINDOW.
        own: how many of them are the song's, the rest being repetition; None: all.
    Returns: (moments · BANDS,) float32, moment by moment: 3,728 values of 30 s. NaN where a moment is not all
        of the song's own.
    """
    power = np.square(np.abs(librosa.stft(samples, n_fft=WINDOW, hop_length=HOP, center=False)))
    mel = librosa.filters.mel(sr=RATE_HZ, n_fft=WINDOW, n_mels=BANDS, fmin=LOW_HZ, fmax=HIGH_HZ, norm=None)
    level_db = librosa.power_to_db(mel @ power, ref=(WINDOW / 4) ** 2, amin=1e-12, top_db=None)
    levels = np.rint(np.maximum(level_db, FLOOR_DB)).T.astype(np.float32)
    if own is not None:
        levels[max(0, (own - WINDOW) // HOP + 1):] = np.nan
    return levels.ravel()
