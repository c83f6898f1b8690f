"""Augmentation of log-mel features: what a remastering changes, and the likeness of songs does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsong.model.logmel import UNITS_PER_DB

Strength = Literal["off", "light", "strong"]


@dataclass(frozen=True)
class Amounts:
    gain_db: float              # up to so much louder or quieter
    eq_db: float                # standard deviation of the curve at its knots
    masks: int                  # of each kind
    mask_mels: float            # a mask's greatest share of the bands
    mask_frames: float          # and of the time


AMOUNTS: dict[Strength, Amounts] = {
    "light": Amounts(gain_db=6, eq_db=2, masks=1, mask_mels=0.1, mask_frames=0.1),
    "strong": Amounts(gain_db=12, eq_db=5, masks=2, mask_mels=0.15, mask_frames=0.15),
}
KNOTS = 5                       # of the EQ curve: about two octaves apart


def augment(views: np.ndarray, rng: np.random.Generator, strength: Strength) -> None:
    """Changes normalised log-mel features (views, frames, n_mels) float32 in place, each view by its own
    draw: a gain, a smooth equaliser curve, masks over bands and time (SpecAugment, Park et al., 2019)."""
    if strength == "off":
        return
    amounts = AMOUNTS[strength]
    n, frames, mels = views.shape
    gain_db = rng.uniform(-amounts.gain_db, amounts.gain_db, (n, 1))
    views += ((gain_db + eq_curves(n, mels, amounts.eq_db, rng)) * UNITS_PER_DB)[:, None].astype(np.float32)
    for view in views:
        for _ in range(amounts.masks):
            view[:, _span(mels, amounts.mask_mels, rng)] = 0         # 0 is AudioSet's mean
            view[_span(frames, amounts.mask_frames, rng)] = 0


def eq_curves(n: int, mels: int, sd_db: float, rng: np.random.Generator) -> np.ndarray:
    """(n, mels) in dB: random gains at KNOTS places, cosine-interpolated between them."""
    knots = rng.normal(0, sd_db, (n, KNOTS))
    at = np.linspace(0, KNOTS - 1, mels)
    left = np.minimum(at.astype(int), KNOTS - 2)
    blend = (1 - np.cos(np.pi * (at - left))) / 2
    return knots[:, left] * (1 - blend) + knots[:, left + 1] * blend


def _span(size: int, share: float, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, int(size * share) + 1))
    start = int(rng.integers(0, size - width + 1))
    return slice(start, start + width)
