"""A song cut into windows of equal length, kept as FLAC: lossless, and about half the size of PCM."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile as sf

from simsong.audio.loudness import gain_to
from simsong.audio.samples import RATE_HZ, Samples
from simsong.config import SegmentsSettings
from simsong.errors import AudioSilent, AudioTooShort, AudioUndecodable

INT16 = 2**15
LEAST_S = 1.0        # of the shortest song that is kept, where a window is not shorter still
SLACK_S = 0.001      # a window is not lost to rounding: tables keep times as float32, 0.06 ms at 1,000 s


@dataclass(frozen=True)
class Segment:
    """A window of a song."""

    segment: int         # 0, 1, … in song order, of those kept
    start_s: float       # in the untrimmed song
    end_s: float         # less than a window's length after start_s where it is repeated to fill one
    audio: bytes         # 16 kHz mono 16-bit FLAC


def cut(samples: Samples, start_s: float, end_s: float, config: SegmentsSettings, *,
        subject: str = "song") -> list[Segment]:
    """Windows of `length_s` every `hop_s` from `start_s`; a rest shorter than a window is not used.

    Windows with an RMS below `silence_db` (0 dB: a square wave of full scale) are left out; `count` of the
    others are taken, the middle ones of that many equal parts. With `short = "repeat"`, a song shorter than a
    window is one window, which it fills again and again. All of a song get the one gain that brings what is
    between `start_s` and `end_s` to `loudness_lufs`: soft parts stay soft beside loud ones.

    Args:
        samples: (n,) float32 in [-1, 1] at 16 kHz, the untrimmed song.
        subject: what errors call the song.
    Raises: AudioTooShort; AudioSilent if no window is loud enough.
    """
    length, hop, slack = (round(s * RATE_HZ) for s in (config.length_s, config.hop_s, SLACK_S))
    first, last = max(round(start_s * RATE_HZ), 0), min(round(end_s * RATE_HZ), len(samples))
    if (lacking := (length - (last - first)) % hop) <= min(slack, first):    # for one window more
        first -= lacking
    if last - first >= length:
        windows = [(at, at + length) for at in range(first, last - length + 1, hop)]
    elif config.short == "repeat" and last - first >= min(round(LEAST_S * RATE_HZ), length):
        windows = [(first, last)]
    else:
        left_s = max(last - first, 0) / RATE_HZ
        least_s = config.length_s if config.short == "skip" else min(LEAST_S, config.length_s)
        raise AudioTooShort(subject, f"{left_s:.1f} s after trimming, {least_s:g} s needed")

    loud = [(a, b) for a, b in windows if _rms_db(samples[a:b]) >= config.silence_db]
    if not loud:
        raise AudioSilent(subject, f"nothing above {config.silence_db:g} dB in {len(windows)} segments")
    if config.count is not None and config.count < len(loud):
        loud = [loud[int((i + 0.5) * len(loud) / config.count)] for i in range(config.count)]
    gain = 1.0 if config.loudness_lufs == "off" else gain_to(samples[first:last], config.loudness_lufs)
    return [Segment(i, a / RATE_HZ, b / RATE_HZ, _encode(samples[a:b], length, gain))
            for i, (a, b) in enumerate(loud)]


def decode_segment(audio: bytes) -> Samples:
    """A segment's samples: (n,) float32 in [-1, 1) at 16 kHz, those that were cut, times the song's gain,
    rounded to 16 bits.

    Raises: AudioUndecodable.
    """
    try:
        samples, rate_hz = sf.read(io.BytesIO(audio), dtype="int16")
    except sf.SoundFileError as error:
        raise AudioUndecodable("segment", f"not decodable as FLAC ({error})") from None
    if rate_hz != RATE_HZ or samples.ndim != 1:
        raise AudioUndecodable("segment", f"not {RATE_HZ} Hz mono: {rate_hz} Hz, {samples.ndim}-dimensional")
    return np.multiply(samples, 1 / INT16, dtype=np.float32)


def own_samples(start_s: float, end_s: float) -> int:
    """How many samples of a window are the song's own, the rest being repetition."""
    return round((end_s - start_s) * RATE_HZ)


def _rms_db(window: Samples) -> float:
    power = float(np.mean(np.square(window, dtype=np.float64)))
    return 10 * float(np.log10(max(power, 1e-20)))


def _encode(window: Samples, length: int, gain: float) -> bytes:
    """FLAC of the window times `gain`, repeated to `length` samples."""
    pcm = np.rint(window * np.float32(gain * INT16)).clip(-INT16, INT16 - 1).astype(np.int16)
    buffer = io.BytesIO()
    sf.write(buffer, np.resize(pcm, length), RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
