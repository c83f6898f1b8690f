"""Traits of sounds that are made to have them."""

from __future__ import annotations

import numpy as np
import pytest

from simsong.audio.loudness import integrated_lufs
from simsong.audio.samples import RATE_HZ
from simsong.audio.traits import KEYS, traits_of

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}


def clicks(bpm: float, seconds: float = 30.0, level: float = 0.3) -> np.ndarray:
    """A drum on every beat, each fourth one louder, over a little noise."""
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal(round(seconds * RATE_HZ))
    hit = rng.standard_normal(RATE_HZ // 10) * np.exp(-np.arange(RATE_HZ // 10) / 400)
    for beat in range(int(seconds * bpm / 60)):
        at = round(beat * 60 / bpm * RATE_HZ)
        part = hit[:len(samples) - at]
        samples[at:at + len(part)] += level * (1.5 if beat % 4 == 0 else 1.0) * part
    return samples.astype(np.float32)


def melody(tonic: int, mode: str, seconds: float = 20.0) -> np.ndarray:
    """Chords I, IV, V, I of a key with the scale above them, of tones with overtones."""
    scale, t = SCALES[mode], np.arange(RATE_HZ // 2) / RATE_HZ
    parts = []
    for beat in range(round(seconds * 2)):
        root = (0, 3, 4, 0)[beat // 4 % 4]
        degrees = (root, root + 2, root + 4, (0, 1, 2, 3, 4, 5, 6, 0)[beat % 8])
        midi = [48 + tonic + 12 * (degree // 7) + scale[degree % 7] for degree in degrees]
        hz = [440 * 2 ** ((note - 69) / 12) for note in midi]
        parts.append(sum(np.sin(2 * np.pi * tone * n * t) / n**2 for tone in hz for n in (1, 2, 3)))
    return (0.1 * np.concatenate(parts)).astype(np.float32)


@pytest.mark.parametrize("bpm", [72.0, 97.0, 120.0, 143.5])
def test_the_tempo_is_that_of_the_beats(bpm: float) -> None:
    traits = traits_of(clicks(bpm)).tempo_bpm
    assert traits == pytest.approx(bpm, rel=0.015)


def test_noise_has_no_beat_and_no_key() -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(30 * RATE_HZ)).astype(np.float32)
    traits = traits_of(noise)
    assert (traits.tempo_bpm, traits.key, traits.mode) == (None, None, None)


@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("tonic", [0, 4, 9])
def test_the_key_is_that_of_the_chords(tonic: int, mode: str) -> None:
    traits = traits_of(melody(tonic, mode))
    assert (traits.key, traits.mode) == (KEYS[tonic], mode)


def test_neither_key_nor_tempo_follows_the_level() -> None:
    tune = melody(2, "major") + clicks(110.0, 20.0)
    loud, soft = traits_of(tune), traits_of(tune * np.float32(0.05))
    assert (loud.key, loud.mode) == (soft.key, soft.mode) == ("D", "major")
    assert loud.tempo_bpm == pytest.approx(110, rel=0.015) and soft.tempo_bpm == pytest.approx(110, rel=0.015)


def test_the_loudness_is_that_of_the_standard_and_moves_the_energy() -> None:
    tune = clicks(120.0)
    loud, soft = traits_of(tune), traits_of(tune * np.float32(0.25))
    assert loud.loudness_lufs == pytest.approx(integrated_lufs(tune))
    assert loud.loudness_lufs is not None
    assert soft.loudness_lufs == pytest.approx(loud.loudness_lufs - 12.04, abs=0.2)
    assert soft.energy < loud.energy


def test_energy_is_dense_bright_and_loud() -> None:
    drone = (0.05 * np.sin(2 * np.pi * 110 * np.arange(20 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    calm, slow, fast = (traits_of(sound).energy for sound in (drone, clicks(60.0), clicks(200.0, level=0.6)))
    assert 0 <= calm < slow < fast <= 1


@pytest.mark.parametrize("samples", [0, 1, 600, RATE_HZ // 2])
def test_what_is_too_short_or_silent_has_no_traits(samples: int) -> None:
    silent = traits_of(np.zeros(samples, np.float32))
    assert (silent.tempo_bpm, silent.key, silent.loudness_lufs, silent.energy) == (None, None, None, 0.0)
    tone = traits_of(np.full(samples, 0.1, np.float32) * np.sin(np.arange(samples, dtype=np.float32)))
    assert tone.tempo_bpm is None and 0 <= tone.energy <= 1
