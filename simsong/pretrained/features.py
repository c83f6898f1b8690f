"""What a pretrained network hears in a song: features of patches spread over all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simsong.audio.samples import RATE_HZ, Samples

if TYPE_CHECKING:
    from simsong.pretrained.musicnn import MusicNN

BLOCKS = {"penultimate": 200, "mean_pool": 753, "max_pool": 753}    # in the order of a row's columns
WIDTH = sum(BLOCKS.values())
PATCH_SAMPLES = 187 * 256           # of one patch, at 16 kHz
VERSION = 2                         # of what `song_features` makes of a song


def song_features(network: MusicNN, samples: Samples, patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of a song, whole and at its own loudness: both tell artists apart, and the network was trained
    on music as it was mastered (docs/LEARNING.md has the figures).

    Args:
        samples: (n,) float32, 16 kHz mono; what is shorter than a patch is repeated.
        patches: how many at most; fewer where these overlap.
    Returns: where each begins (p,) float32, in seconds, and its features (p, WIDTH) float32.
    """
    from simsong.pretrained.musicnn import spread

    sound = np.resize(samples, max(len(samples), PATCH_SAMPLES))
    heard = network.extract(sound, patches)
    starts_s = (spread(len(sound), patches) / RATE_HZ).astype(np.float32)
    return starts_s, np.concatenate([heard[name] for name in BLOCKS], axis=1)


def patches_in(starts_s: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """Positions of the patches (p,) whose middle lies in a span; of none, the nearest one's."""
    middles_s = starts_s + PATCH_SAMPLES / RATE_HZ / 2
    inside = np.flatnonzero((start_s <= middles_s) & (middles_s < end_s))
    return inside if len(inside) else np.abs(middles_s - (start_s + end_s) / 2).argsort()[:1]


def penultimate(features: np.ndarray) -> np.ndarray:
    """(p, WIDTH) → (200,): the mean of the dense layer before its ReLU, which AudioMuse-AI searches with."""
    return features[:, :BLOCKS["penultimate"]].mean(0)
