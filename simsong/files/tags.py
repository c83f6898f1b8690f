"""What audio files say of themselves in tags: mutagen's, and those of containers that it does not read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutagen
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3

from simsong.files.containers import EBML, Reader, chunks, elements, untagged

Text = str | bytes          # bytes: in an encoding that nobody wrote down
Tag = tuple[str, list[Text]]

# Names of tags, their letters and digits alone in upper case, the one to believe first: Vorbis comments and
# APE (TITLE), ID3 (TIT2), MP4 (NAM), ASF (WMALBUMTITLE), RIFF (INAM), AIFF (AUTH).
NAMES: Mapping[str, tuple[str, ...]] = {
    "artist": ("ARTIST", "TPE1", "ART", "AUTHOR", "IART", "AUTH", "ARTISTS", "PERFORMER"),
    "album_artist": ("ALBUMARTIST", "TPE2", "AART", "WMALBUMARTIST", "ENSEMBLE"),
    "title": ("TITLE", "TIT2", "NAM", "INAM", "NAME"),
    "release": ("ALBUM", "TALB", "ALB", "WMALBUMTITLE", "IPRD"),
    "genre": ("GENRE", "TCON", "GEN", "WMGENRE", "IGNR"),
    "year": ("DATE", "YEAR", "TDRC", "TYER", "DAY", "WMYEAR", "DATERELEASED", "ICRD"),
}
_LYRICS = {"LYR", "LYRICS", "UNSYNCEDLYRICS", "UNSYNCHRONISEDLYRICS", "UNSYNCHRONIZEDLYRICS", "WMLYRICS",
           "SYNCEDLYRICS", "SYNCHRONISEDLYRICS", "SYNCHRONIZEDLYRICS", "LYRICSSYNCED"}
_PREFIXES = ("TXXX", "COMAPPLEITUNES")
_LATIN_1 = 0                # ID3's number for it, which is also said of whatever else
_LONGEST = 1 << 20          # bytes of one tag: more is a picture


@dataclass(frozen=True)
class Tags:
    values: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])  # by the names of NAMES
    lyrics: tuple[Text, ...] = ()
    duration_s: float | None = None


def read_tags(path: str | Path) -> Tags:
    """All that a file says. Unreadable tags are empty ones: the audio stage is to judge the file."""
    tags: list[Tag] = []
    duration_s: float | None = None
    for reader in (_by_mutagen, _by_layout, _around):
        if tags and reader is _around:
            continue
        try:
            own_tags, length_s = reader(path)
        except Exception:       # damaged files raise all sorts of things in mutagen, not only MutagenError
            continue
        tags += own_tags
        duration_s = duration_s or length_s
    by_name: dict[str, list[str]] = {}
    for name, texts in tags:
        plain = [text if isinstance(text, str) else _decoded(text) for text in texts]
        if any(text.strip() for text in plain):
            by_name.setdefault(name, plain)
    values = {field: next((by_name[name] for name in names if name in by_name), [])
              for field, names in NAMES.items()}
    lyrics = (text for name, texts in tags if _is_lyrics(name) for text in texts)
    return Tags(values, tuple(text for text in lyrics if text.strip()), duration_s)


def _is_lyrics(name: str) -> bool:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name in _LYRICS or name.startswith(("USLT", "SYLT")) or (
        name.startswith("LYRICS") and len(name) == len("LYRICSENG"))


def _name(key: object) -> str:
    return "".join(c for c in str(key) if c.isascii() and c.isalnum()).upper()


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _by_mutagen(path: str | Path) -> tuple[list[Tag], float | None]:
    file = mutagen.File(path)               # pyright: ignore[reportPrivateImportUsage]
    if file is None:
        return [], None
    return list(_items(file.tags)), getattr(file.info, "length", None)


def _around(path: str | Path) -> tuple[list[Tag], float | None]:
    """ID3 and APE tags around sound of a kind that mutagen expects none at."""
    tags: list[Tag] = []
    for kind in (ID3, APEv2):
        try:
            tags += _items(kind(path))
        except Exception:
            continue
    return tags, None


def _items(tags: Any) -> Iterator[Tag]:
    for key, value in (tags or {}).items():
        texts = list(_strings(value))
        # Latin-1 is what ID3 calls any text of one byte a letter.
        if getattr(value, "encoding", None) == _LATIN_1:
            yield _name(key), [text if text.isascii() else text.encode("latin-1", "replace")
                               for text in texts if isinstance(text, str)]
        else:
            yield _name(key), texts


def _strings(value: Any) -> Iterator[Text]:
    """The texts of a tag's value: an ID3 frame, a list, an APE or ASF value."""
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)
        return
    if genres := getattr(value, "genres", None):
        yield from genres
        return
    inner = getattr(value, "text", getattr(value, "value", value))
    if isinstance(inner, list) and all(isinstance(item, tuple) for item in inner):
        yield _synchronised(inner)
    elif isinstance(inner, list):
        yield from _strings(inner)
    elif isinstance(inner, bytes):              # an MP4 tag of a name of its own
        yield from [inner.decode("utf-8", "replace")] if len(inner) <= _LONGEST else ()
    elif isinstance(inner, str):
        yield from (part for part in inner.split("\0") if part)
    elif inner is not None:
        yield str(inner)


