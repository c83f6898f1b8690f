"""Playlists as files: M3U8, JSPF, JSON. Names from outside cannot break a line, nor lead a player astray."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

from simsong.errors import FileMissing, QueryError
from simsong.files.places import local_path

SUFFIXES = {"m3u8": (".m3u8", ".m3u"), "jspf": (".jspf",), "json": (".json",)}
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://", re.ASCII)
MOST_BYTES, MOST_ENTRIES = 16 * 2**20, 100_000      # of a playlist that is read


@dataclass(frozen=True)
class Entry:
    """A song of a playlist.

    Attributes:
        location: a local path, or an address; None where neither is known.
    """

    location: str | None
    artist: str | None = None
    title: str | None = None
    album: str | None = None
    duration_s: float | None = None
    track_id: str | None = None

    @property
    def name(self) -> str:
        return " - ".join(filter(None, (self.artist, self.title)))


def form_of(path: Path) -> str:
    """By its suffix. Raises: QueryError."""
    for form, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return form
    raise QueryError(f"{path}: a playlist's name ends in .m3u8, .jspf or .json")


def written(entries: Sequence[Entry], form: str, folder: Path, title: str = "SimSong") -> str:
    """The text of a playlist in `folder`: local files are named from there. Songs without a location are left
    out of an M3U, which has nothing but locations."""
    if form == "m3u8":
        return _m3u(entries, folder, title)
    if form == "jspf":
        tracks = [_jspf(entry, folder) for entry in entries]
        document: Any = {"playlist": {"title": _clean(title), "track": tracks}}
    else:
        document = [_filled({"track_id": entry.track_id, "artist": entry.artist, "title": entry.title,
                             "album": entry.album, "duration_s": entry.duration_s,
                             "location": _relative(entry.location, folder)}) for entry in entries]
    # Names of files that are no Unicode have lone surrogates, which UTF-8 has not: escaped they can be kept.
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return (text if _is_unicode(text) else json.dumps(document, indent=1)) + "\n"


def read_m3u(path: Path) -> list[Entry]:
    """The entries of an M3U; relative ones are of the folder that it lies in.

    Raises: FileMissing; QueryError for what is no M3U, or too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise QueryError(f"{path}: is too large for a playlist")
        data = path.read_bytes()
    except OSError as error:
        raise FileMissing(str(path), f"cannot be read ({error.strerror or error})") from None
    if b"\0" in data:
        raise QueryError(f"{path}: is no playlist")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")           # what .m3u is where it is not UTF-8
    entries, name, duration_s = list[Entry](), "", None
    for line in map(str.strip, text.replace("\r", "\n").split("\n")):
        if line.upper().startswith("#EXTINF:"):
            head, _, name = line[8:].partition(",")
            duration_s = _number(head.split()[0] if head.split() else "")
        elif line and not line.startswith("#"):
            artist, dash, title = name.partition(" - ")
            entries.append(Entry(_place(line, path.parent), artist.strip() if dash else None,
                                 (title if dash else name).strip() or None, None, duration_s))
            name, duration_s = "", None
        if len(entries) > MOST_ENTRIES:
            raise QueryError(f"{path}: has over {MOST_ENTRIES:,} entries")
    return entries


def _jspf(entry: Entry, folder: Path) -> dict[str, Any]:
    own = f"urn:simsong:{quote(entry.track_id, safe='')}" if entry.track_id else None
    return _filled({"location": [_uri(entry.location, folder)] if entry.location else None,
                    "identifier": [own] if own else None, "title": _clean(entry.title),
                    "creator": _clean(entry.artist), "album": _clean(entry.album),
                    "duration": entry.duration_s and round(entry.duration_s * 1000)})


def _m3u(entries: Sequence[Entry], folder: Path, title: str) -> str:
    lines = ["#EXTM3U", f"#PLAYLIST:{_clean(title)}"]
    for entry in entries:
        if entry.location is None:
            continue
        seconds = -1 if entry.duration_s is None else round(entry.duration_s)
        lines.append(f"#EXTINF:{seconds},{_clean(entry.name)}")
        lines.append(_line(entry.location, folder))
    return "\n".join(lines) + "\n"


def _line(location: str, folder: Path) -> str:
    """What stands for it in an M3U. A name that a line cannot hold (line breaks, spaces at its ends, no
    Unicode) is given as a file:// URI."""
    if _is_address(location):
        return _uri(location, folder)
    relative = _relative(location, folder) or location
    if not relative.isprintable() or relative != relative.strip() or not _is_unicode(relative):
        return "file://" + quote_from_bytes(os.fsencode(Path(location).absolute()))
    # Not to be taken for a comment, nor for an address, nor for percent-encoded.
    return f"./{relative}" if relative.startswith("#") or ":" in relative.split("/")[0] else relative


def _uri(location: str, folder: Path) -> str:
    if _is_address(location):
        return "".join(c if c.isprintable() and c != " " and c.isascii() else quote(c) for c in location)
    relative = _relative(location, folder) or location
    prefix = "" if not relative.startswith("/") else "file://"
    return prefix + quote_from_bytes(os.fsencode(relative))


def _relative(location: str | None, folder: Path) -> str | None:
    """From the folder, where both are on one drive and not only the root is common."""
    if location is None or _is_address(location):
        return location
    path, base = os.path.abspath(location), os.path.abspath(folder)                    # noqa: PTH100
    try:
        if os.path.commonpath((path, base)) == os.path.sep:
            return path
        return os.path.relpath(path, base)
    except ValueError:
        return path


def _place(line: str, folder: Path) -> str:
    if line.lower().startswith("file:"):
        return local_path(line) or line
    if _is_address(line):
        return line
    windows = "\\" in line and "/" not in line
    return os.path.normpath(folder / (line.replace("\\", "/") if windows else line))


def _is_address(location: str) -> bool:
    return _ADDRESS.match(location) is not None


def _clean(text: str | None) -> str | None:
    """On one line, and nothing that a terminal or a player would obey."""
    return None if text is None else " ".join("".join(
        c if c.isprintable() and _is_unicode(c) else " " for c in text).split())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < 10**7 else None


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
