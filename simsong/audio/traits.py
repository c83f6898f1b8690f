"""Traits of a song's sound that people filter by: tempo, key, loudness, energy.

Onsets come of a spectrogram with short windows, pitches of one with long windows, in which semitones are
apart. docs/TRAITS.md says how often each trait is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import librosa
import numpy as np
from scipy import fft

from simsong.audio.loudness import integrated_lufs
from simsong.audio.samples import RATE_HZ, Samples

KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
Mode = Literal["major", "minor"]

# Onsets: 62.5 frames a second.
ONSET_WINDOW, ONSET_HOP, MELS = 512, 256, 40
ONSET_RATE_HZ = RATE_HZ / ONSET_HOP
RHYTHM_S = 12                                   # of sound whose onsets are compared with themselves
SLOWEST_BPM, FASTEST_BPM = 40.0, 220.0
USUAL_BPM, OCTAVES = 120.0, 0.9                 # the tempo that people tap at most, and how far they stray
BEATS = 4                                       # multiples of a beat that must fit too
LEAST_BEAT = 0.1                                # correlation of onsets a beat apart; below there is no beat
# Pitches: 3.9 Hz apart.
PITCH_WINDOW, PITCH_HOP = 4096, 2048
LOWEST_HZ, HIGHEST_HZ = 65.0, 2_100.0           # C2 to C7
LEAST_KEY = 0.3                                 # correlation with a key's profile; below there is no key
# Weights of the twelve pitch classes from the tonic upwards: Albrecht & Shanahan, "The use of large corpora
# to train a new type of key-finding algorithm", Music Perception 31 (2013).
PROFILES: dict[Mode, tuple[float, ...]] = {
    "major": (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    "minor": (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)}
# Energy: from the first value, which counts 0, to the second, which counts 1.
LOUD_LUFS, ONSETS_A_S, BRIGHT_HZ = (-30.0, -8.0), (0.0, 6.0), (400.0, 2_400.0)


@dataclass(frozen=True)
class Traits:
    """Attributes:
        tempo_bpm: beats a minute; None where no beat is heard.
        key, mode: None where no key is heard.
        loudness_lufs: after ITU-R BS.1770, of the mono sound at 16 kHz; None for silence.
        energy: 0 (soft, sparse, dark) to 1 (loud, dense, bright): the mean of the three.
    """

    tempo_bpm: float | None
    key: str | None
    mode: Mode | None
    loudness_lufs: float | None
    energy: float


def traits_of(samples: Samples) -> Traits:
    """Of a song, (n,) float32 in [-1, 1], 16 kHz mono."""
    lufs = integrated_lufs(samples)
    if not np.isfinite(lufs):
        return Traits(None, None, None, None, 0.0)
    onsets, centroid_hz = _onsets(samples)
    key = _key(_chroma(samples))
    energy = np.mean([_share(lufs, *LOUD_LUFS), _share(_onset_rate_hz(onsets), *ONSETS_A_S),
                      _share(centroid_hz, *BRIGHT_HZ)])
    return Traits(_tempo_bpm(onsets), *(key or (None, None)), lufs, float(energy))


def _share(value: float, least: float, most: float) -> float:
    return float(np.clip((value - least) / (most - least), 0, 1))


def _onsets(samples: Samples) -> tuple[np.ndarray, float]:
    """How much louder each frame's bands are than the frame's before (frames,), and the spectral centroid of
    the whole, in Hz."""
    power = _power(samples, ONSET_WINDOW, ONSET_HOP)
    hz = np.linspace(0, RATE_HZ / 2, power.shape[1], dtype=np.float32)
    amplitude = np.sqrt(power.mean(axis=0))
    centroid_hz = float((amplitude * hz).sum() / max(float(amplitude.sum()), 1e-12))
    decibels = np.log10(np.maximum(power @ _mel_filters(), 1e-7))
    rise = np.maximum(np.diff(decibels, axis=0), 0).mean(axis=1)
    return rise, centroid_hz


def _onset_rate_hz(onsets: np.ndarray) -> float:
    """Peaks a second that stand out by a deviation."""
    if len(onsets) < 3:
        return 0.0
    middle = onsets[1:-1]
    peaks = (middle > onsets[:-2]) & (middle >= onsets[2:]) & (middle > onsets.mean() + onsets.std())
    return float(peaks.sum() / len(onsets) * ONSET_RATE_HZ)


def _tempo_bpm(onsets: np.ndarray) -> float | None:
    """The tempo at whose beats onsets repeat themselves best, near the usual one of several."""
    window = min(round(RHYTHM_S * ONSET_RATE_HZ), len(onsets))
    longest = round(BEATS * 60 / SLOWEST_BPM * ONSET_RATE_HZ)
    if window < round(2 * 60 / SLOWEST_BPM * ONSET_RATE_HZ):
        return None
    frames = np.lib.stride_tricks.sliding_window_view(onsets, window)[::max(window // 4, 1)]
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(frames, 2 * window, axis=1)
    whole = np.fft.irfft(np.square(np.abs(spectrum)).mean(axis=0))[:window]
    whole = whole * window / np.arange(window, 0, -1)       # as many products for each lag
    if whole[0] <= 0:
        return None
    correlation, lags = whole / whole[0], np.arange(window)
    beats_bpm = np.geomspace(SLOWEST_BPM, FASTEST_BPM, 600)
    at = 60 / beats_bpm[:, None] * ONSET_RATE_HZ * np.arange(1, BEATS + 1)
    usable = at < min(window * 0.75, longest + 1)
    fits = np.where(usable, np.interp(at, lags, correlation), 0).sum(axis=1)
    fits /= np.maximum(usable.sum(axis=1), 1)
    prior = np.exp(-0.5 * np.square(np.log2(beats_bpm / USUAL_BPM) / OCTAVES))
    best = int(np.argmax(np.maximum(fits, 0) * prior))
    return float(beats_bpm[best]) if fits[best] >= LEAST_BEAT else None


def _chroma(samples: Samples) -> np.ndarray:
    """(12,) how strong each pitch class is, C first: of spectral peaks, each frame counting alike."""
    amplitude = np.sqrt(_power(samples, PITCH_WINDOW, PITCH_HOP))
    middle = amplitude[:, 1:-1]
    middle = np.where((middle > amplitude[:, :-2]) & (middle >= amplitude[:, 2:]), middle, 0)
    classes = middle @ _chroma_filters()[1:-1]
    return (classes / (classes.max(axis=1, keepdims=True) + 1e-6)).mean(axis=0)


def _key(chroma: np.ndarray) -> tuple[str, Mode] | None:
    best: tuple[float, str, Mode] | None = None
    for mode, profile in PROFILES.items():
        for tonic, name in enumerate(KEYS):
            fit = float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1]) if chroma.std() > 0 else 0.0
            if best is None or fit > best[0]:
                best = fit, name, mode
    return best[1:] if best is not None and best[0] >= LEAST_KEY else None


def _power(samples: Samples, window: int, hop: int) -> np.ndarray:
    """(frames, bins) float32; a sound shorter than a window is filled with silence."""
    padded = np.pad(samples, (0, max(window - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return np.concatenate([_squares(frames[at:at + 512], window) for at in range(0, len(frames), 512)])


def _squares(frames: np.ndarray, window: int) -> np.ndarray:
    spectrum: Any = fft.rfft(frames * _hann(window), axis=1)
    return np.square(spectrum.real) + np.square(spectrum.imag)


@lru_cache(maxsize=2)
def _hann(window: int) -> np.ndarray:
    return np.hanning(window + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    return librosa.filters.mel(sr=RATE_HZ, n_fft=ONSET_WINDOW, n_mels=MELS).T.astype(np.float32)


@lru_cache(maxsize=1)
def _chroma_filters() -> np.ndarray:
    """(bins, 12) of equal temperament at A = 440 Hz."""
    filters = librosa.filters.chroma(sr=RATE_HZ, n_fft=PITCH_WINDOW, octwidth=None, base_c=True).T
    hz = np.linspace(0, RATE_HZ / 2, len(filters))
    filters[(hz < LOWEST_HZ) | (hz > HIGHEST_HZ)] = 0
    return filters.astype(np.float32)
