"""The identity of a file's sound: of what is encoded, whatever the file is called and its tags say."""

from __future__ import annotations

import hashlib
from pathlib import Path

from simsong.files.containers import Reader, sound_ranges


def is_sound(fingerprint: str | None) -> bool:
    """Whether it is one of these digests: stores of before have a file's size and time in their place."""
    return fingerprint is not None and len(fingerprint) == 64


def sound_digest(path: str | Path) -> str:
    """SHA-256 in hex of the encoded sound; of the whole file, where its layout is not known.

    Reads the file once and decodes nothing. Another encoding of the same music is another sound.
    Raises: OSError.
    """
    with Path(path).open("rb", buffering=0) as file:
        reader, sha, length = Reader(file), hashlib.sha256(), 0     # pyright: ignore[reportArgumentType]
        for start, end in sound_ranges(reader):
            for block in reader.blocks(start, end):
                sha.update(block)
                length += len(block)
        if not length:
            sha = hashlib.sha256()
            for block in reader.blocks(0, reader.size):
                sha.update(block)
    return sha.hexdigest()
