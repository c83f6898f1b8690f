"""Decoding, trimming and segmenting songs against a librosa and pydub loop that does the same:
`python -m benchmarks.audio.segments [--songs 12] [MUSIC]`.

The loop is what one would write: `librosa.load` at 16 kHz; for "silence" pydub on both ends, for "structure"
librosa's features, each from the samples, and our own rule on them; pyloudnorm; soundfile, a file a window.
What counts is processor time, that of the process in which ours decodes with it (Linux tells it). Songs come
from MUSIC, a folder of audio files (by default the real ones beside the checkout), or are made where there is
none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import pyloudnorm
import soundfile as sf
from pydub import AudioSegment
from pydub.silence import detect_leading_silence

from simsong.audio import trim as rule
from simsong.audio.decode import centred
from simsong.audio.guard import Guard, Limits
from simsong.audio.samples import RATE_HZ
from simsong.audio.segments import cut
from simsong.config import SegmentsSettings, TrimSettings

MUSIC = Path(__file__).parents[2].parent / "shared" / "data" / "music"
ROUNDS = 5
LEAST = 1.5
LENGTH = 30 * RATE_HZ
PATIENT = Limits(wall_s=600, cpu_s=60)      # on a busy machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audio.segments", description=__doc__)
    parser.add_argument("music", nargs="?", type=Path, default=MUSIC, metavar="MUSIC")
    parser.add_argument("--songs", type=int, default=12)
    args = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory() as temporary, Guard(1, PATIENT) as guard:
        folder = Path(temporary)
        songs = sorted(path for path in args.music.rglob("*") if path.suffix in (".mp3", ".ogg", ".flac"))
        if not songs:
            print(f"{args.music}: no songs; three are made of noise, as FLAC")
            songs = [noise_song(folder / f"song {seed}.flac", seed) for seed in range(3)]
        songs = songs[::max(1, len(songs) // args.songs)][:args.songs]
        minutes = sum(sf.info(song).duration for song in songs) / 60
        for mode in (TrimSettings(mode="silence"), TrimSettings(mode="structure")):
            theirs = own = 0.0
            for song in songs:
                a, b = fastest(guard, partial(loop, song, mode, folder),
                               partial(ours, song, mode, folder, guard))
                theirs, own = theirs + a, own + b
            print(f"decode, trim ({mode.mode}), segment; {len(songs)} songs, {minutes:.0f} min: librosa and "
                  f"pydub / ours = {theirs / own:.2f} times ({theirs / minutes * 1e3:.0f} ms / "
                  f"{own / minutes * 1e3:.0f} ms a minute of sound)")
            slow |= theirs / own < LEAST
    if slow:
        sys.exit(f"that is less than {LEAST:g} times")


def fastest(guard: Guard, *ways: Callable[[], int]) -> list[float]:
    """Processor seconds of each way, by the fastest of some rounds, in which they take turns."""
    assert len({way() for way in ways}) == 1            # as many segments
    best = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for i, way in enumerate(ways):
            before = used_s(guard)
            way()
            best[i] = min(best[i], used_s(guard) - before)
    return best


def used_s(guard: Guard) -> float:
    """Processor seconds of this process and of the one that decodes."""
    clocks = [(~pid << 3) | 2 for pid in guard.pids]    # as clock_getcpuclockid(3) makes them
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def ours(song: Path, mode: TrimSettings, folder: Path, guard: Guard) -> int:
    samples = centred(guard.decode(song, 1200))
    body = rule.trim(samples, mode, keep_s=30)
    windows = cut(samples, body.start_s, body.end_s, SegmentsSettings(), subject=song.name)
    for segment in windows:
        (folder / f"{segment.segment}.flac").write_bytes(segment.audio)
    return len(windows)


def loop(song: Path, mode: TrimSettings, folder: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, _ = librosa.load(song, sr=RATE_HZ)
    first, last = (silences if mode.mode == "silence" else structure)(y, mode)
    body = y[first:last]
    gain = 10 ** ((-23 - pyloudnorm.Meter(RATE_HZ).integrated_loudness(body)) / 20)
    number = 0
    for start in range(0, len(body) - LENGTH + 1, LENGTH):
        window = body[start:start + LENGTH]
        if 20 * np.log10(np.sqrt(np.mean(window ** 2)) + 1e-10) < -60:
            continue
        sf.write(folder / f"{number}.flac", (gain * window).clip(-1, 1), RATE_HZ, subtype="PCM_16")
        number += 1
    return number


def silences(y: np.ndarray, mode: TrimSettings) -> tuple[int, int]:
    pcm = (y * 32767).astype(np.int16)
    sound = AudioSegment(pcm.tobytes(), sample_width=2, frame_rate=RATE_HZ, channels=1)
    intro_ms = detect_leading_silence(sound, mode.silence_db)
    outro_ms = detect_leading_silence(sound.reverse(), mode.silence_db)
    limit = int(mode.max_s * 1000)
    return min(intro_ms, limit) * 16, len(y) - min(outro_ms, limit) * 16


def structure(y: np.ndarray, mode: TrimSettings) -> tuple[int, int]:
    n_fft, hop, mels = rule.WINDOW, rule.HOP, rule.MELS
    frames = np.vstack([
        librosa.feature.rms(y=y, frame_length=n_fft, hop_length=hop) ** 2,
        librosa.onset.onset_strength(y=y, sr=RATE_HZ, n_fft=n_fft, hop_length=hop, n_mels=mels),
        librosa.feature.mfcc(y=y, sr=RATE_HZ, n_mfcc=14, n_fft=n_fft, hop_length=hop, n_mels=mels)[1:],
        librosa.feature.chroma_stft(y=y, sr=RATE_HZ, n_fft=n_fft, hop_length=hop),
    ])
    intro_s, outro_s = rule.outside_body(rule.BlockFeatures.of(frames), len(y) / RATE_HZ, mode.max_s)
    return round(intro_s * RATE_HZ), len(y) - round(outro_s * RATE_HZ)


def noise_song(path: Path, seed: int) -> Path:
    """Three minutes of stereo noise at 44.1 kHz that swells and fades."""
    rng = np.random.default_rng(seed)
    level = 0.1 * np.sin(np.linspace(0, np.pi, 180 * 44_100)) ** 0.5
    sf.write(path, rng.normal(size=(len(level), 2)) * level[:, None], 44_100)
    return path


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
