"""Loudness: the test signals of ITU-R BS.1770 and EBU Tech 3341, and what a gain does."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest

from simsong.audio.decode import centred
from simsong.audio.loudness import gain_to, integrated_lufs
from simsong.audio.samples import RATE_HZ
from simsong.model.logmel import MEAN, STD, UNITS_PER_DB


def sine(level_dbfs: float, seconds: float, hz: float = 1_000.0) -> np.ndarray:
    """Its peak is at that level."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def test_the_standards_tone() -> None:
    """BS.1770: 997 Hz at full scale in one channel is -3.01 LKFS."""
    assert integrated_lufs(sine(0, 20, hz=997)) == pytest.approx(-3.01, abs=0.05)


# EBU Tech 3341 measures both channels of stereo: 3.01 more than one.
@pytest.mark.parametrize(("parts", "stereo_lufs"), [
    ([(-23, 20)], -23), ([(-33, 20)], -33),
    ([(-36, 10), (-23, 60), (-36, 10)], -23),                               # the relative gate
    ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),         # and the absolute one
    ([(-26, 20), (-20, 20.1), (-26, 20)], -23)])
def test_ebu_tech_3341(parts: list[tuple[float, float]], stereo_lufs: float) -> None:
    samples = np.concatenate([sine(level, seconds) for level, seconds in parts])
    assert integrated_lufs(samples) + 3.01 == pytest.approx(stereo_lufs, abs=0.1)


@pytest.mark.parametrize("seconds", [0.4, 0.449, 0.451, 1, 10.07, 30.349, 61])
def test_it_is_what_pyloudnorm_measures(seconds: float) -> None:
    """Noise that swells, falls silent and swells again, of any length."""
    n = round(seconds * RATE_HZ)
    swell = np.sin(np.linspace(0.1, 3 * np.pi, n)).clip(0) ** 4
    samples = (swell * np.random.default_rng(0).normal(0, 0.1, n)).astype(np.float32)
    theirs = pyloudnorm.Meter(RATE_HZ, filter_class="DeMan").integrated_loudness(samples)
    assert integrated_lufs(samples) == pytest.approx(theirs, abs=1e-4)


def test_silence_has_no_loudness_and_stays_as_it_is() -> None:
    faint = np.full(RATE_HZ, 1e-7, np.float32)
    for samples in (np.zeros(RATE_HZ, np.float32), np.empty(0, np.float32), sine(-6, 0.3), faint):
        assert integrated_lufs(samples) == -math.inf
        assert gain_to(samples, -23.0) == 1.0


@pytest.mark.parametrize("level_dbfs", [-50, -20, 0])
def test_a_gain_brings_songs_to_the_target(level_dbfs: float) -> None:
    samples = sine(level_dbfs, 10)
    gain = gain_to(samples, -23.0)
    assert integrated_lufs(samples * np.float32(gain)) == pytest.approx(-23.0, abs=0.01)
    assert 20 * math.log10(gain) == pytest.approx(-23 + 3.01 - level_dbfs, abs=0.1)


def test_a_gain_never_clips() -> None:
    """Soft music with one loud click."""
    samples = sine(-40, 10)
    samples[5 * RATE_HZ] = -0.5
    gain = gain_to(samples, -14.0)
    assert gain == pytest.approx(2 * (1 - 2**-15))
    assert np.rint(np.abs(samples).max() * gain * 2**15) == 2**15 - 1


def test_a_gain_shifts_the_encoders_input_by_a_constant() -> None:
    """What the module says of AST's normalisation."""
    db = 7.0
    power = np.random.default_rng(0).uniform(1, 100, 50)
    once, louder = ((np.log(p) - MEAN) / (2 * STD) for p in (power, power * 10 ** (db / 10)))
    np.testing.assert_allclose(louder - once, db * UNITS_PER_DB, rtol=1e-12)


def test_an_offset_is_taken_off_and_nothing_else() -> None:
    music = sine(-12, 2, hz=100)
    np.testing.assert_allclose(centred(music + np.float32(0.1)), music, atol=1e-6)
    untouched = music + np.float32(0.0005)
    assert centred(untouched) is untouched
    loud = np.where(np.arange(RATE_HZ) % 4 == 0, 1.0, -1.0).astype(np.float32)      # its mean is -0.5
    assert set(centred(loud)) == {1.0, -0.5}
