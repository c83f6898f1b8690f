"""Augmentation of features: what a recording's making changes, and the likeness of songs does not.

Two segments of a song share its equaliser, its noise floor and its key. Left alone, these tell songs apart
with the least effort, and little is learnt of the music; so each view gets others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from scipy import fft

from simsong.model.logmel import RATE_HZ, STD, UNITS_PER_DB

Strength = Literal["off", "light", "strong"]


@dataclass(frozen=True)
class Amounts:
    gain_db: float              # up to so much louder or quieter
    eq_db: float                # standard deviation of the curve at its knots
    cut_db: float               # a low-pass' slope, up to so much a band
    floor_db: tuple[float, float]   # noise floor, below the loud parts; of its curve, FLOOR_SD_DB
    shift: int                  # up to so many bands higher or lower; not of waveforms
    masks: int                  # of each kind
    mask_mels: float            # a mask's greatest share of the bands
    mask_frames: float          # and of the time


AMOUNTS: dict[Strength, Amounts] = {
    "light": Amounts(gain_db=6, eq_db=2, cut_db=0, floor_db=(50, 80), shift=0, masks=1, mask_mels=0.1,
                     mask_frames=0.1),
    "strong": Amounts(gain_db=6, eq_db=4, cut_db=6, floor_db=(25, 60), shift=2, masks=1, mask_mels=0.1,
                      mask_frames=0.1),
}
KNOTS = 5                       # of a curve: about two octaves apart
FLOOR_SD_DB = 3.0
CUT_FROM = (0.7, 1.3)           # where the low-pass starts, as a share of the bands; from 1 on there is none
BANDS = 64                      # of curves over a waveform's spectrum: evenly on the mel scale, up to 8 kHz
RING_S = 0.05                   # longer than a filter of such bands sounds on


def augment(views: np.ndarray, rng: np.random.Generator, strength: Strength) -> None:
    """Changes features float32 in place, each view by its own draw.

    Normalised log-mel features (views, frames, n_mels): an equaliser curve with a low-pass, a noise floor, a
    gain, a shift along the bands, masks over bands and time (SpecAugment, Park et al., 2019).
    Waveforms (views, samples): the same but for the shift; what is masked is silent.
    """
    if strength == "off":
        return
    amounts = AMOUNTS[strength]
    (_augment_waveforms if views.ndim == 2 else _augment_spectrograms)(views, amounts, rng)


def _augment_spectrograms(views: np.ndarray, amounts: Amounts, rng: np.random.Generator) -> None:
    n, _, mels = views.shape
    views += (_recording_db(n, mels, amounts, rng) * UNITS_PER_DB)[:, None].astype(np.float32)
    _add_floor(views, rng.uniform(*amounts.floor_db, (n, 1)) + eq_curves(n, mels, FLOOR_SD_DB, rng))
    views += (rng.uniform(-amounts.gain_db, amounts.gain_db, (n, 1, 1)) * UNITS_PER_DB).astype(np.float32)
    for view, bands in zip(views, rng.integers(-amounts.shift, amounts.shift + 1, n), strict=True):
        shift_bands(view, int(bands))
        _mask(view, amounts, rng)


def _augment_waveforms(views: np.ndarray, amounts: Amounts, rng: np.random.Generator) -> None:
    n, samples = views.shape
    curves_db = _recording_db(n, BANDS, amounts, rng)
    for _ in range(amounts.masks):
        for curve_db in curves_db:
            curve_db[_span(BANDS, amounts.mask_mels, rng)] = -np.inf
    floors_db, snr_db = eq_curves(n, BANDS, FLOOR_SD_DB, rng), rng.uniform(*amounts.floor_db, n)
    gains_db = rng.uniform(-amounts.gain_db, amounts.gain_db, n)
    for view, curve_db, floor_db, below_db, gain_db in zip(views, curves_db, floors_db, snr_db, gains_db,
                                                           strict=True):
        view[:] = filtered(view, curve_db)
        view += noise_like(view, floor_db, below_db, rng)
        view *= np.float32(10 ** (gain_db / 20))
        for _ in range(amounts.masks):
            view[_span(samples, amounts.mask_frames, rng)] = 0


def filtered(view: np.ndarray, curve_db: np.ndarray) -> np.ndarray:
    """(samples,) float32 through a filter without delay, of the response curve_db (bands,) at even steps of
    Kaldi's mel scale up to 8 kHz; -inf is silence."""
    padded = len(view) + round(RING_S * RATE_HZ)                # so that its ends do not meet
    size = cast(int, fft.next_fast_len(padded, real=True))
    mels = np.log1p(np.arange(size // 2 + 1) * RATE_HZ / size / 700)
    bands = np.linspace(0, np.log1p(RATE_HZ / 2 / 700), len(curve_db))
    response = np.interp(mels, bands, 10 ** (curve_db / 20)).astype(np.float32)
    return np.asarray(fft.irfft(np.asarray(fft.rfft(view, size)) * response, size))[:len(view)]


def noise_like(view: np.ndarray, curve_db: np.ndarray, below_db: float,
               rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32 of noise with the spectrum curve_db (bands,), its power so far below the view's."""
    noise = filtered(rng.standard_normal(len(view), np.float32), curve_db)
    power = np.square(view, dtype=np.float64).mean() / np.square(noise, dtype=np.float64).mean()
    return noise * np.float32(np.sqrt(power) * 10 ** (-below_db / 20))


def eq_curves(n: int, mels: int, sd_db: float, rng: np.random.Generator) -> np.ndarray:
    """(n, mels) in dB: random gains at KNOTS places, cosine-interpolated between them."""
    knots = rng.normal(0, sd_db, (n, KNOTS))
    at = np.linspace(0, KNOTS - 1, mels)
    left = np.minimum(at.astype(int), KNOTS - 2)
    blend = (1 - np.cos(np.pi * (at - left))) / 2
    return knots[:, left] * (1 - blend) + knots[:, left + 1] * blend


def shift_bands(view: np.ndarray, bands: int) -> None:
    """(frames, n_mels) moved up by so many bands, or down, in place; the outermost fills up."""
    if bands > 0:
        view[:, bands:] = view[:, :-bands].copy()
        view[:, :bands] = view[:, bands:bands + 1]
    elif bands < 0:
        view[:, :bands] = view[:, -bands:].copy()
        view[:, bands:] = view[:, bands - 1:bands]


def _recording_db(n: int, mels: int, amounts: Amounts, rng: np.random.Generator) -> np.ndarray:
    start = rng.uniform(*CUT_FROM, (n, 1)) * mels
    cut_db = rng.uniform(0, amounts.cut_db, (n, 1)) * np.maximum(np.arange(mels) - start, 0)
    return eq_curves(n, mels, amounts.eq_db, rng) - cut_db


def _add_floor(views: np.ndarray, below_db: np.ndarray) -> None:
    """Noise of a level (views, n_mels) below each view's loud parts. Powers add up, not their logarithms."""
    loud = np.quantile(views[:, ::4], 0.95, axis=(1, 2))[:, None]
    floor = np.exp((loud - below_db * UNITS_PER_DB) * (2 * STD)).astype(np.float32)
    views *= 2 * STD
    np.exp(views, out=views)
    views += floor[:, None]
    np.log(views, out=views)
    views /= 2 * STD


def _mask(view: np.ndarray, amounts: Amounts, rng: np.random.Generator) -> None:
    """Hides bands and frames behind the bands' means."""
    means = view.mean(0)
    for _ in range(amounts.masks):
        bands = _span(view.shape[1], amounts.mask_mels, rng)
        view[:, bands] = means[bands]
        view[_span(len(view), amounts.mask_frames, rng)] = means


def _span(size: int, share: float, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, int(size * share) + 1))
    start = int(rng.integers(0, size - width + 1))
    return slice(start, start + width)
