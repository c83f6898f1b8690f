"""The Million Song Dataset's text forms: lists of its tracks, their years, artists, and of wrong matches.

As distributed: `unique_tracks.txt`, 1,000,000 lines; `tracks_per_year.txt`, 515,576; `sid_mismatches.txt`,
19,094; `artist_similarity.csv` and `artist_term.csv` are what SQLite writes of the databases' tables. Which
one a file is, its first lines tell. Comments (from `#`) and empty lines are skipped in all.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported.)

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import text
from simsong.sources.columns import clean_column, year_column
from simsong.sources.msd.rows import Sieve
from simsong.sources.textfile import TextFile

EXPECTED = ("unique_tracks.txt, tracks_per_year.txt, sid_mismatches.txt, artist_similarity.csv or "
            "artist_term.csv")
HEAD_LINES = 20             # by which a file is recognised
LINE_BYTES = 10_000         # the longest real line has some 500
SEPARATOR = "<SEP>"
_CELL = r'(?:"(?P<quoted_{0}>(?:[^"]|"")*)"|(?P<plain_{0}>[^",]*))'
_TWO_CELLS = rf"^{_CELL.format(1)},{_CELL.format(2)}\s*$"

Columns = dict[str, pa.Array]


class _Lines:
    """A file with a record a line. Bytes that are no UTF-8 are replaced."""

    name: ClassVar[str] = "msd"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True
    table: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]           # columns without which a line is of no use
    form: ClassVar[str]                         # of a line, for messages
    known_by: ClassVar[re.Pattern[bytes]]       # how a line begins

    def __init__(self, file: TextFile, heading: re.Match[bytes]) -> None:
        """known: the line by which it was recognised."""
        self.file, self.known = file, heading

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def columns(self, lines: pa.Array) -> Columns:
        """(n,) lines, as bytes, to columns of that length; null where a line has not that form."""
        raise NotImplementedError

    def read(self) -> Iterator[Rows | Rejected]:
        sieve = Sieve(self.name, self.table, self.needed, self.form)
        with meter(f"reading {text(self.file.name)}", unit="lines") as progress:
            for first, block in self.file.blocks():
                lines = pa.array(block[:-1].split(b"\n"), pa.binary())
                said = pc.match_substring_regex(lines, r"^\s*[^#\s]")
                numbers = first + np.flatnonzero(said.to_numpy(zero_copy_only=False))
                records = lines.filter(said)
                too_long = pc.greater(pc.binary_length(records), LINE_BYTES)

                def at(row: int, numbers: np.ndarray = numbers) -> str:
                    return f"{self.file.name}:{numbers[row]}"
                yield from sieve.rows(self.columns(_null_where(too_long, records)), at)
                progress.step(len(lines))


class UniqueTracks(_Lines):
    """`unique_tracks.txt`, or a copy with `;` between the fields; a title may hold what is between fields.

    The file has every track once. One that came twice would be given twice.
    """

    rank: ClassVar[int] = 4
    annotates: ClassVar[bool] = False
    table, needed = "tracks", ("track_id",)
    form = "track<SEP>song<SEP>artist<SEP>title"
    known_by = re.compile(rb"TR[A-Z]{5}[0-9A-F]{11}(<SEP>|;)SO[0-9A-Z]{16}\1")

    def columns(self, lines: pa.Array) -> Columns:
        names = ("track_id", "song_id", "artist", "title")
        return _cleaned(names, _fields(lines, self.known[1].decode()))


class TracksPerYear(_Lines):
    """`tracks_per_year.txt`."""

    rank: ClassVar[int] = 5
    table, needed = "tracks", ("track_id", "year")
    form = "year<SEP>track<SEP>artist<SEP>title"
    known_by = re.compile(rb"\d{4}<SEP>TR[A-Z]{5}[0-9A-F]{11}<SEP>")

    def columns(self, lines: pa.Array) -> Columns:
        year, *rest = _fields(lines, SEPARATOR)
        return {"year": year_column(year), **_cleaned(("track_id", "artist", "title"), rest)}


class Mismatches(_Lines):
    """`sid_mismatches.txt`: pairs of track and song that were found later to be different songs."""

    table, needed = "mismatches", ("track_id", "song_id")
    form = "ERROR: <song track> artist  -  title  !=  artist  -  title"
    known_by = re.compile(rb"ERROR: <SO[0-9A-Z]{16} TR[0-9A-Z]{16}>")

    def columns(self, lines: pa.Array) -> Columns:
        matches = pc.extract_regex(lines, r"^ERROR: <(?P<song_id>[^<> ]+) (?P<track_id>[^<> ]+)>")
        return _cleaned(("song_id", "track_id"), matches.flatten())


class ArtistSimilarity(_Lines):
    """`artist_similarity.csv`: an artist's similar ones stand from the most similar on."""

    table, needed = "artist_similars", ("artist_id", "similar_id")
    form = "artist,artist"
    known_by = re.compile(rb'"?AR[0-9A-Z]{16}"?,"?AR[0-9A-Z]{16}"?\s*$')

    def columns(self, lines: pa.Array) -> Columns:
        return _cleaned(("artist_id", "similar_id"), _cells(lines))


class ArtistTerms(_Lines):
    """`artist_term.csv`: an artist's terms, without the weights, which only the HDF5 files have."""

    table, needed = "artist_terms", ("artist_id", "name")
    form = "artist,term"
    known_by = re.compile(rb'"?AR[0-9A-Z]{16}"?,("[^"]|[^",\s])')

    def columns(self, lines: pa.Array) -> Columns:
        return _cleaned(("artist_id", "name"), _cells(lines))


FORMS = (UniqueTracks, TracksPerYear, Mismatches, ArtistSimilarity, ArtistTerms)


def is_list(path: str) -> bool:
    """Whether a file is one of these."""
    try:
        open_text(path)
    except CatalogueError:
        return False
    return True


def open_text(path: str) -> _Lines:
    """The list in a file; what it is, the first of its first lines tells that is of one of the forms.

    Raises: CatalogueError where there is none.
    """
    file = TextFile(path, EXPECTED)
    for _, line in islice(((number, line) for number, line in file.head() if line.strip()), HEAD_LINES):
        for form in FORMS:
            if heading := form.known_by.match(line):
                return form(file, heading)
    raise CatalogueError(f"{path}: its first lines are of no such list; {EXPECTED} was expected")


def _fields(lines: pa.Array, separator: str) -> list[pa.Array]:
    """Four columns; the last one takes what is left of its line. Null where there are fewer."""
    parts = pc.split_pattern(lines, separator, max_splits=3)
    fewer = pc.not_equal(pc.list_value_length(parts), 4).fill_null(True)
    return [pc.list_element(_null_where(fewer, parts), at) for at in range(4)]


def _cells(lines: pa.Array) -> list[pa.Array]:
    """The two columns of comma-separated values, as SQLite writes them: quoted where there is a space."""
    quoted_1, plain_1, quoted_2, plain_2 = pc.extract_regex(lines, _TWO_CELLS).flatten()
    # What did not take part in the match is empty.
    return [pc.if_else(pc.greater(pc.binary_length(plain), 0), plain, pc.replace_substring(quoted, '""', '"'))
            for quoted, plain in ((quoted_1, plain_1), (quoted_2, plain_2))]


def _cleaned(names: Iterable[str], columns: Iterable[pa.Array]) -> Columns:
    return {name: clean_column(column) for name, column in zip(names, columns, strict=True)}


def _null_where(mask: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, pa.scalar(None, values.type), values)
