"""Augmentation: each view by its own draw, in the amounts that are stated; spectrograms and waveforms."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.model.logmel import RATE_HZ, UNITS_PER_DB, LogMel
from simsong.training.augment import (
    AMOUNTS,
    BANDS,
    Strength,
    _add_floor,
    _mask,
    augment,
    eq_curves,
    filtered,
    noise_like,
    shift_bands,
)

STRENGTHS: tuple[Strength, ...] = ("light", "strong")


def spectrograms(views: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (views, 50, 64)).astype(np.float32)


def waveforms(views: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (views, 8000)).astype(np.float32)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.sin(2 * np.pi * hz * t).astype(np.float32)


def db(power: float) -> float:
    return 10 * float(np.log10(power))


# Of both kinds

@pytest.mark.parametrize("make", [spectrograms, waveforms])
def test_off_does_nothing(make: Callable[..., np.ndarray]) -> None:
    views = make(3)
    augment(views, np.random.default_rng(0), "off")
    np.testing.assert_array_equal(views, make(3))


@pytest.mark.parametrize("make", [spectrograms, waveforms])
@pytest.mark.parametrize("strength", STRENGTHS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), views=st.integers(1, 4))
def test_a_draw_gives_the_same_again_and_finite_values(make: Callable[..., np.ndarray], strength: Strength,
                                                       seed: int, views: int) -> None:
    first, again, other = make(views), make(views), make(views)
    augment(first, np.random.default_rng((seed, 0)), strength)
    augment(again, np.random.default_rng((seed, 0)), strength)
    augment(other, np.random.default_rng((seed, 1)), strength)
    assert first.shape == make(views).shape and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all() and not np.allclose(first, other)


@pytest.mark.parametrize("make", [spectrograms, waveforms])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_each_view_has_its_own_draw(make: Callable[..., np.ndarray], strength: Strength) -> None:
    views = np.repeat(make(1), 3, axis=0)
    augment(views, np.random.default_rng(0), strength)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not np.allclose(views[one], views[other])


@pytest.mark.parametrize("make", [spectrograms, waveforms])
def test_silence_stays_finite(make: Callable[..., np.ndarray]) -> None:
    for strength in STRENGTHS:
        views = np.full_like(make(2), -1.26 if make is spectrograms else 0)     # the front end's floor
        augment(views, np.random.default_rng(0), strength)
        assert np.isfinite(views).all()
        if make is waveforms:
            assert not views.any()


# Spectrograms

def test_a_noise_floor_adds_power() -> None:
    """30 dB below what is loud: it lifts silence to there, and adds 0.004 dB to what is loud."""
    views = np.full((1, 100, 8), 1.0, np.float32)
    views[:, :50] -= 80 * UNITS_PER_DB
    _add_floor(views, np.full((1, 8), 30.0))
    np.testing.assert_allclose(views[0, :50], 1 - 30 * UNITS_PER_DB, atol=1e-4)
    np.testing.assert_allclose(views[0, 50:], 1 + 10 * np.log10(1.001) * UNITS_PER_DB, atol=1e-5)


def test_bands_move_together() -> None:
    for bands, expected in ((0, [1, 2, 3, 4, 5]), (2, [1, 1, 1, 2, 3]), (-1, [2, 3, 4, 5, 5])):
        view = np.tile(np.arange(1, 6, dtype=np.float32), (3, 1))
        shift_bands(view, bands)
        assert view.tolist() == [expected] * 3


def test_gain_and_equaliser_are_in_db_and_smooth() -> None:
    curves = eq_curves(4000, 64, 3.0, np.random.default_rng(0))
    assert curves[:, 0].std() == pytest.approx(3.0, rel=0.05)              # at a knot: as asked for
    assert np.abs(np.diff(curves, axis=1)).max() < 3.0                     # from band to band
    noise = torch.from_numpy(waveforms(1)[0])
    quiet, loud = LogMel(64, 20)(torch.stack([noise, 2 * noise]))
    assert (loud - quiet).mean().item() == pytest.approx(6.02 * UNITS_PER_DB, rel=0.02)


def test_light_changes_levels_by_as_much_as_stated() -> None:
    """Loud and flat, so that the floor adds nothing: an equaliser of 2 dB and a gain of up to 6."""
    views = np.zeros((2000, 12, 64), np.float32)
    augment(views, np.random.default_rng(0), "light")
    at_a_knot = views[:, 6, 0] / UNITS_PER_DB
    assert at_a_knot.std() == pytest.approx(np.sqrt(2**2 + 6**2 / 3), rel=0.1)
    assert abs(at_a_knot.mean()) < 0.3


@pytest.mark.parametrize("strength", STRENGTHS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_masks_keep_within_their_share(strength: Strength, seed: int) -> None:
    """Masked bands stand still, masked frames are the bands' means; at most a tenth of each."""
    amounts, view = AMOUNTS[strength], spectrograms(1)[0]
    before, means = view.copy(), view.mean(0)
    _mask(view, amounts, np.random.default_rng(seed))
    frames, bands = ((view == before).sum(axis) == 0 for axis in (1, 0))
    assert frames.sum() <= amounts.mask_frames * 50 and bands.sum() <= amounts.mask_mels * 64
    for masked in (frames, bands):                              # in a row
        assert np.abs(np.diff(masked.astype(int), prepend=0, append=0)).sum() in (0, 2)
    np.testing.assert_array_equal(view[:, bands], np.tile(means[bands], (50, 1)))
    np.testing.assert_array_equal(view[frames], np.tile(means, (frames.sum(), 1)))
    outside = ~frames[:, None] & ~bands
    np.testing.assert_array_equal(view[outside], before[outside])


