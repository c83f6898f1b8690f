"""Where songs begin and end: songs put together so that one knows."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.audio.samples import RATE_HZ
from simsong.audio.trim import Trimmed, novelty, trim
from simsong.config import TrimSettings
from simsong.demo.compose import render, song_score
from simsong.demo.plan import plan_world
from simsong.demo.synth import RATE_HZ as DEMO_RATE_HZ


def pad_chord(seconds: float, level: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return level * np.mean([np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6)], axis=0)


def band(seconds: float, seed: int = 0) -> np.ndarray:
    """Chords that change each 2 s, and a drum every half second."""
    rng = np.random.default_rng(seed)
    out = np.concatenate([0.4 * pad_chord(2, 1.0) * (1 + 0.2 * np.sin(i)) for i in range(int(seconds) // 2)])
    hit = rng.normal(0, 0.5, RATE_HZ // 4) * np.exp(-np.arange(RATE_HZ // 4) / 1_500)
    for at in range(0, len(out) - len(hit), RATE_HZ // 2):
        out[at:at + len(hit)] += hit
    return out


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ))


def song(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts).clip(-1, 1).astype(np.float32)


def faded(samples: np.ndarray, curve: str) -> np.ndarray:
    x = np.linspace(0, 1, len(samples))
    return samples * (1 - x if curve == "linear" else 10 ** (-50 * x / 20))


def spans(body: Trimmed, start_s: float, end_s: float, within_s: float) -> bool:
    return abs(body.start_s - start_s) <= within_s and abs(body.end_s - end_s) <= within_s


@pytest.mark.parametrize("curve", ["linear", "exponential"])
def test_structure_finds_intro_and_fade(curve: str) -> None:
    x = song(pad_chord(8, 0.15), band(60), faded(band(10), curve))
    body = trim(x, TrimSettings(), keep_s=30)
    assert body.mode == "structure"
    assert spans(body, 8, 68, 2), body


def test_structure_finds_an_intro_as_loud_as_the_body_but_calmer() -> None:
    loud = pad_chord(12, 1.0)
    body = band(60)
    loud *= np.sqrt(np.mean(body**2) / np.mean(loud**2))
    assert spans(trim(song(loud, body), TrimSettings(), keep_s=30), 12, 72, 2)


def test_structure_finds_a_fade_in_and_an_outro() -> None:
    x = song(faded(band(10), "linear")[::-1], band(60), pad_chord(14, 0.1))
    assert spans(trim(x, TrimSettings(), keep_s=30), 10, 70, 2)


def test_structure_leaves_a_song_that_is_all_body() -> None:
    assert spans(trim(song(band(80)), TrimSettings(), keep_s=30), 0, 80, 0)


def test_structure_leaves_a_break_in_the_middle() -> None:
    x = song(band(50), pad_chord(10, 0.1), band(60))
    assert spans(trim(x, TrimSettings(), keep_s=30), 0, 120, 0)


def test_structure_drops_silence_around_a_song() -> None:
    x = song(silence(5), band(60), silence(7))
    assert spans(trim(x, TrimSettings(), keep_s=30), 5, 65, 0.6)


def test_structure_does_not_depend_on_gain() -> None:
    x = song(pad_chord(8, 0.15), band(60), faded(band(10), "linear"))
    assert trim(x, TrimSettings(), keep_s=30) == trim((x / 16).astype(np.float32), TrimSettings(), keep_s=30)


def test_structure_finds_an_intro_that_fades_in_before_a_body_that_rises() -> None:
    """Loudness alone looks like one long fade-in, that ends with the quiet verse."""
    x = song(faded(pad_chord(12, 0.12), "linear")[::-1], 0.7 * band(10), band(70))
    assert spans(trim(x, TrimSettings(), keep_s=30), 12, 92, 1)


def test_structure_takes_no_quiet_verse_for_an_intro() -> None:
    x = song(0.6 * band(20), band(30), 0.6 * band(20), band(30), 0.6 * band(20))
    assert spans(trim(x, TrimSettings(), keep_s=30), 0, 120, 0)


def test_novelty_is_the_distance_of_means_weighted_by_their_counts() -> None:
    sound = np.zeros((60, 2))
    sound[30:] = (3.0, 4.0)
    strengths = novelty(sound)
    assert strengths.shape == (60,)
    assert (strengths[0], strengths[14], strengths[46]) == (0, 0, 0)     # at least KERNEL = 16 blocks away
    assert strengths[30] == pytest.approx(5 * (16 * 16 / 32) ** 0.5)
    assert strengths[22] == pytest.approx(5 * 8 / 16 * (16 * 16 / 32) ** 0.5)      # 8 of the 16 after it
    two = novelty(sound[28:31])                              # means of 2 before and 1 after
    assert two.tolist() == pytest.approx([0, 2.5 * (2 / 3) ** 0.5, 5 * (2 / 3) ** 0.5])


def test_the_demo_worlds_songs_are_cut_where_they_begin_and_end() -> None:
    """A song of each style, from their sound alone; `python -m benchmarks.audio.trim` takes as many as
    wanted."""
    right, worst = 0, 0.0
    for planned in plan_world(24, 1, (60.0, 75.0), {}).songs[:8]:
        score = song_score(planned.spec)
        x = soxr.resample(render(planned.spec, score), DEMO_RATE_HZ, RATE_HZ)
        body = trim(x, TrimSettings(), keep_s=30)
        start_s, end_s = score.intro_s, score.duration_s - score.outro_s
        right += spans(body, start_s, end_s, 2)
        cut_s = max(body.start_s - start_s, 0) + max(end_s - body.end_s, 0)
        worst = max(worst, cut_s / (end_s - start_s))
    assert right >= 7                    # of 8
    assert worst <= 0.05


def test_fades_that_the_catalogue_knows() -> None:
    x = song(band(80))
    nan = float("nan")
    of_another_recording = ((50.0, 20.0), (nan, nan), (-1.0, 200.0))
    for start_s, end_s, kept in ((3.0, 70.0, (3.0, 70.0)), (0.0, 80.0, (0.0, 80.0)), (3.0, None, (3.0, 80.0)),
                                 *((*fades, (0.0, 80.0)) for fades in of_another_recording)):
        body = trim(x, TrimSettings(), keep_s=30, fade_in_end_s=start_s, fade_out_start_s=end_s)
        assert body == Trimmed(*kept, "structure"), (start_s, end_s)
    silence_only = trim(x, TrimSettings(mode="silence"), keep_s=30, fade_in_end_s=3.0)
    assert silence_only == Trimmed(0.0, 80.0, "silence")
    of_another = (90.0, (0.0, 80.0))
    for catalogue_s, kept in ((81.5, (3.0, 70.0)), of_another):
        body = trim(x, TrimSettings(), keep_s=30, fade_in_end_s=3.0, fade_out_start_s=70.0,
                    catalogue_s=catalogue_s)
        assert body == Trimmed(*kept, "structure")


def test_silence_mode_cuts_what_is_below_the_threshold() -> None:
    quiet = 0.003 * np.sign(pad_chord(3, 1.0))           # −50.5 dB
    x = song(silence(2), quiet, band(50), quiet, silence(1))
    assert spans(trim(x, TrimSettings(mode="silence"), keep_s=30), 5, 55, 0.3)
    assert spans(trim(x, TrimSettings(mode="silence", silence_db=-55), keep_s=30), 2, 58, 0.05)


def test_fixed_mode_and_none() -> None:
    x = song(band(60))
    fixed = TrimSettings(mode="fixed", intro_s=4, outro_s=7.5)
    assert trim(x, fixed, keep_s=30) == Trimmed(4.0, 52.5, "fixed")
    assert trim(x, TrimSettings(mode="none"), keep_s=30) == Trimmed(0.0, 60.0, "none")


def test_no_more_than_max_s_from_either_end() -> None:
    x = song(silence(20), band(60), silence(20))
    for mode in ("structure", "silence"):
        assert trim(x, TrimSettings(mode=mode, max_s=6), keep_s=30) == Trimmed(6.0, 94.0, mode)
        assert trim(x, TrimSettings(mode=mode, max_s=0), keep_s=30) == Trimmed(0.0, 100.0, mode)
    fixed = TrimSettings(mode="fixed", intro_s=9, outro_s=1, max_s=6)
    assert trim(x, fixed, keep_s=30) == Trimmed(6.0, 99.0, "fixed")


@pytest.mark.parametrize(("intro_s", "outro_s", "kept"), [
    (20, 20, (15, 45)),        # 10 s short: 5 from each
    (38, 2, (30, 60)),         # 10 s short: the outro has but 2 to give, the intro gives 8
    (45, 45, (15, 45)),        # they even overlap
])
def test_a_segment_is_always_left(intro_s: float, outro_s: float, kept: tuple[float, float]) -> None:
    body = trim(song(band(60)), TrimSettings(mode="fixed", intro_s=intro_s, outro_s=outro_s), keep_s=30)
    assert (body.start_s, body.end_s) == kept


def test_what_cannot_be_cut() -> None:
    for mode in ("fixed", "silence", "structure"):
        assert trim(song(band(30)), TrimSettings(mode=mode), keep_s=30) == Trimmed(0.0, 30.0, "none")
        assert trim(song(silence(60)), TrimSettings(mode=mode), keep_s=30) == Trimmed(0.0, 60.0, "none")
        assert trim(song(silence(0)), TrimSettings(mode=mode), keep_s=30) == Trimmed(0.0, 0.0, "none")
    hiss = np.full(60 * RATE_HZ, 1e-3, np.float32)                  # −60 dB throughout
    assert trim(hiss, TrimSettings(mode="silence"), keep_s=30) == Trimmed(0.0, 60.0, "silence")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), seconds=st.floats(0.05, 40), keep_s=st.floats(0.5, 30),
       mode=st.sampled_from(["none", "fixed", "silence", "structure"]), max_s=st.floats(0, 50),
       fades=st.tuples(*[st.none() | st.floats(-10, 60)] * 2))
def test_any_noise_keeps_a_part_of_itself(seed: int, seconds: float, keep_s: float, mode: str, max_s: float,
                                          fades: tuple[float | None, float | None]) -> None:
    rng = np.random.default_rng(seed)
    n = max(round(seconds * RATE_HZ), 1)
    gains = 10 ** (rng.uniform(-100, 0, 12) / 20) * rng.integers(0, 2, 12)      # pieces of any level, or none
    x = (rng.uniform(-1, 1, n) * np.repeat(gains, n // 12 + 1)[:n]).astype(np.float32)
    config = TrimSettings.model_validate({"mode": mode, "max_s": max_s, "intro_s": 9, "outro_s": 9})
    body = trim(x, config, keep_s=keep_s, fade_in_end_s=fades[0], fade_out_start_s=fades[1])
    duration_s = n / RATE_HZ
    assert 0 <= body.start_s < body.end_s <= duration_s
    assert body.end_s - body.start_s >= min(keep_s, duration_s) - 1e-6
    assert max(body.start_s, duration_s - body.end_s) <= max_s + 1e-6


def test_it_is_quick() -> None:
    x = song(pad_chord(8, 0.15), band(112))
    trim(x, TrimSettings(), keep_s=30)                       # compiles librosa's functions
    start = time.process_time()
    trim(x, TrimSettings(), keep_s=30)
    assert time.process_time() - start < 1.0         # 0.07 s where nothing else runs


def test_pydub_does_not_ask_for_ffmpeg() -> None:
    code = ("import numpy as np; from simsong.audio.trim import trim\n"
            "from simsong.config import TrimSettings\n"
            "trim(np.ones(32000, np.float32), TrimSettings(mode='silence'), keep_s=1)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"PATH": ""}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
