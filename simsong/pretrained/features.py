"""What a pretrained network hears in a song: features of patches of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simsong.pretrained.musicnn import MusicNN

BLOCKS = {"penultimate": 200, "mean_pool": 753, "max_pool": 753}    # in the order of a row's columns
WIDTH = sum(BLOCKS.values())
PATCH_SAMPLES = 187 * 256           # of one patch, at 16 kHz


def song_features(network: MusicNN, windows: Sequence[np.ndarray], patches: int) -> list[np.ndarray]:
    """Features of a song, window by window: (p, WIDTH) float32 each.

    Args:
        windows: waveforms (samples,) float32, 16 kHz mono, without padding; what is shorter than a patch is
            repeated.
        patches: how many the song gets at least, spread evenly over its windows, if these hold so many.
    """
    a_window = -(-patches // len(windows))
    return [_features(network, np.resize(window, max(len(window), PATCH_SAMPLES)), a_window)
            for window in windows]


def penultimate(features: np.ndarray) -> np.ndarray:
    """(p, WIDTH) → (200,): the mean of the dense layer before its ReLU, which AudioMuse-AI searches with."""
    return features[:, :BLOCKS["penultimate"]].mean(0)


def _features(network: MusicNN, window: np.ndarray, patches: int) -> np.ndarray:
    heard = network.extract(window, patches)
    return np.concatenate([heard[name] for name in BLOCKS], axis=1)
