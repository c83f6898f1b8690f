"""What decoded audio is, here and everywhere above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000

Samples: TypeAlias = NDArray[np.float32]        # (n,) mono, in [-1, 1]


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds, found by decoding it."""

    codec: str           # FFmpeg's name: "mp3", "vorbis", "flac", …
    duration_s: float
    bytes: int
    sha256: str
    clipped: float       # share of the values at full scale, before any change of rate: 0..1
