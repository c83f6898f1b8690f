"""Pretrained features adapted to a library in closed form."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import safetensors.numpy

from simsong.errors import ModelError
from simsong.model.adapted import ITSELF, NEAREST, PULL, SHRINKAGE, Adapted, fit_adapted, load_adapted


def library(songs: int = 30, patches: int = 8, seed: int = 0) -> list[np.ndarray]:
    """Songs of 20 features: the first 8 tell songs apart, the others are ten times as loud, and anything."""
    rng = np.random.default_rng(seed)
    spread = np.array([1.0] * 8 + [10.0] * 12)
    own = rng.normal(size=(songs, 20)) * np.array([1.0] * 8 + [0.0] * 12)
    noise = np.array([0.3] * 8 + [1.0] * 12)
    return [((own[song] + rng.normal(size=(patches, 20)) * noise) * spread).astype(np.float32)
            for song in range(songs)]


def halves_found(fitted: Adapted, songs: list[np.ndarray]) -> float:
    """The share of songs whose first half finds the second before all others."""
    first = np.stack([fitted.window(song[:len(song) // 2]) for song in songs])
    second = np.stack([fitted.window(song[len(song) // 2:]) for song in songs])
    return float(np.mean((first @ second.T).argmax(1) == np.arange(len(songs))))


def test_what_differs_within_a_song_counts_less() -> None:
    fitted, unseen = fit_adapted(library()), library(seed=1)
    assert halves_found(fitted, unseen) > 0.95
    plain = replace(fitted, whiten=np.eye(20, dtype=np.float32))
    assert halves_found(plain, unseen) < 0.9


def test_the_covariance_within_songs_becomes_the_identity_but_for_the_shrinkage() -> None:
    songs = library(60, 40)
    fitted = fit_adapted(songs)
    within = np.concatenate([(song - song.mean(0)) / fitted.scale @ fitted.whiten for song in songs])
    values = np.linalg.eigvalsh(within.T @ within / len(within))
    # A variance v came out as v / ((1 − s)·v + s·mean): below 1 / (1 − s), and near it where v is large.
    assert values.min() > 0.3 and values.max() < 1 / (1 - SHRINKAGE)


def test_embeddings_are_of_length_one_and_their_cosine_the_mean_of_both_views() -> None:
    songs = library()
    fitted = fit_adapted(songs)
    vectors = np.stack([fitted.song(song) for song in songs])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    moments = np.stack([np.concatenate([song.mean(0), song.std(0)]) for song in songs])
    moments = (moments - moments.mean(0)) / moments.std(0)
    moments = np.sign(moments) * np.sqrt(np.abs(moments))
    values, axes = np.linalg.eigh(moments.T @ moments / len(songs))
    axes, values = axes[:, values > 1e-9 * values.max()], values[values > 1e-9 * values.max()]
    moments = moments @ axes / (values / values.max() + 1e-3) ** 0.25        # half whitened
    moments /= np.linalg.norm(moments, axis=1, keepdims=True)
    windows = np.stack([fitted.window(song) for song in songs])
    both = (moments @ moments.T + windows @ windows.T) / 2
    np.testing.assert_allclose(vectors @ vectors.T, both, atol=1e-3)


def test_the_same_each_time_and_through_a_file() -> None:
    once, again = fit_adapted(library()).save(), fit_adapted(library()).save()
    assert once == again
    song = library()[0]
    np.testing.assert_array_equal(load_adapted(once).song(song), fit_adapted(library()).song(song))
    among = fit_adapted(library()).among(library(seed=1))
    np.testing.assert_array_equal(load_adapted(among.save()).song(song), among.song(song))
    with pytest.raises(ModelError):
        load_adapted(once[:100])


def test_a_song_moves_towards_the_nearest_of_the_library() -> None:
    songs = library()
    fitted = fit_adapted(songs[1:]).among(songs[1:])
    alone = np.stack([fitted.alone(song) for song in songs])
    cosines = alone[1:] @ alone[0]
    nearest = np.argsort(-cosines)[:NEAREST]
    weights = np.maximum(cosines[nearest], 0) ** 3
    expected = alone[0] + PULL * weights @ alone[1:][nearest] / weights.sum()
    np.testing.assert_allclose(fitted.song(songs[0]), expected / np.linalg.norm(expected), atol=1e-6)
    assert fitted.song(songs[0]) @ alone[1:][nearest[0]] > cosines[nearest[0]]


def test_a_song_of_the_library_is_no_neighbour_of_its_own() -> None:
    songs = library()
    with_it, without = fit_adapted(songs).among(songs), fit_adapted(songs).among(songs[1:])
    np.testing.assert_allclose(with_it.song(songs[0]), without.song(songs[0]), atol=1e-6)
    alone = fit_adapted(songs).among(songs[:1])
    assert alone.song(songs[0]) @ alone.alone(songs[0]) > ITSELF
    np.testing.assert_array_equal(alone.song(songs[0]), alone.alone(songs[0]))


def test_what_was_saved_before_there_were_powers_and_neighbours_opens_and_gives_the_same() -> None:
    fitted = fit_adapted(library())
    old = {field.name: getattr(fitted, field.name) for field in fields(fitted)
           if field.name not in ("power", "neighbours")}
    opened = load_adapted(safetensors.numpy.save(old))
    song = library()[0]
    moments = np.concatenate([song.mean(0), song.std(0)])
    expected = (moments - fitted.song_mean) / fitted.song_scale @ fitted.components
    both = np.concatenate([expected / np.linalg.norm(expected), fitted.window(song)]) / np.sqrt(2)
    np.testing.assert_allclose(opened.song(song), both, atol=1e-5)


def test_songs_of_one_patch_can_be_fitted_to_and_songs_that_are_all_alike_cannot() -> None:
    songs = [song[:1] for song in library(6)]
    assert np.isfinite(fit_adapted(songs).song(songs[0])).all()
    with pytest.raises(ModelError, match="nothing to adapt to"):
        fit_adapted([np.ones((2, 5), np.float32)] * 5)
    with pytest.raises(ModelError, match="too few"):
        fit_adapted(library(3))
