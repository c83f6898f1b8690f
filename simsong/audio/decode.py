"""Any audio file to 16 kHz mono samples, whatever is in it: within 40 s and 500 MB there are samples or
a typed reason.

Decoding itself (`simsong.audio.decoders`) runs in processes of its own, kept for the next file (see
`simsong.audio.guard`).
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import numpy as np

from simsong.audio.guard import Guard
from simsong.audio.samples import AudioInfo, Samples

DC = 1e-3            # a mean beyond this is an offset of the recording gear; that of music is far below


def decode(path: Path, max_duration_s: float = 1200.0) -> Samples:
    """The file's sound: (n,) float32 in [-1, 1], mono (mean of the channels), 16 kHz, without DC offset.

    Damage inside a file costs the packets that it hits, as long as the decoder refuses less than half of the
    bytes. Values that are not finite become 0, as long as most are finite.
    Raises: FileMissing; AudioUndecodable, also where the decoder crashes or takes too much memory;
        AudioTooLong past `max_duration_s`, where decoding stops; AudioTimeout and AudioInterrupted, which
        another time may mend.
    """
    return decode_with_info(path, max_duration_s)[1]


def decode_with_info(path: Path, max_duration_s: float = 1200.0) -> tuple[AudioInfo, Samples]:
    """What `probe` and `decode` return, decoded once. Raises: as `decode`."""
    info, samples = _workers.decode_with_info(path, max_duration_s)
    return info, centred(samples)


def probe(path: Path, max_duration_s: float = 1200.0) -> AudioInfo:
    """Codec, duration and digest of a file. It is decoded whole: what `probe` accepts, `decode` decodes.

    Raises: as `decode`.
    """
    return _workers.probe(path, max_duration_s)


def files_decoded() -> int:
    """How many files this process has had decoded, or tried to."""
    return _workers.jobs


def centred(samples: Samples) -> Samples:
    """The samples without their DC offset: as they are where there is none, else changed in place."""
    offset = float(samples.mean(dtype=np.float64))
    if abs(offset) <= DC:
        return samples
    samples -= np.float32(offset)
    return samples.clip(-1, 1, out=samples)


# This process's workers, shared by its threads; none is started before it is needed. A forked process has its
# own, since two could not read one pipe.
_workers = Guard()


def _have_own_workers() -> None:
    global _workers
    _workers = Guard()


os.register_at_fork(after_in_child=_have_own_workers)
atexit.register(lambda: _workers.close())
