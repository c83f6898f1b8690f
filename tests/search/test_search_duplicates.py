"""The same recording, found by sound: values by hand, groups whatever the order, real songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.audio.decode import decode
from simsong.audio.mfcc import MFCC_DIM, mfcc_statistics
from simsong.audio.samples import RATE_HZ
from simsong.audio.segments import cut, decode_segment, own_samples
from simsong.audio.soundprint import BANDS, FLOOR_DB, HOP, HOP_S, WINDOW, soundprint
from simsong.config import SegmentsSettings
from simsong.search.duplicates import (
    NEAR_S,
    NEAREST,
    SAME,
    correlation,
    first_of_group,
    near_pairs,
    on_timeline,
    other_recording,
    same_recording,
)

MUSIC = Path(__file__).parents[2].parent / "shared" / "data" / "music"


def statistics(*means: float) -> np.ndarray:
    """Songs along a curve, alike in all but two values."""
    out = np.zeros((len(means), MFCC_DIM), dtype=np.float32)
    out[:, 0], out[:, 1] = means, np.square(means)
    return out


def song(seed: int, moments: int = 600) -> np.ndarray:
    return np.random.default_rng(seed).normal(-30, 6, (moments, BANDS)).astype(np.float32)


def test_pairs_last_as_long():
    pairs = near_pairs(statistics(0, 1, 2, 3), np.array([100, 102.9, 103.1, 250.0]))
    assert pairs.tolist() == [[0, 1], [1, 2]]                # 0 and 2 are 3.1 s apart


def test_of_many_the_nearest_are_looked_at():
    """Twins among songs of one length that lie in a row: each has some nearest, and its twin is the first."""
    means = np.repeat(np.arange(50.0), 2)
    pairs = near_pairs(statistics(*means), np.full(100, 60.0))
    assert {(a, a + 1) for a in range(0, 100, 2)} <= {(a, b) for a, b in pairs.tolist()}
    assert len(pairs) <= 100 * NEAREST


@pytest.mark.parametrize("other", [0.0, 0.5])                # alone together, their spread tells nothing
def test_two_songs_are_enough(other: float):
    assert near_pairs(statistics(0, other), np.array([60.0, 61.0])).tolist() == [[0, 1]]
    assert near_pairs(statistics(0), np.array([60.0])).shape == (0, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.randoms())
def test_pairs_do_not_depend_on_the_order(lengths_s: list[int], random):
    order = list(range(len(lengths_s)))
    random.shuffle(order)
    rows, durations_s = np.random.default_rng(0).normal(size=(12, MFCC_DIM)), np.array(lengths_s, float)

    def found(of: list[int]) -> set[frozenset[int]]:
        return {frozenset(of[i] for i in pair) for pair in near_pairs(rows[of], durations_s[of]).tolist()}

    assert found(order) == found(list(range(len(lengths_s))))


@given(st.integers(1, 12), st.data())
def test_groups_are_transitive_symmetric_and_in_any_order(n: int, data: st.DataObject):
    one = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(one, one), max_size=15))
    want = list(range(n))
    for _ in range(n):                                       # the slow way: the smaller one spreads
        for a, b in pairs:
            want[a] = want[b] = min(want[a], want[b])
    turned = [pair[::-1] for pair in data.draw(st.permutations(pairs))]
    for given_pairs in (pairs, turned):
        assert first_of_group(n, np.array(given_pairs, dtype=np.int64).reshape(-1, 2)).tolist() == want


def test_correlation_by_hand():
    a, noise = song(1), song(2) + 30
    assert correlation(a, a) == pytest.approx(1)
    assert correlation(a, a * 2 + 7) == pytest.approx(1)     # louder, otherwise equalised
    assert correlation(a, a + noise) == pytest.approx(0.5 ** 0.5, abs=0.02)     # half of the power is its own
    assert correlation(a, song(3)) < 0.1
    assert same_recording(a, a + noise / 2) and not same_recording(a, a + noise)
    assert 0.5 ** 0.5 < SAME < (1 / 1.25) ** 0.5


def test_correlation_at_every_lag_that_durations_allow():
    a = song(1)
    most = round(NEAR_S / HOP_S)
    for lag in (1, 7, most):
        assert correlation(a[lag:], a) == pytest.approx(1, abs=0.01)
        assert correlation(a, a[lag:]) == pytest.approx(correlation(a[lag:], a))
    assert correlation(a[most + 2:], a) < 0.2


def test_songs_cut_elsewhere_are_compared_where_both_are_heard():
    whole = song(1)
    first, last, middle = whole.copy(), whole.copy(), whole.copy()
    first[350:], last[:200], middle[:400] = np.nan, np.nan, np.nan
    assert correlation(first, last) == -1                    # 150 moments of 350 and 400: too little to tell
    assert correlation(last, middle) == pytest.approx(1, abs=0.01)
    assert correlation(whole, first) == pytest.approx(1, abs=0.01)
    assert correlation(first, middle) == -1


def test_another_recording_is_one_that_was_heard_to_be():
    a = song(1)
    assert other_recording(a, song(2)) and not other_recording(a, a)
    late = np.concatenate([song(2, round(20 / HOP_S)), a])      # with an intro of 20 s
    assert not other_recording(a, late) and not same_recording(a, late)
    first, last = a.copy(), song(2)
    first[350:], last[:200] = np.nan, np.nan
    assert not other_recording(first, last)                     # too little is heard of both at once


def test_prints_lie_where_their_windows_do():
    prints = np.array([[-10.0] * 3 + [-14.0] + [-10.0] * 2, [-80.0] * 6]).repeat(BANDS, axis=1)
    result = on_timeline(prints, np.array([2 * HOP_S, 8 * HOP_S]))
    assert result.shape == (14, BANDS)
    assert np.isnan(result[[0, 1, 2, 13]]).all()
    assert result[3:13, 0].tolist() == [-10, -11, -12, -11, -20, -40, -50, -50, -50, -50]    # 40 dB below


def test_soundprint_of_a_sine():
    t = np.arange(RATE_HZ) / RATE_HZ
    loud = soundprint(np.sin(2 * np.pi * 1000 * t).astype(np.float32)).reshape(-1, BANDS)
    soft = soundprint((0.1 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)).reshape(-1, BANDS)
    assert len(loud) == (RATE_HZ - WINDOW) // HOP + 1
    band = int(loud[0].argmax())
    assert (loud.argmax(axis=1) == band).all()
    assert loud[:, band].max() == pytest.approx(0, abs=3)    # a filter's flanks may cost a little
    assert (loud - soft)[:, band] == pytest.approx(20, abs=1)
    assert (soundprint(np.zeros(RATE_HZ, np.float32)) == FLOOR_DB).all()


@pytest.mark.skipif(not MUSIC.is_dir(), reason="the shared recordings are not here")
def test_a_reencoding_is_the_same_recording_and_karaoke_is_not(tmp_path: Path):
    def heard(file: Path, start_s: float) -> tuple[np.ndarray, np.ndarray, float]:
        samples = decode(file)
        windows = cut(samples, start_s, len(samples) / RATE_HZ, SegmentsSettings())
        audio = [decode_segment(window.audio) for window in windows]
        return (np.mean([mfcc_statistics(a) for a in audio], axis=0),
                on_timeline(np.stack([soundprint(a) for a in audio]), np.array([w.start_s for w in windows])),
                len(samples) / RATE_HZ)

    song_file, karaoke_file = (next(MUSIC.glob(f"Pornophonique/{name}.*"))
                               for name in ("Space Invaders", "Space Invaders (Kar)"))
    samples, rate_hz = soundfile.read(song_file, dtype="float32", always_2d=True)
    again = tmp_path / "other name.ogg"
    late = np.pad(0.5 * samples, ((rate_hz, 0), (0, 0)))     # a second later, 6 dB softer, about 45 kbit/s
    with soundfile.SoundFile(again, "w", rate_hz, 2, format="OGG", compression_level=1.0) as out:
        for at in range(0, len(late), rate_hz):              # libsndfile's encoder has no stack for all of it
            out.write(late[at:at + rate_hz])
    given_songs = [heard(song_file, 3.0), heard(again, 11.3), heard(karaoke_file, 3.0)]
    means, timelines, durations_s = zip(*given_songs, strict=True)
    pairs = near_pairs(np.stack(means), np.array(durations_s))
    assert [0, 1] in pairs.tolist()
    assert same_recording(timelines[0], timelines[1])
    assert not same_recording(timelines[0], timelines[2])
    assert not same_recording(timelines[1], timelines[2])


def test_short_songs_are_compared_where_they_sound(tmp_path: Path) -> None:
    """Two songs of a third of a window: what fills the rest makes them neither alike nor longer."""
    samples = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        level = np.repeat(rng.uniform(0.05, 1, 100), RATE_HZ // 10)
        samples.append((rng.normal(0, 0.1, 10 * RATE_HZ) * level).astype(np.float32))
    timelines = []
    for song_samples in (*samples, samples[0][RATE_HZ // 2:]):
        (window,) = cut(song_samples, 0.0, len(song_samples) / RATE_HZ, SegmentsSettings())
        prints = soundprint(decode_segment(window.audio), own_samples(window.start_s, window.end_s))
        timelines.append(on_timeline(prints[None], np.array([0.0])))
    assert (~np.isnan(timelines[0][:, 0])).sum() <= 10 / HOP_S
    assert not same_recording(timelines[0], timelines[1])
    assert same_recording(timelines[0], timelines[2])
