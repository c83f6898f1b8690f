"""Pretrained features, adapted to a library in closed form. All it is told is which patches are of one song.

Two views of a song are joined. One is the mean and deviation of its patches: each dimension standardised, its
signed square root taken, so that a few large ones do not settle a cosine, projected on principal components,
and these half whitened. The other is their mean after within-class covariance normalisation (Hatch et al.,
"Within-class covariance normalization for SVM-based speaker recognition", Interspeech 2006), each song being
a class: directions in which patches of one song differ are shrunk, those that tell songs apart are kept.

Then a song moves towards those of the library that are nearest to it (database-side feature augmentation:
Arandjelović & Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from simsong.errors import ModelError

WHITENED = 100                  # principal components of patches that are normalised
COMPONENTS = 256                # of the standardised means and deviations, at most
SHRINKAGE = 0.1                 # of the within-song covariance towards a multiple of the identity
POWER = 0.5                     # of standardised means and deviations
WHITENING = 0.5                 # of their components: each is divided by this power of its deviation
FLOOR = 1e-3                    # of a component's variance, as a share of the largest
NEAREST = 5                     # songs of the library that a song moves towards
PULL = 0.3                      # of their mean, beside its own vector
ITSELF = 0.999                  # a song of the library with a cosine above is the song itself
MOST_NEIGHBOURS = 20_000        # a library of more songs has none: it was not measured
VERSION = 2                     # of what is fitted, for the identity of models
LEAST_SONGS = 4


@dataclass(frozen=True)
class Adapted:
    """Maps a song's features (p, d) to its embedding.

    Attributes: all float32.
        mean, scale: (d,) of patches.
        whiten: (d, k) standardised patches → normalised ones.
        song_mean, song_scale: (2d,) of songs' means and deviations.
        components: (2d, m) standardised means and deviations → principal components, half whitened.
        power: (1,) of standardised means and deviations.
        neighbours: (n, m + k) the library's songs as `alone` gives them; n may be 0.
    """

    mean: np.ndarray
    scale: np.ndarray
    whiten: np.ndarray
    song_mean: np.ndarray
    song_scale: np.ndarray
    components: np.ndarray
    power: np.ndarray
    neighbours: np.ndarray

    def window(self, features: np.ndarray) -> np.ndarray:
        """(p, d) of a part of a song → (k,) float32, L2-normalised: the second view alone."""
        return _unit(((features.mean(0) - self.mean) / self.scale) @ self.whiten)

    def song(self, features: np.ndarray) -> np.ndarray:
        """(p, d) → (m + k,) float32, L2-normalised: `alone`, moved towards its nearest neighbours."""
        own = self.alone(features)
        if not len(self.neighbours):
            return own
        cosines = self.neighbours @ own
        cosines[cosines > ITSELF] = 0.0
        nearest = np.argsort(-cosines, kind="stable")[:NEAREST]
        weights = np.maximum(cosines[nearest], 0.0) ** 3
        if not weights.any():
            return own
        return _unit(own + PULL * (weights / weights.sum()) @ self.neighbours[nearest])

    def alone(self, features: np.ndarray) -> np.ndarray:
        """(p, d) → (m + k,) float32, L2-normalised: the cosine of two songs is the mean of both views'."""
        both = np.concatenate([self.moments(features), self.window(features)])
        return (both / np.sqrt(2)).astype(np.float32)

    def moments(self, features: np.ndarray) -> np.ndarray:
        """(p, d) → (m,) float32, L2-normalised: the first view alone."""
        standardised = (_moments(features) - self.song_mean) / self.song_scale
        return _unit(_signed_power(standardised, float(self.power[0])) @ self.components)

    def among(self, songs: Iterable[np.ndarray]) -> Adapted:
        """The same with these songs, features (p, d) of each, as neighbours."""
        neighbours = [self.alone(song) for song in songs]
        return replace(self, neighbours=np.stack(neighbours)) if neighbours else self

    def save(self) -> bytes:
        return safetensors.numpy.save({field.name: np.ascontiguousarray(getattr(self, field.name))
                                       for field in fields(self)})