def _synchronised(words: Iterable[tuple[str, int]]) -> str:
    """SYLT's texts, each with its time: lines, or syllables of which those that begin a line say so."""
    texts = [text for text, _ in words]
    return "".join(texts) if any("\n" in text for text in texts) else "\n".join(texts)


def _by_layout(path: str | Path) -> tuple[list[Tag], float | None]:
    with Path(path).open("rb", buffering=0) as file:
        reader = Reader(file)                   # pyright: ignore[reportArgumentType]
        start, end = untagged(reader)
        head = reader.at(start, 12)
        if head.startswith(EBML):
            return _matroska(reader, start, end)
        if head[:4] in (b"RIFF", b"RF64"):
            return list(_riff(reader, start, end)), None
        if head[:4] == b"FORM":
            texts: list[Tag] = [(name.decode(), [_content(reader, a, b)])
                                for name, a, b in chunks(reader, start, end) if name in (b"NAME", b"AUTH")]
            return texts, None
        if head[:4] == b"caff":
            return list(_caf(reader, start, end)), None
    return [], None


def _content(reader: Reader, start: int, end: int) -> bytes:
    return reader.at(start, min(end - start, _LONGEST)).split(b"\0")[0].strip()


def _riff(reader: Reader, start: int, end: int) -> Iterator[Tag]:
    for name, a, b in chunks(reader, start, end):
        if name == b"LIST" and reader.at(a, 4) == b"INFO":
            at = a + 4
            while at + 8 <= b:
                key, size = struct.unpack("<4sI", reader.at(at, 8))
                yield _name(key.decode("latin-1")), [_content(reader, at + 8, min(at + 8 + size, b))]
                at += 8 + size + size % 2


def _caf(reader: Reader, start: int, end: int) -> Iterator[Tag]:
    for name, a, b in chunks(reader, start, end):
        if name == b"info":
            texts = reader.at(a + 4, min(b - a - 4, _LONGEST)).split(b"\0")
            for key, value in zip(texts[::2], texts[1::2], strict=False):
                yield _name(key.decode("latin-1")), [value]


_TAG, _TARGETS, _TARGET, _SIMPLE, _TAG_NAME, _TAG_TEXT = (
    b"\x73\x73", b"\x63\xc0", b"\x68\xca", b"\x67\xc8", b"\x45\xa3", b"\x44\x87")
_ALBUM = 50                 # what a tag's target says that stands on the whole album


def _matroska(reader: Reader, start: int, end: int) -> tuple[list[Tag], float | None]:
    title: list[Tag] = []
    song: list[Tag] = []
    album: list[Tag] = []
    scale_ns, duration = 1_000_000, 0.0
    for name, a, b in elements(reader, start, end):
        if name == b"\x15\x49\xa9\x66":                 # Info
            for what, c, d in elements(reader, a, b):
                if what == b"\x7b\xa9":
                    title.append(("TITLE", [_content(reader, c, d)]))
                elif what == b"\x2a\xd7\xb1":
                    scale_ns = int.from_bytes(reader.at(c, min(d - c, 8)), "big")
                elif what == b"\x44\x89" and d - c in (4, 8):
                    duration, = struct.unpack(">f" if d - c == 4 else ">d", reader.at(c, d - c))
        elif name == b"\x12\x54\xc3\x67":               # Tags
            for what, c, d in elements(reader, a, b):
                if what == _TAG:
                    of_album, tags = _matroska_tag(reader, c, d)
                    (album if of_album else song).extend(tags)
    of_album = {"ARTIST": "ALBUMARTIST", "TITLE": "ALBUM"}
    has_song = any(name in ("TITLE", "ARTIST") for name, _ in song)
    renamed = [(of_album.get(name, name) if has_song or name == "TITLE" else name, texts)
               for name, texts in album]
    return song + title + renamed, duration * scale_ns / 1e9 or None


def _matroska_tag(reader: Reader, start: int, end: int) -> tuple[bool, list[Tag]]:
    """Whether it is the album's, and its texts."""
    of_album, tags = False, list[Tag]()
    for name, a, b in elements(reader, start, end):
        if name == _TARGETS:
            of_album = any(what == _TARGET and int.from_bytes(reader.at(c, min(d - c, 8)), "big") == _ALBUM
                           for what, c, d in elements(reader, a, b))
        elif name == _SIMPLE:
            parts = {what: _content(reader, c, d) for what, c, d in elements(reader, a, b)}
            if _TAG_NAME in parts and _TAG_TEXT in parts:
                tags.append((_name(parts[_TAG_NAME].decode("utf-8", "replace")), [parts[_TAG_TEXT]]))
    return of_album, tags
