"""What a pretrained network hears in a song: features of patches spread over all of it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from simsong.audio.samples import RATE_HZ, Samples
from simsong.pretrained import cache, hub

BLOCKS = {"penultimate": 200, "mean_pool": 753, "max_pool": 753}    # of musicnn, in the order of its columns
WIDTH = sum(BLOCKS.values())
PATCH_SAMPLES = 187 * 256           # of musicnn's patch, at 16 kHz
VERSION = 2                         # of what `song_features` makes of a song


class FrozenEncoder(Protocol):
    """A network that others trained, as it is."""

    @property
    def rate_hz(self) -> int:
        """Of the sound that it takes."""
        ...

    @property
    def patch(self) -> int:
        """Samples at RATE_HZ of what it hears at a time."""
        ...

    @property
    def dim(self) -> int: ...

    def features(self, sound: np.ndarray, patches: int) -> np.ndarray:
        """(samples,) float32 at RATE_HZ, of a patch at least → (p, dim) float32; p is `patches`, or fewer
        where these are enough to hear all of it."""
        ...


def version_of(network: str) -> str | None:
    """A configured network's name and a digest of its weights.

    None where none is used, `auto` finds none in the cache, or a hub id was not fetched. Raises: ModelError
    where the one that is named is not there.
    """
    if network == "none":
        return None
    if network not in ("auto", *cache.NETWORKS):
        return hub.version_of(network)
    entry = cache.find("msd-musicnn" if network == "auto" else network)
    if network == "auto" and not cache.available(entry):
        return None
    return f"{entry.name}-{cache.weights_digest(entry)}"


def song_features(network: FrozenEncoder, samples: Samples, patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of a song, whole and at its own loudness: both tell artists apart, and the network was trained
    on music as it was mastered (docs/LEARNING.md has the figures).

    Args:
        samples: (n,) float32, 16 kHz mono; what is shorter than a patch is repeated.
        patches: how many at most; fewer where these overlap.
    Returns: where the middle PATCH_SAMPLES of each begin (p,) float32, in seconds, and its features (p, dim)
        float32.
    """
    sound = np.resize(samples, max(len(samples), network.patch))
    starts = spread(len(sound), patches, network.patch) + (network.patch - PATCH_SAMPLES) / 2
    return (starts / RATE_HZ).astype(np.float32), network.features(sound, patches)


def patches_in(starts_s: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """Positions of the patches (p,) whose middle lies in a span; of none, the nearest one's."""
    middles_s = starts_s + PATCH_SAMPLES / RATE_HZ / 2
    inside = np.flatnonzero((start_s <= middles_s) & (middles_s < end_s))
    return inside if len(inside) else np.abs(middles_s - (start_s + end_s) / 2).argsort()[:1]


def spread(samples: int, patches: int | None, patch: int) -> np.ndarray:
    """Where patches begin in a sound (int64, samples): each in the middle of an equal share of it.

    Args: samples: at least `patch`; patches: how many at most, at least 1; None: as many as cover the sound.
    """
    n = -(-samples // patch)
    n = n if patches is None else min(n, max(patches, 1))
    middles = (np.arange(n) + 0.5) * samples / n
    return np.clip(np.rint(middles - patch / 2), 0, samples - patch).astype(np.int64)


def alone(label: str, features: np.ndarray) -> np.ndarray:
    """What a network says of a song by itself: (p, dim) → (d,), the mean over patches.

    Of musicnn the dense layer before its ReLU, which AudioMuse-AI searches with; of others, all columns.
    """
    return (features if label.startswith("hub-") else features[:, :BLOCKS["penultimate"]]).mean(0)
