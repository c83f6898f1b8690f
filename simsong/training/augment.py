"""Augmentation of log-mel features: what a recording's making changes, and the likeness of songs does not.

Two segments of a song share its equaliser, its noise floor and its key. Left alone, these tell songs apart
with the least effort, and little is learnt of the music; so each view gets others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsong.model.logmel import STD, UNITS_PER_DB

Strength = Literal["off", "light", "strong"]


@dataclass(frozen=True)
class Amounts:
    gain_db: float              # up to so much louder or quieter
    eq_db: float                # standard deviation of the curve at its knots
    cut_db: float               # a low-pass' slope, up to so much a band
    floor_db: tuple[float, float]   # noise floor, below the loud parts; of its curve, FLOOR_SD_DB
    shift: int                  # up to so many bands higher or lower
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


def augment(views: np.ndarray, rng: np.random.Generator, strength: Strength) -> None:
    """Changes normalised log-mel features (views, frames, n_mels) float32 in place, each view by its own
    draw: an equaliser curve with a low-pass, a noise floor, a gain, a shift along the bands, masks over bands
    and time (SpecAugment, Park et al., 2019)."""
    if strength == "off":
        return
    amounts = AMOUNTS[strength]
    n, _, mels = views.shape
    views += (_recording_db(n, mels, amounts, rng) * UNITS_PER_DB)[:, None].astype(np.float32)
    _add_floor(views, rng.uniform(*amounts.floor_db, (n, 1)) + eq_curves(n, mels, FLOOR_SD_DB, rng))
    views += (rng.uniform(-amounts.gain_db, amounts.gain_db, (n, 1, 1)) * UNITS_PER_DB).astype(np.float32)
    for view, bands in zip(views, rng.integers(-amounts.shift, amounts.shift + 1, n), strict=True):
        shift_bands(view, int(bands))
        _mask(view, amounts, rng)


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
