"""A folder of one's own music: audio files, and what their tags, a `catalogue.csv` and their paths tell."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from simsong.files import tags as files
from simsong.files.places import AUDIO_SUFFIXES
from simsong.progress import track
from simsong.records import Rejected, Rows
from simsong.sources.base import (
    File,
    RowBatches,
    Tree,
    artist_id_of,
    derived_id,
    digest,
    file_fingerprint,
    is_lost,
    lyrics_fingerprint,
    normalised,
    positive,
    text,
    year_of,
)
from simsong.sources.table import Record, csv_lines

CATALOGUE = "catalogue.csv"
UNKNOWN_ARTIST = "Unknown artist"

_GENRES = re.compile(r"[;,]| / ")
_NOBODY = frozenset(("various artists", "various", "va", "v.a."))      # what compilations are by
_TRACK_NUMBER = re.compile(r"\d{1,3}(?:\s+-\s+|\.\s+|_)(?=\S)|0\d[\s-]+(?=\S)")


@dataclass(frozen=True)
class EntryTags:
    artist: str | None = None
    title: str | None = None
    release: str | None = None
    genres: tuple[str, ...] = ()
    year: int | None = None
    duration_s: float | None = None
    lyrics: tuple[files.Text, ...] = ()


class Folder:
    name: ClassVar[str] = "folder"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.tree = Tree(Path(path).absolute(), AUDIO_SUFFIXES, "audio files")
        self.left_out: Counter[str] = Counter()     # in the last `read`: "years" of its catalogue not usable

    def fingerprint(self) -> str:
        def lines() -> Iterator[str]:
            yield str(self.tree.root)               # a part of the songs' URLs
            yield str(file_fingerprint(self.tree.root / CATALOGUE))
            for file in self.tree.files():
                yield f"{file.relative}\0{file.fingerprint}\0{lyrics_fingerprint(file.path)}\0{file.problem}"
        return digest(lines())

    def read(self) -> Iterator[Rows | Rejected]:
        catalogue = _catalogue(self.tree.root)
        batches = RowBatches(self.name)
        self.left_out.clear()
        for file in track(self.tree.files(), "reading the folder", self.tree.count(), "files"):
            relative = unicodedata.normalize("NFC", file.relative)
            track_id = derived_id("FL", Path(file.path).as_uri())       # of its place, until `files.identify`
            if file.problem:
                yield Rejected(track_id, "malformed", f"{file.shown}: {file.problem}")
            else:
                listed = catalogue.get(relative, {})
                _add(batches, track_id, file, read_tags(file.path), listed)
                self.left_out["years"] += is_lost(listed.get("year"), year_of(listed.get("year")))
            yield from batches.full()
        yield from batches.rest()


def _add(batches: RowBatches, track_id: str, file: File, tags: EntryTags, listed: Record) -> None:
    """The catalogue's word counts most, then the tags', then the path's."""
    path_artist, path_title, path_release = names_of(file.relative)
    artist = text(listed.get("artist")) or tags.artist or path_artist
    title = text(listed.get("title")) or without_artist(tags.title or path_title, artist)
    batches.track(
        track_id=track_id, artist=artist or UNKNOWN_ARTIST, title=title,
        # Songs by unknown artists are not all by the same one.
        artist_id=artist_id_of(artist) if artist else artist_id_of(track_id),
        release=text(listed.get("release")) or tags.release or path_release,
        year=year_of(listed.get("year")) or tags.year, duration_s=tags.duration_s,
        url=Path(file.path).as_uri(), fingerprint=file.fingerprint,
        lyrics_fingerprint=lyrics_fingerprint(file.path, tags.lyrics))
    if genre := text(listed.get("genre")):
        batches.add("genres", track_id=track_id, name=genre, weight=1.0, source=CATALOGUE)
    else:
        for genre in tags.genres:
            batches.add("genres", track_id=track_id, name=genre, weight=1.0, source="tag")


def _catalogue(root: Path) -> Mapping[str, Record]:
    """The folder's own catalogue, by path. Raises: CatalogueError where it is damaged."""
    path = root / CATALOGUE
    if not path.is_file():
        return {}
    return {unicodedata.normalize("NFC", record["file"].strip()): record
            for _, record in csv_lines(path, ("file",)) if isinstance(record, dict) and record["file"]}


def names_of(relative: str) -> tuple[str | None, str, str | None]:
    """Artist, title and release, from `artist/title`, `artist/release/title` or `artist - title`; a track
    number before the title is left out."""
    path = PurePosixPath(relative)
    stem = text(path.stem) or text(path.name) or "untitled"
    title = _TRACK_NUMBER.sub("", stem, count=1) if _TRACK_NUMBER.match(stem) else stem
    if len(path.parts) == 1:
        artist, _, rest = (part.strip() for part in title.partition(" - "))
        return (artist, rest, None) if artist and rest else (None, title, None)
    if len(path.parts) == 2:
        artist, release = text(path.parts[0]), None
    else:
        artist, release = text(path.parts[-3]), text(path.parts[-2])
    return artist, without_artist(title, artist), release


def without_artist(title: str, artist: str | None) -> str:
    """Of "Artist - Title" by Artist, "Title"."""
    before, _, rest = title.partition(" - ")
    return rest.strip() if artist and rest.strip() and normalised(before) == normalised(artist) else title


def read_tags(path: str) -> EntryTags:
    """What the file says of itself."""
    tags = files.read_tags(path)

    def first(name: str) -> str | None:
        return next((clean for value in tags.values.get(name, ()) if (clean := text(value))), None)

    album_artist = first("album_artist")
    if album_artist and normalised(album_artist) in _NOBODY:
        album_artist = None
    genres = (text(part) for value in tags.values.get("genre", ()) for part in _GENRES.split(value))
    return EntryTags(first("artist") or album_artist, first("title"), first("release"),
                     tuple(dict.fromkeys(filter(None, genres))), year_of(first("year")),
                     positive(tags.duration_s), tags.lyrics)
