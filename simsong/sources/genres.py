"""Genres of the Million Song Dataset's tracks: tagtraum's .cls files, and LabROSA's msd_genre_dataset.txt.

tagtraum (Schreiber, ISMIR 2015): `#` comments, then `track id <tab> majority genre [<tab> minority genre]`.
LabROSA: `#` comments, `%` and the names of the columns, then comma-separated values, a line a track.
Both come plain, or as the only file of a .zip.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import TRACK_ID, RowBatches, Source, derived_id, text
from simsong.sources.textfile import TextFile

EXPECTED = "tagtraum's .cls or msd_genre_dataset.txt"
WEIGHTS = (1.0, 0.5)                    # of the majority's genre, and the minority's
COLUMNS = ("track_id", "genre")

Line = tuple[str, list[str]]            # a track and its genres, the majority's first


class GenreLineMalformed(Exception):
    """A line names no genre of a track; `str` says why."""


@dataclass(frozen=True)
class Genres:
    """A file of genres. A track that comes on several lines is given as often."""

    file: TextFile
    source: str                         # of the rows: who says so
    parse: Callable[[str], Line]        # raises: Malformed
    header: bytes | None = None         # a line to pass over, beside comments
    name: ClassVar[str] = "genres"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        batches, empty = RowBatches(self.name), True
        with meter("reading genres", None, "tracks") as progress:
            for number, line in self.file.lines():
                if line.startswith(b"#") or line == self.header or not line.strip():
                    continue
                try:
                    track_id, genres = _checked(self.parse(line.decode("utf-8", "replace")))
                except GenreLineMalformed as error:
                    at = f"{text(self.file.name)}:{number}"
                    yield Rejected(derived_id("GN", at), "malformed", f"{at}: {error}")
                    continue
                empty = False
                batches.extend("genres", track_id=[track_id] * len(genres), name=genres,
                               weight=[*WEIGHTS[:len(genres)]], source=[self.source] * len(genres))
                progress.step()
                yield from batches.full()
        yield from batches.rest()
        if empty:
            raise CatalogueError(f"{self.file.path}: names no track's genre; {EXPECTED} was expected")


def open_genres(path: str) -> Source:
    """The genres in a file, in either form. Raises: CatalogueError where it has neither."""
    file = TextFile(path, EXPECTED)
    for number, line in file.head():
        if line.startswith(b"#") or not line.strip():
            continue
        said = line.decode("utf-8", "replace")
        names = [name.strip().lower() for name in said.removeprefix("%").split(",")]
        if set(COLUMNS) <= set(names):
            return Genres(file, "msd_genre_dataset", partial(from_values, names), line)
        if "\t" in said and TRACK_ID.fullmatch(said.partition("\t")[0]):
            return Genres(file, source_of(file.name), from_tabs)
        raise CatalogueError(f"{path}:{number}: {text(said[:60])!r} names no track's genre; {EXPECTED} was "
                             "expected")
    raise CatalogueError(f"{path}: empty but for comments; {EXPECTED} was expected")


def source_of(name: str) -> str:
    """Who a .cls file's genres are by: its name in lower case without "msd_" and suffixes (tagtraum_cd2c)."""
    words = re.findall(r"[a-z0-9]+", name.lower().removesuffix(".txt").removesuffix(".cls"))
    return "_".join(words).removeprefix("msd_") or "tagtraum"


def from_tabs(line: str) -> Line:
    track_id, *genres = line.split("\t")
    if not 1 <= len(genres) <= len(WEIGHTS):
        raise GenreLineMalformed(f"{len(genres)} genres; one or two, majority and minority, were expected")
    return track_id, genres


def from_values(names: list[str], line: str) -> Line:
    """Of the columns `names`. Names and titles hold quotes as they are, and no commas; or they are quoted."""
    values = line.split(",")
    if len(values) != len(names) and '"' in line:
        try:
            values = next(csv.reader([line]))
        except csv.Error as error:
            raise GenreLineMalformed(f"not readable as CSV ({error})") from None
    if len(values) != len(names):
        raise GenreLineMalformed(f"{len(values)} values, but there are {len(names)} columns")
    track_id, genre = (values[names.index(name)] for name in COLUMNS)
    return track_id, [genre]


def _checked(line: Line) -> Line:
    """A usable id and clean names, each once."""
    track_id, genres = line[0].strip(), [_clean(genre) for genre in line[1]]
    if not TRACK_ID.fullmatch(track_id):
        raise GenreLineMalformed(f"{ascii(track_id)[:60]} is no track id")
    if genres[0] is None:
        raise GenreLineMalformed(f"no genre of {track_id}")
    return track_id, [*dict.fromkeys(filter(None, genres))]


@lru_cache(maxsize=1024)
def _clean(genre: str) -> str | None:
    return text(genre)
