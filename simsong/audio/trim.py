"""Where the body of a song begins and ends: intros, outros and fades cut off."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import librosa
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from simsong.audio.samples import RATE_HZ, Samples
from simsong.config import TrimSettings

with warnings.catch_warnings():        # pydub looks for ffmpeg when it is imported; nothing here needs one
    warnings.simplefilter("ignore")
    from pydub import AudioSegment
    from pydub.silence import detect_leading_silence

Mode: TypeAlias = Literal["none", "fixed", "silence", "structure"]
Floats: TypeAlias = NDArray[np.floating]

# Features every 64 ms, averaged over blocks of 8: structure is a matter of seconds.
WINDOW, HOP, MELS, BLOCK = 2048, 1024, 64, 8
BLOCK_S = BLOCK * HOP / RATE_HZ        # 0.512 s
KERNEL = 16                            # blocks on either side of a boundary that novelty compares
LEAST = 4                              # blocks; no intro or fade is shorter
REACHED_DB, REACHED_ONSET = 3.0, 0.7   # as loud and busy as the body: at most so far below, at least so much
CALM = 0.2                             # quantile of the body's parts that are its calmer ones: quiet verses
UNLIKE = 0.8                           # an intro differs from the body at least so much as its own parts do
MOST = 0.25                            # share of a song that an intro can be
QUIET_DB = 30.0                        # below the body: not yet music
LOUDNESS = 0.6                         # loudness goes with pressure to the 0.6 (Stevens)
SAME_S = 2.0                           # recordings of one length to within this may be the same


@dataclass(frozen=True)
class Trimmed:
    """The part of a song that is kept."""

    start_s: float
    end_s: float
    mode: Mode           # the one used: "none" where the song is too short to be cut, or silent


def trim(samples: Samples, config: TrimSettings, *, keep_s: float, fade_in_end_s: float | None = None,
         fade_out_start_s: float | None = None, catalogue_s: float | None = None) -> Trimmed:
    """Find the body of a song.

    No mode cuts more than `config.max_s` from an end. Where less than `keep_s` would be left, both ends give
    back equal parts; an end that was cut by less gives that back, the other one the rest.

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz.
        keep_s: what must be left (the length of a segment).
        fade_in_end_s, fade_out_start_s: where fades end and begin according to the catalogue (MSD), for
            "structure". One that would cut more than `config.max_s` is of another recording and not used.
        catalogue_s: how long the catalogue says the song is. Where it is not, both fades are of another
            recording.
    """
    duration_s = len(samples) / RATE_HZ
    if config.mode == "none" or duration_s <= keep_s or not samples.any():
        return Trimmed(0.0, duration_s, "none")
    if config.mode == "fixed":
        intro_s, outro_s = config.intro_s, config.outro_s
    elif config.mode == "silence":
        intro_s, outro_s = _silences(samples, config)
    else:
        intro_s, outro_s = outside_body(analyse(samples), duration_s, config.max_s)
        if catalogue_s is None or abs(catalogue_s - duration_s) <= SAME_S:
            if fade_in_end_s is not None and fade_in_end_s <= config.max_s:
                intro_s = max(intro_s, fade_in_end_s)
            if fade_out_start_s is not None and 0 < duration_s - fade_out_start_s <= config.max_s:
                outro_s = max(outro_s, duration_s - fade_out_start_s)
    intro_s, outro_s = min(intro_s, config.max_s), min(outro_s, config.max_s)
    if (missing_s := keep_s - (duration_s - intro_s - outro_s)) > 0:
        back_s = min(intro_s, max(missing_s / 2, missing_s - outro_s))
        intro_s, outro_s = intro_s - back_s, max(outro_s - (missing_s - back_s), 0.0)    # not by rounding
    return Trimmed(intro_s, duration_s - outro_s, config.mode)


def _silences(samples: Samples, config: TrimSettings) -> tuple[float, float]:
    """Seconds of silence at both ends, by pydub; zero where all of it is silence."""
    pcm = np.rint(samples * 2**15).clip(-2**15, 2**15 - 1).astype("<i2")
    edge = round((config.max_s + 1) * RATE_HZ)
    ends = (AudioSegment(data=part.tobytes(), sample_width=2, frame_rate=RATE_HZ, channels=1)
            for part in (pcm[:edge], pcm[::-1][:edge]))
    intro_s, outro_s = (detect_leading_silence(end, config.silence_db) / 1000 for end in ends)
    if intro_s + outro_s >= len(samples) / RATE_HZ:
        return 0.0, 0.0
    return intro_s, outro_s


class BlockFeatures(NamedTuple):
    """What is heard in each block, in order of time or backwards: an outro is the reversed song's intro."""

    rms: Floats          # (blocks,)
    onset: Floats        # (blocks,) onset strength: how busy it is
    sound: Floats        # (blocks, features) level, onset strength, MFCC, chroma; each group of equal weight

    @staticmethod
    def of(frames: Floats) -> BlockFeatures:
        """(27, frames), one every HOP samples: power, onset strength, 13 MFCC, 12 chroma."""
        blocks = frames[:, :frames.shape[1] // BLOCK * BLOCK].reshape(len(frames), -1, BLOCK).mean(axis=2)
        rms, onset = np.sqrt(blocks[0]), blocks[1]
        level_db = _db(rms / max(float(np.median(rms)), 1e-9)).clip(-QUIET_DB)
        groups = [_standardised(group) / np.sqrt(len(group))
                  for group in (level_db[None], onset[None], blocks[2:15], blocks[15:])]
        return BlockFeatures(rms, onset, np.concatenate(groups).T)

    def backwards(self) -> BlockFeatures:
        return BlockFeatures(self.rms[::-1], self.onset[::-1], self.sound[::-1])

    def after(self, blocks: int) -> BlockFeatures:
        return BlockFeatures(self.rms[blocks:], self.onset[blocks:], self.sound[blocks:])


class _Body(NamedTuple):
    """What the middle of a song is like."""

    rms: float           # of most of it
    calm_rms: float      # of its calmer parts, each of KERNEL blocks
    calm_onset: float
    novelty: float       # the strongest within it
    unlevelled: float    # … of all but the level

    @staticmethod
    def of(song: BlockFeatures) -> _Body:
        def calm(values: Floats) -> float:
            parts = sliding_window_view(values, min(KERNEL, len(values))).mean(axis=1)
            return float(np.quantile(parts, CALM))

        return _Body(float(np.median(song.rms)), calm(song.rms ** 2) ** 0.5, calm(song.onset),
                     float(novelty(song.sound).max()), float(novelty(song.sound[:, 1:]).max()))


def outside_body(song: BlockFeatures, duration_s: float, max_s: float) -> tuple[float, float]:
    """Seconds of intro and outro, each up to `max_s`."""
    n = len(song.rms)
    if n < 2 * LEAST:
        return 0.0, 0.0
    limit = int(min(max_s / BLOCK_S, MOST * n))
    body = _Body.of(BlockFeatures(*(values[limit:n - limit] for values in song)))
    if not body.rms:                                     # more silence than music: no body to find
        return 0.0, 0.0
    intro, outro = (_intro(part, body, limit) for part in (song, song.backwards()))
    rest_s = duration_s - n * BLOCK_S                    # less than a block, at the end
    return intro * BLOCK_S, outro * BLOCK_S + rest_s if outro else 0.0


def analyse(samples: Samples) -> BlockFeatures:
    """What is heard in each whole block of BLOCK_S: (n,) float32 at 16 kHz, at least a window of them."""
    power = np.square(np.abs(librosa.stft(samples, n_fft=WINDOW, hop_length=HOP)))
    mel_db = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE_HZ, n_mels=MELS))
    return BlockFeatures.of(np.vstack([
        power.sum(axis=0),
        librosa.onset.onset_strength(S=mel_db, sr=RATE_HZ, n_fft=WINDOW, hop_length=HOP),
        librosa.feature.mfcc(S=mel_db, n_mfcc=14)[1:],
        librosa.feature.chroma_stft(S=power, sr=RATE_HZ, tuning=0.0),
    ]))


