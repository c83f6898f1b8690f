"""Decoded sound that several stages of a run need: decoded once, kept on local disk, read from there.

A sound is 4 bytes a sample, 15 MB for 4 minutes, so a shard does not fit into memory. Each lies in a file
without a name, which ends with this process however that ends. So nothing is left behind, and no sound of
another run, version or program is ever read. What is not kept is decoded again.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from simsong.audio.samples import Samples

MOST_BYTES = 4 << 30    # of all sounds: two shards of 128 songs of 4 minutes
MOST_FILES = 512        # open at a time; at most a quarter of those that the system lets a process open
DISK_SHARE = 0.25       # of what would be free without the sounds: they take no more of it


@dataclass(frozen=True)
class _Kept:
    file: BinaryIO          # closed when the last reader lets go of it
    samples: int
    crc32: int              # a disk may fail to write after the file was written
    group: int
    readers: set[str]       # those that have not read it yet


class SharedSounds:
    """Sounds by key. Threads may share it.

    Where a further sound would exceed a bound, it is not kept: each that is there is waited for, and the
    readers come in the order of the writers, so that to replace the oldest would lose nearly all.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._most_files = min(MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._lock = threading.Lock()
        self._kept: dict[object, _Kept] = {}

    def keep(self, key: object, samples: Samples, readers: Iterable[str], group: int, folder: Path,
             least_free_bytes: int = 0) -> bool:
        """Keep (n,) float32 until each reader has taken it or is done with its group. Returns whether it is.

        Args: folder: on the disk to use, of which at least `least_free_bytes` must stay free.
        """
        with self._lock:
            if (there := self._kept.get(key)) is not None:
                there.readers.update(readers)
                return True
            total = self.bytes + samples.nbytes
            if total > self.most_bytes or len(self._kept) >= self._most_files:
                return False
            self.bytes = total          # before it is written, as others may be writing too
        try:
            free = shutil.disk_usage(folder).free
            if total > DISK_SHARE * (free + self.bytes) or free - samples.nbytes < least_free_bytes:
                raise OSError("the disk is too full")
            file = cast("BinaryIO", tempfile.TemporaryFile(dir=folder, buffering=0))    # noqa: SIM115
            _write(file, samples)
        except OSError:
            with self._lock:
                self.bytes -= samples.nbytes
            return False
        with self._lock:
            if key in self._kept:
                self.bytes -= samples.nbytes
            else:
                self._kept[key] = _Kept(file, len(samples), _crc32(samples), group, set(readers))
        return True

    def take(self, key: object, reader: str) -> Samples | None:
        """A sound, (n,) float32 as it was kept; None where it is not. Each reader takes it once."""
        with self._lock:
            sound = self._kept.get(key)
            if sound is None or reader not in sound.readers:
                return None
            self._leave(key, sound, reader)
        samples = np.empty(sound.samples, np.float32)
        return samples if _read(sound.file, samples) and _crc32(samples) == sound.crc32 else None

    def done(self, reader: str, group: int) -> None:
        """The reader needs no more sounds of the group, also where it has not taken them."""
        with self._lock:
            for key, sound in list(self._kept.items()):
                if sound.group == group and reader in sound.readers:
                    self._leave(key, sound, reader)

    def clear(self) -> None:
        with self._lock:
            self.bytes -= sum(4 * sound.samples for sound in self._kept.values())
            self._kept.clear()

    def _leave(self, key: object, sound: _Kept, reader: str) -> None:
        sound.readers.discard(reader)
        if not sound.readers:
            del self._kept[key]
            self.bytes -= 4 * sound.samples


def _crc32(samples: Samples) -> int:
    return zlib.crc32(np.ascontiguousarray(samples).data.cast("B"))


def _write(file: BinaryIO, samples: Samples) -> None:
    """Raises: OSError."""
    left = np.ascontiguousarray(samples).data.cast("B")
    while left:
        left = left[os.write(file.fileno(), left):]


def _read(file: BinaryIO, samples: Samples) -> bool:
    """Fill `samples` from the beginning of a file, which other threads may read too. False if it is cut."""
    at, left = 0, samples.data.cast("B")
    try:
        while left:
            if not (n := os.preadv(file.fileno(), [left], at)):
                return False
            at, left = at + n, left[n:]
    except OSError:
        return False
    return True
