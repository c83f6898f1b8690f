"""Where local files lie, and what lies beside them."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote_to_bytes, urlsplit

AUDIO_SUFFIXES = frozenset((
    ".aac", ".ac3", ".aif", ".aiff", ".ape", ".caf", ".dff", ".dsf", ".flac", ".m4a", ".m4b", ".mka", ".mp2",
    ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".spx", ".tak", ".tta", ".wav", ".webm", ".wma", ".wv"))
LYRICS_SUFFIXES = (".lrc", ".txt", ".LRC", ".TXT")


def local_path(url: str | None) -> str | None:
    """The path that a file:// URL means; None for other URLs."""
    if url is None or not url.lower().startswith("file:"):
        return None
    return os.fsdecode(unquote_to_bytes(urlsplit(url).path))        # the name need be no Unicode


def lyrics_beside(audio: str) -> list[str]:
    """Lyrics files that are there for an audio file, the one to believe first. Their names may be composed
    otherwise than its own (NFC, NFD), unless that is how the name of another audio file is composed."""
    stem, suffix = os.path.splitext(audio)                                     # noqa: PTH122
    folder, name = os.path.split(stem)
    stems = [stem]
    if not name.isascii():
        for form in ("NFC", "NFD"):
            other = os.path.join(folder, unicodedata.normalize(form, name))    # noqa: PTH118
            if other not in stems and not os.path.exists(other + suffix):      # noqa: PTH110
                stems.append(other)
    candidates = [stem + kind for stem in stems for kind in LYRICS_SUFFIXES]
    return [path for path in candidates if os.path.isfile(path)]                    # noqa: PTH113