def novelty(sound: Floats) -> Floats:
    """How much changes at the start of each block: (blocks, features) → (blocks,), 0 at the first.

    The distance between the means of the KERNEL blocks before and after (after Foote 2000), weighted as in a
    t-test where there are fewer.
    """
    sums = np.concatenate([np.zeros((1, sound.shape[1])), np.cumsum(sound, axis=0, dtype=np.float64)])
    at = np.arange(1, len(sound))
    first, last = np.maximum(at - KERNEL, 0), np.minimum(at + KERNEL, len(sound))
    before, after = at - first, last - at
    change = (sums[last] - sums[at]) / after[:, None] - (sums[at] - sums[first]) / before[:, None]
    weight = np.sqrt(before * after / (before + after))
    return np.concatenate([[0.0], np.linalg.norm(change, axis=1) * weight])


def _intro(song: BlockFeatures, body: _Body, limit: int) -> int:
    """Blocks before the body: what is quiet, then a fade-in or a part unlike the body, the longer one."""
    loud = song.rms > body.rms * 10 ** (-QUIET_DB / 20)
    quiet = int(loud.argmax())
    rest, limit = song.after(quiet), limit - quiet
    fade, boundary = _fade(rest.rms, body.rms, limit), _boundary(rest, body, limit)
    if 0 < boundary < fade and _interrupts(rest, body, boundary, fade):
        return quiet + boundary                          # an intro fades in, the body after it does not
    return quiet + max(fade, boundary)


