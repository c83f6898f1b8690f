"""Lyrics that lie with the music: a `.lrc` or `.txt` file beside it, else the file's own tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from simsong.errors import LyricsJunk
from simsong.files.places import lyrics_beside
from simsong.files.tags import read_tags
from simsong.lyrics.clean import Lyrics, clean, is_instrumental, junk_reason, language
from simsong.lyrics.encoding import decode

MAX_BYTES = 1_000_000


def local_lyrics(audio: Path) -> Lyrics | None:
    """The lyrics beside an audio file or in its tags, cleaned; None where there are none.

    The audio need not be readable, nor be there. Raises LyricsJunk where all that stands in their place is no
    lyrics.
    """
    junk: list[str] = []
    for origin, text in _candidates(audio):
        if text is None:
            junk.append(f"{origin}: over {MAX_BYTES} bytes")
            continue
        try:
            plain = text if isinstance(text, str) else decode(text)
        except UnicodeError as error:
            junk.append(f"{origin}: {error}")
            continue
        if is_instrumental(plain):
            return Lyrics("instrumental", None, None, None, None)
        if cleaned := clean(plain):
            if (reason := junk_reason(cleaned)) is None:
                return Lyrics("text", cleaned, None, None, language(cleaned))
            junk.append(f"{origin}: {reason}")
    if junk:
        raise LyricsJunk(audio.name, "; ".join(junk))
    return None


def _candidates(audio: Path) -> Iterator[tuple[str, str | bytes | None]]:
    """What may be lyrics, best first, with where it stands; the text is None where it is too large."""
    for path in lyrics_beside(str(audio)):
        try:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError:                             # gone, or not for us to read
            continue
        yield Path(path).name, data if len(data) <= MAX_BYTES else None
    for text in sorted(read_tags(audio).lyrics, key=len, reverse=True):
        yield "its tags", text if len(text) <= MAX_BYTES else None
