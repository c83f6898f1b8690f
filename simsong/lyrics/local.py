"""Lyrics that lie with the music: a `.lrc` or `.txt` file beside it, else the file's own tags."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen

from simsong.errors import LyricsJunk
from simsong.lyrics.clean import Lyrics, clean, is_instrumental, junk_reason, language

SIDECARS = (".lrc", ".txt", ".LRC", ".TXT")
MAX_BYTES = 1_000_000

# Keys as ID3 (USLT), MP4, Vorbis comments, APE and ASF spell them, letters only.
_TAGS = {"LYR", "LYRICS", "UNSYNCEDLYRICS", "UNSYNCHRONISEDLYRICS", "UNSYNCHRONIZEDLYRICS", "WMLYRICS",
         "TXXXLYRICS", "TXXXUNSYNCEDLYRICS"}


def local_lyrics(audio: Path) -> Lyrics | None:
    """The lyrics beside an audio file or in its tags, cleaned; None where there are none.

    The audio need not be readable, nor be there. Raises LyricsJunk where all that stands in their place is no
    lyrics.
    """
    junk: list[str] = []
    for origin, text in _candidates(audio):
        if text is None:
            junk.append(f"{origin}: over {MAX_BYTES} bytes")
        elif is_instrumental(text):
            return Lyrics("instrumental", None, None, None, None)
        elif cleaned := clean(text):
            if (reason := junk_reason(cleaned)) is None:
                return Lyrics("text", cleaned, None, None, language(cleaned))
            junk.append(f"{origin}: {reason}")
    if junk:
        raise LyricsJunk(audio.name, "; ".join(junk))
    return None


def _candidates(audio: Path) -> Iterator[tuple[str, str | None]]:
    """What may be lyrics, best first, with where it stands; the text is None where it is too large."""
    for suffix in SIDECARS:
        path = audio.with_suffix(suffix)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError:                             # not there, or not for us to read
            continue
        yield path.name, decode(data) if len(data) <= MAX_BYTES else None
    for text in sorted(_tagged(audio), key=len, reverse=True):
        yield "its tags", text if len(text) <= MAX_BYTES else None


def decode(data: bytes) -> str:
    """Text whose encoding nobody wrote down: by its byte order mark, else UTF-8, UTF-16 or Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):    # no mark, but zeros
        if (half := data[first:1000:2]) and half.count(0) > len(half) / 2:
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:                      # five bytes mean nothing there
        return data.decode("latin-1")


def _tagged(audio: Path) -> list[str]:
    try:
        tags = getattr(mutagen.File(audio), "tags", None)   # pyright: ignore[reportPrivateImportUsage]
        items = list((tags or {}).items())
    except Exception:       # damaged files raise anything here; it is the audio stage that reports on them
        return []
    texts: list[str] = []
    for key, value in items:
        name = "".join(c for c in str(key) if c.isascii() and c.isalpha()).upper()
        if name in _TAGS or str(key).startswith("USLT"):
            texts += _strings(value)
    return [text for text in texts if text.strip()]


def _strings(value: Any) -> list[str]:
    """The strings of a tag's value: an ID3 frame's text, a list, an APE or ASF value."""
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    inner = getattr(value, "text", getattr(value, "value", value))
    return _strings(inner) if isinstance(inner, list) else [inner] if isinstance(inner, str) else [str(inner)]