def test_masks_are_there() -> None:
    views = spectrograms(200)
    augment(views, np.random.default_rng(0), "light")
    still = (views.std(1) < 1e-4).mean()                        # of a tenth at most, on average half of that
    assert 0.03 < still < 0.07


# Waveforms

def test_a_filter_has_the_response_that_it_is_given() -> None:
    flat = np.zeros(BANDS)
    np.testing.assert_allclose(filtered(waveforms(1)[0], flat), waveforms(1)[0], atol=1e-6)
    np.testing.assert_allclose(filtered(waveforms(1)[0], flat - 6), waveforms(1)[0] / 10**0.3, atol=1e-6)
    # 1 kHz lies at 63 · ln(1 + 1000/700) / ln(1 + 8000/700) = 22.2, 4 kHz at 47.6
    low = np.where(np.arange(BANDS) < 35, 0.0, -np.inf)
    both = filtered(tone(1000) + tone(4000), low)[2000:-2000]
    np.testing.assert_allclose(both, tone(1000)[2000:-2000], atol=1e-3)
    tilted = filtered(tone(4000), np.linspace(0, 10, BANDS))[2000:-2000]
    assert db(2 * np.square(tilted).mean()) == pytest.approx(10 * 47.6 / 63, abs=0.02)


def test_a_filter_does_not_carry_the_end_to_the_beginning() -> None:
    click = np.zeros(8000, np.float32)
    click[-1] = 1
    assert np.abs(filtered(click, eq_curves(1, BANDS, 4, np.random.default_rng(0))[0])[:4000]).max() < 1e-3


def test_noise_is_as_far_below_as_asked_for_and_coloured() -> None:
    view, rng = waveforms(1)[0], np.random.default_rng(0)
    noise = noise_like(view, np.zeros(BANDS), 20.0, rng)
    assert db(np.square(noise).mean() / np.square(view).mean()) == pytest.approx(-20, abs=1e-3)
    assert abs(np.corrcoef(noise, view)[0, 1]) < 0.05
    low = noise_like(tone(100), np.where(np.arange(BANDS) < 20, 0.0, -np.inf), 3.0, rng)
    power = np.square(np.abs(np.fft.rfft(low)))
    assert power[:1000].sum() > 0.99 * power.sum()              # below 1 kHz, in steps of 1 Hz


def test_light_changes_waveforms_by_as_much_as_stated() -> None:
    """A tone, by which noise 50 dB below is not seen: the gain, and an equaliser between two of its knots."""
    amounts = AMOUNTS["light"]
    views = np.tile(tone(700, 0.25), (600, 1))
    augment(views, np.random.default_rng(0), "light")
    middle = np.square(views[:, 1000:3000])                     # away from the ends' clicks
    gains_db = 10 * np.log10(middle.max(1))                     # where no silence is
    heard = gains_db[gains_db > -25]                            # but where the band itself was masked
    assert 0.9 < len(heard) / len(views) < 1
    eq_db = amounts.eq_db * np.sqrt(0.6)                        # between two knots they average
    assert heard.std() == pytest.approx(np.sqrt(eq_db**2 + amounts.gain_db**2 / 3), rel=0.15)


@pytest.mark.parametrize("strength", STRENGTHS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_masked_samples_are_silent_and_few(strength: Strength, seed: int) -> None:
    views = tone(700, 0.5)[None].copy()
    augment(views, np.random.default_rng(seed), strength)
    silent = np.flatnonzero(views[0] == 0)
    assert len(silent) <= AMOUNTS[strength].mask_frames * 8000 + 2
