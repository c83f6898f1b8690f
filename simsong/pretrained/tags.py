"""The tags that musicnn gives a song, from its features as they are stored: nothing is heard again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simsong.errors import ModelError
from simsong.pretrained import cache
from simsong.pretrained.features import BLOCKS

EPSILON = 1e-3                      # of TensorFlow's batch normalisation

# In the order of the network's outputs, as the wheel's configuration has them.
_MSD = ("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s",
        "alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock",
        "soul", "indie rock", "Mellow", "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk",
        "oldies", "blues", "hard rock", "ambient", "acoustic", "experimental", "female vocalist", "guitar",
        "Hip-Hop", "70s", "party", "country", "easy listening", "sexy", "catchy", "funk", "electro",
        "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy")
_MTT = ("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano",
        "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing",
        "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal",
        "pop", "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice",
        "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal", "female voice",
        "choral")
TAGS: dict[str, tuple[str, ...]] = {"msd-musicnn": _MSD, "mtt-musicnn": _MTT}
# How much the score of each tag of voices counts against that of "instrumental": so that half of all is the
# border between 25 sung songs and 16 that are not (docs/TRAITS.md says how well that divides others).
INSTRUMENTAL = "instrumental"
VOICES: dict[str, float] = {"male vocalists": 3.0, "female vocalists": 0.3, "female vocalist": 0.3}


def tags_of(label: str) -> tuple[str, ...]:
    """The tags of the network that a label of features names; none where it gives none."""
    return TAGS.get(label.rpartition("-")[0], ())


def voice_weights(label: str) -> tuple[int, dict[int, float]] | None:
    """The place of "instrumental" among the tags, and the places of voices with their weights; None where the
    network knows no such tag."""
    tags = tags_of(label)
    if INSTRUMENTAL not in tags:
        return None
    return tags.index(INSTRUMENTAL), {tags.index(name): weight for name, weight in VOICES.items()}


@dataclass(frozen=True)
class TagLayer:
    """musicnn's last layer.

    Attributes: weight: (200, tags), bias: (tags,), both float32.
    """

    weight: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(p, width) as `features.song_features` gives → (tags,) float32: each tag's probability, the mean
        over the patches."""
        penultimate = np.maximum(features[:, :BLOCKS["penultimate"]], 0)
        return (1 / (1 + np.exp(-(penultimate @ self.weight + self.bias)))).mean(axis=0, dtype=np.float64) \
            .astype(np.float32)


def load_tag_layer(network: str) -> TagLayer:
    """Of one of `cache.NETWORKS`, batch normalisation folded in. Raises: ModelError where it is not here."""
    weights = cache.load(cache.find(network))
    try:
        gamma, beta, mean, variance = (weights[f"batch_normalization_10/{part}"] for part in (
            "gamma", "beta", "moving_mean", "moving_variance"))
        kernel, bias = weights["dense_1/kernel"], weights["dense_1/bias"]
    except KeyError as error:
        raise ModelError(f"no weights of musicnn ({error} is not there)") from None
    scale = gamma / np.sqrt(variance + EPSILON)
    return TagLayer(kernel * scale[:, None], bias + (beta - mean * scale) @ kernel)