def load_adapted(content: bytes) -> Adapted:
    """Raises: ModelError for what `save` did not give, now or before there were powers and neighbours."""
    try:
        return Adapted(**{"power": np.ones(1, np.float32), "neighbours": np.empty((0, 0), np.float32),
                          **safetensors.numpy.load(content)})
    except (SafetensorError, TypeError) as error:
        raise ModelError(f"no adapted features ({error})") from None


def fit_adapted(songs: Sequence[np.ndarray]) -> Adapted:
    """Fit to a library. See `fit_with_axes`."""
    return fit_with_axes(songs, WHITENED)[0]


def fit_with_axes(songs: Sequence[np.ndarray], most: int) -> tuple[Adapted, np.ndarray]:
    """Fit to a library; and (d, k) float32, the directions of most variance of standardised patches, of which
    the first are those that are whitened.

    Args:
        songs: features (p, d) of each song, p at least 1.
        most: of the axes, WHITENED or more.
    Raises: ModelError for fewer than LEAST_SONGS songs, or where all have the same features.
    """
    if len(songs) < LEAST_SONGS:
        raise ModelError(f"{len(songs)} songs are too few to adapt to; {LEAST_SONGS} are needed")
    patches = np.concatenate(songs).astype(np.float64)
    mean, scale = patches.mean(0), _scale(patches)
    patches = (patches - mean) / scale
    principal = _principal(patches, most)
    axes = principal[:, :WHITENED]
    if not axes.shape[1]:
        raise ModelError("all songs have the same features; there is nothing to adapt to")
    ends = np.cumsum([len(song) for song in songs])
    within = np.concatenate([part - part.mean(0) for part in np.split(patches @ axes, ends[:-1])])
    covariance = within.T @ within / len(within)
    k = len(covariance)
    level = np.trace(covariance) / k
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * (level or 1.0) * np.eye(k)
    values, vectors = np.linalg.eigh(covariance)
    whiten = axes @ ((vectors / np.sqrt(values)) @ vectors.T)

    moments = np.stack([_moments(song) for song in songs]).astype(np.float64)
    song_mean, song_scale = moments.mean(0), _scale(moments)
    moments = _signed_power((moments - song_mean) / song_scale, POWER)
    components = _principal(moments, COMPONENTS)
    variances = np.square(moments @ components).mean(0)
    components *= (variances / variances.max(initial=1e-12) + FLOOR) ** (-WHITENING / 2)
    neighbours = np.empty((0, components.shape[1] + whiten.shape[1]))
    parts = (mean, scale, whiten, song_mean, song_scale, components, np.array([POWER]), neighbours)
    return Adapted(*(part.astype(np.float32) for part in parts)), principal.astype(np.float32)


def _moments(features: np.ndarray) -> np.ndarray:
    """(p, d) → (2d,): mean and deviation over patches."""
    return np.concatenate([features.mean(0), features.std(0)])


def _signed_power(rows: np.ndarray, power: float) -> np.ndarray:
    return np.sign(rows) * np.abs(rows) ** power


def _scale(rows: np.ndarray) -> np.ndarray:
    deviation = rows.std(0)
    return np.where(deviation > 1e-6, deviation, 1.0)


def _principal(rows: np.ndarray, most: int) -> np.ndarray:
    """(n, d) of mean 0 → (d, k): the directions of most variance, k as many as there are, but `most`."""
    n, d = rows.shape
    gram = rows.T @ rows if d <= n else rows @ rows.T
    values, vectors = np.linalg.eigh(gram)
    largest = np.flatnonzero(values > 1e-9 * values[-1])[::-1][:most]
    axes = vectors[:, largest] if d <= n else rows.T @ vectors[:, largest]
    axes = axes / np.linalg.norm(axes, axis=0)
    # The sign of an eigenvector is any; the largest entry is made positive, for the same bytes each time.
    return axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(len(largest))])


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return (vector / length if length > 0 else vector).astype(np.float32)
