"""Cutting a song into windows."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.audio.loudness import integrated_lufs
from simsong.audio.samples import RATE_HZ
from simsong.audio.segments import cut, decode_segment, own_samples
from simsong.config import SegmentsSettings
from simsong.errors import AudioSilent, AudioTooShort, AudioUndecodable

TWO_S = SegmentsSettings(length_s=2, hop_s=2, loudness_lufs="off")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    n = round(seconds * RATE_HZ)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


def test_windows_lie_on_the_hop_and_a_rest_is_left() -> None:
    windows = cut(noise(10), 1.0, 8.0, SegmentsSettings(length_s=3, hop_s=2))
    assert [(s.segment, s.start_s, s.end_s) for s in windows] == [(0, 1.0, 4.0), (1, 3.0, 6.0), (2, 5.0, 8.0)]
    assert [len(decode_segment(s.audio)) for s in windows] == [3 * RATE_HZ] * 3


def test_a_segment_holds_the_samples_of_its_place_to_16_bits() -> None:
    samples = noise(7)
    samples[:4] = [1.0, -1.0, 0.25, -2**-15]
    first, second, _ = (decode_segment(s.audio) for s in cut(samples, 0.0, 7.0, TWO_S))
    assert first[:4].tolist() == [1 - 2**-15, -1.0, 0.25, -2**-15]
    assert np.abs(second - samples[2 * RATE_HZ:4 * RATE_HZ]).max() <= 2**-16
    assert first.dtype == np.float32


def test_a_song_gets_one_gain() -> None:
    """Measured between the trims. Its soft part stays soft; what is too quiet is left out as without it."""
    samples = noise(12)
    samples[:4 * RATE_HZ] *= 0.001
    samples[4 * RATE_HZ:8 * RATE_HZ] *= 0.1
    samples[10 * RATE_HZ:] = 1.0                # after the end of the body
    windows = cut(samples, 0.0, 10.0, SegmentsSettings(length_s=2, hop_s=2, loudness_lufs=-30.0))
    assert [s.start_s for s in windows] == [4.0, 6.0, 8.0]
    gain = 10 ** ((-30.0 - integrated_lufs(samples[:10 * RATE_HZ])) / 20)
    assert 0.05 < gain < 0.2
    for window in windows:
        a = round(window.start_s * RATE_HZ)
        part = samples[a:a + 2 * RATE_HZ] * gain
        assert np.abs(decode_segment(window.audio) - part).max() <= 2**-16 + 1e-7
    whole = cut(samples, 8.0, 10.0, SegmentsSettings(length_s=2, hop_s=2))
    assert integrated_lufs(decode_segment(whole[0].audio)) == pytest.approx(-23, abs=0.01)


def test_it_is_flac_16_bit_mono_and_the_same_each_time() -> None:
    once, again = (cut(noise(2), 0.0, 2.0, TWO_S) for _ in range(2))
    assert once == again
    info = sf.info(io.BytesIO(once[0].audio))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE_HZ, 1)


@pytest.mark.parametrize(("count", "starts"), [
    (1, [10.0]), (2, [4.0, 14.0]), (5, [2.0, 6.0, 10.0, 14.0, 18.0]), (99, [2.0 * i for i in range(10)])])
def test_count_takes_windows_from_all_over_the_song(count: int, starts: list[float]) -> None:
    windows = cut(noise(20), 0.0, 20.0, SegmentsSettings(length_s=2, hop_s=2, count=count))
    assert [s.start_s for s in windows] == starts
    assert [s.segment for s in windows] == list(range(len(starts)))


def test_quiet_windows_are_left_out_before_counting() -> None:
    samples = noise(12)
    samples[:4 * RATE_HZ] = 0
    samples[4 * RATE_HZ:6 * RATE_HZ] = 0.0009 * np.sign(samples[4 * RATE_HZ:6 * RATE_HZ])   # −60.9 dB
    samples[6 * RATE_HZ:8 * RATE_HZ] = 0.0011 * np.sign(samples[6 * RATE_HZ:8 * RATE_HZ])   # −59.2 dB
    assert [s.start_s for s in cut(samples, 0.0, 12.0, TWO_S)] == [6.0, 8.0, 10.0]
    few = cut(samples, 0.0, 12.0, TWO_S.model_copy(update={"count": 1}))
    assert [(s.segment, s.start_s) for s in few] == [(0, 8.0)]


def test_a_silent_song_and_a_short_one_say_so() -> None:
    with pytest.raises(AudioSilent) as silent:
        cut(np.zeros(5 * RATE_HZ, np.float32), 0.0, 5.0, TWO_S, subject="TR1")
    assert str(silent.value) == "TR1: nothing above -60 dB in 2 segments"
    with pytest.raises(AudioTooShort) as short:
        cut(noise(5), 0.5, 2.2, TWO_S.model_copy(update={"short": "skip"}), subject="TR2")
    assert str(short.value) == "TR2: 1.7 s after trimming, 2 s needed"
    with pytest.raises(AudioTooShort):
        cut(noise(0.9), 0.0, 0.9, SegmentsSettings())
    with pytest.raises(AudioTooShort):
        cut(np.empty(0, np.float32), 0.0, 0.0, SegmentsSettings())


def test_a_short_song_is_repeated() -> None:
    """Not padded: zeros would be in every statistic, and the end of what a model hears."""
    samples = noise(5)
    (only,) = cut(samples, 1.0, 2.5, TWO_S)
    assert (only.segment, only.start_s, only.end_s) == (0, 1.0, 2.5)
    audio = decode_segment(only.audio)
    assert len(audio) == 2 * RATE_HZ
    assert own_samples(only.start_s, only.end_s) == round(1.5 * RATE_HZ)
    np.testing.assert_array_equal(audio[round(1.5 * RATE_HZ):], audio[:RATE_HZ // 2])
    assert np.abs(audio[:round(1.5 * RATE_HZ)] - samples[RATE_HZ:round(2.5 * RATE_HZ)]).max() <= 2**-16
    with pytest.raises(AudioSilent):
        cut(np.zeros(RATE_HZ, np.float32), 0.0, 1.0, SegmentsSettings())


@settings(max_examples=60, deadline=None)
@given(start_s=st.just(0.0) | st.floats(0.001, 1_100), length=st.integers(RATE_HZ, 3 * RATE_HZ),
       windows=st.integers(1, 3), more_s=st.sampled_from([0.0, 1.0]))
def test_times_kept_as_float32_lose_no_window(start_s: float, length: int, windows: int,
                                              more_s: float) -> None:
    length_s = length / RATE_HZ
    end_s = start_s + windows * length_s
    samples = np.broadcast_to(np.float32(0.1), round((end_s + more_s) * RATE_HZ))      # takes no memory
    result = cut(samples, float(np.float32(start_s)), float(np.float32(end_s)),
                 SegmentsSettings(length_s=length_s, hop_s=length_s, loudness_lufs="off"))
    expected = start_s + length_s * np.arange(windows)
    np.testing.assert_allclose([s.start_s for s in result], expected, atol=0.001)
    assert {len(decode_segment(s.audio)) for s in result} == {length}


def test_damaged_segments_are_typed_errors() -> None:
    audio = cut(noise(2), 0.0, 2.0, TWO_S)[0].audio
    stereo = io.BytesIO()
    sf.write(stereo, np.zeros((100, 2)), RATE_HZ, format="FLAC")
    for bad in (b"", b"fLaC", audio[:20], stereo.getvalue()):
        with pytest.raises(AudioUndecodable):
            decode_segment(bad)