def _boundary(song: BlockFeatures, body: _Body, limit: int) -> int:
    """The strongest change within `limit` blocks that leads from less than the body to the body's level."""
    def full(part: slice) -> bool:
        return bool(np.mean(song.rms[part] ** 2) >= body.calm_rms ** 2 * 10 ** (-REACHED_DB / 10)
                    and song.onset[part].mean() >= REACHED_ONSET * body.calm_onset)

    boundary, strongest, strengths = 0, UNLIKE * body.novelty, novelty(song.sound)
    for at in range(LEAST, min(limit, len(song.rms) - KERNEL) + 1):
        if strengths[at] > strongest and full(slice(at, at + KERNEL)) and not full(slice(0, at)):
            boundary, strongest = at, float(strengths[at])
    return boundary


def _interrupts(song: BlockFeatures, body: _Body, at: int, end: int) -> bool:
    """Whether a boundary is none of a fade-in that ends at `end`: loudness rises there by more than the ramp
    does, and what else is heard, which a fade leaves alone, changes more than anywhere in the body."""
    loudness = song.rms ** LOUDNESS
    ramp = loudness[end:end + KERNEL].mean() * LEAST / end
    rise = loudness[at:at + LEAST].mean() - loudness[at - LEAST:at].mean()
    return bool(rise > ramp and novelty(song.sound[:, 1:])[at] > body.unlevelled)


def _fade(rms: Floats, body_rms: float, limit: int) -> int:
    """Blocks until a fade-in is over, 0 where there is none.

    There is one if a ramp up to a level fits the loudness better than a step, and starts below half of it.
    """
    if len(rms) < 2 * LEAST:
        return 0
    loudness = (rms[:min(2 * limit, len(rms) * 2 // 3)] / body_rms) ** LOUDNESS
    t = np.arange(len(loudness))
    ends = range(LEAST, min(limit, len(loudness) - LEAST) + 1)
    ramps = [_fit(loudness, np.minimum(t / at, 1.0)) for at in ends]
    steps = [_fit(loudness, (t >= at).astype(float)) for at in range(1, len(loudness))]
    if not ramps:
        return 0
    best = min(range(len(ramps)), key=lambda i: ramps[i].misfit)
    if ramps[best].misfit >= min(step.misfit for step in steps) or ramps[best].start >= ramps[best].level / 2:
        return 0
    return ends[best]


class _Fit(NamedTuple):
    misfit: float        # sum of squares left
    start: float         # where x is 0
    level: float         # where x is 1


def _fit(y: Floats, x: Floats) -> _Fit:
    """Regression of y on x, which goes from 0 to 1."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy) / max(float(dx @ dx), 1e-12)
    start = float(y.mean() - slope * x.mean())
    return _Fit(float(np.sum((dy - slope * dx) ** 2)), start, start + slope)


def _db(amplitude: Floats) -> Floats:
    return 20 * np.log10(np.maximum(amplitude, 1e-9))


def _standardised(rows: Floats) -> Floats:
    return (rows - rows.mean(axis=1, keepdims=True)) / np.maximum(rows.std(axis=1, keepdims=True), 1e-9)
