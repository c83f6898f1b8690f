"""Short pieces of songs, small enough to lie in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from simsong.audio.samples import RATE_HZ, Samples
from simsong.audio.segments import decode_segment

LONGEST_S, SHORTEST_S = 9.0, 4.0
BIT_RATE = 40_000
BUDGET = 4_500_000              # characters of the page, for all clips together
FADE_S = 0.05                   # at either end: a cut through a sound clicks
# Every browser plays MP3; Safari plays Opus in Ogg from 18.4 (2025) on.
FORMATS = (("libmp3lame", "mp3", "audio/mpeg"), ("libopus", "ogg", "audio/ogg"))


@dataclass(frozen=True)
class Clip:
    mime: str
    audio: bytes

    @property
    def uri(self) -> str:
        return f"data:{self.mime};base64,{base64.b64encode(self.audio).decode()}"


def encode_clips(segments: Iterable[tuple[str, bytes]], uses: Mapping[str, int],
                 budget: int = BUDGET) -> dict[str, Clip]:
    """track_id → the middle of its segment, all of one length that fits the budget; where even the shortest
    would not, the first songs alone.

    Args:
        segments: (track_id, FLAC of a segment); uses: how often each song stands in the page.
    Raises: AudioUndecodable.
    """
    seconds = clip_length_s(sum(uses.values()), budget)
    out: dict[str, Clip] = {}
    for track_id, flac in segments:
        clip = encode(middle(decode_segment(flac), seconds))
        if clip is None:
            break
        budget -= len(clip.uri) * uses[track_id]
        if budget < 0:
            break
        out[track_id] = clip
    return out


def clip_length_s(clips: int, budget: int) -> float:
    """Seconds that each clip may last, as text in the page: 4 characters for 3 bytes, and 5 % of framing."""
    return min(LONGEST_S, max(SHORTEST_S, budget / (max(clips, 1) * BIT_RATE / 8 * 4 / 3 * 1.05)))


def middle(samples: Samples, seconds: float) -> Samples:
    """(at most seconds · 16 kHz,) from the middle of (n,), faded in and out."""
    length = min(len(samples), round(seconds * RATE_HZ))
    first = (len(samples) - length) // 2
    piece = samples[first:first + length].copy()
    ramp = np.linspace(0, 1, min(round(FADE_S * RATE_HZ), length // 2), dtype=np.float32)
    piece[:len(ramp)] *= ramp
    piece[length - len(ramp):] *= ramp[::-1]
    return piece


def encode(samples: Samples) -> Clip | None:
    """(n,) float32 in [-1, 1] at 16 kHz as MP3, else as Opus, whichever this build of FFmpeg writes; None
    where it writes neither."""
    for codec, container, mime in FORMATS:
        if codec in av.codecs_available:
            return Clip(mime, _written(samples, codec, container))
    return None


def _written(samples: Samples, codec: str, container: str) -> bytes:
    pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = cast(AudioStream, out.add_stream(codec, rate=RATE_HZ, layout="mono"))
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return buffer.getvalue()
